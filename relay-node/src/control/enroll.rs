//! The relay's certificate: asked for with the join token, renewed with itself.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use tokio::time;
use tracing::{info, warn};
use wzp_proto::control::{EnrollRequest, EnrollResponse, relay_control_client::RelayControlClient};
use wzp_relay_core::backoff::Backoff;

use super::dial::{Dial, DialError, Line};
use crate::{
    bulletin::News,
    cert::{CertificateError, Request},
    cluster::Cluster,
    keys::Shown,
    random::SystemRng,
    relay::Shared,
    session::unix_now,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A new certificate is announced so long before it is shown, and the old one after that.
const ANNOUNCED: Duration = Duration::from_secs(60);

/// When a certificate was had, and until when it is good, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    since: u64,
    until: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum EnrollError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Make(#[from] CertificateError),
    #[error("refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error("no answer within 10 s")]
    Timeout,
    #[error("the answer holds no certificate for our key")]
    Answer(#[from] rustls::Error),
    #[error("the name of the control plane has no address")]
    NoAddress,
}

/// Gets the first certificate, however long that takes.
pub(super) async fn first(relay: &Shared, cluster: &Cluster, dial: &Dial) -> Validity {
    let mut backoff = Backoff::default();
    loop {
        match anywhere(relay, cluster, dial).await {
            Ok((shown, validity)) => {
                cluster.keys.show(shown);
                info!(relay = %cluster.id(), "enrolled");
                return validity;
            }
            Err(error) => warn!(%error, control = %cluster.config.control, "cannot enroll"),
        }
        time::sleep(backoff.next(&mut SystemRng)).await;
    }
}

/// Renews the certificate when half of its life is over, for ever.
pub(super) async fn keep_renewing(
    relay: Arc<Shared>,
    cluster: Arc<Cluster>,
    dial: Arc<Dial>,
    mut validity: Validity,
) {
    loop {
        let life = validity.until.saturating_sub(validity.since);
        let half = validity.since + life / 2;
        while unix_now() < half {
            relay
                .metrics
                .certificate_expires_in(validity.until.saturating_sub(unix_now()));
            time::sleep(Duration::from_secs(half.saturating_sub(unix_now()).clamp(1, 60))).await;
        }
        let mut backoff = Backoff::default();
        let (next, until) = loop {
            match anywhere(&relay, &cluster, &dial).await {
                Ok(next) => break next,
                Err(error) => warn!(%error, "cannot renew the certificate"),
            }
            // Nobody is in a hurry: half of its life is left.
            time::sleep(backoff.next(&mut SystemRng) * 4).await;
        };
        validity = until;
        let announced = ANNOUNCED.min(Duration::from_secs(life) / 8);
        cluster.keys.announce(&next);
        cluster.bulletin.news(&News::Reintroduce);
        time::sleep(announced).await;
        cluster.keys.show(next);
        info!("the certificate was renewed");
        time::sleep(announced).await;
        cluster.keys.forget_old();
        cluster.bulletin.news(&News::Reintroduce);
    }
}

/// From whichever replica answers.
async fn anywhere(relay: &Shared, cluster: &Cluster, dial: &Dial) -> Result<(Shown, Validity), EnrollError> {
    let addresses = dial.addresses().await.map_err(|_| EnrollError::NoAddress)?;
    let mut last = EnrollError::NoAddress;
    for address in addresses {
        let line = match dial.connect(address).await {
            Ok(line) => line,
            Err(error) => {
                last = error.into();
                continue;
            }
        };
        match time::timeout(ANSWER_WITHIN, enroll(relay, cluster, line)).await {
            Ok(Ok(enrolled)) => return Ok(enrolled),
            Ok(Err(error)) => last = error,
            Err(_) => last = EnrollError::Timeout,
        }
    }
    Err(last)
}

async fn enroll(relay: &Shared, cluster: &Cluster, line: Line) -> Result<(Shown, Validity), EnrollError> {
    let request = Request::make()?;
    let since = unix_now();
    let secret = match cluster.keys.is_enrolled() {
        true => String::new(),
        false => cluster.config.token.secret.clone(),
    };
    let asked = EnrollRequest {
        join_secret: secret,
        relay_id: cluster.id().to_string(),
        csr: request.csr,
        boot_id: relay.boot_id.into(),
        unix_ms: since.saturating_mul(1_000),
    };
    let answer = RelayControlClient::new(line.channel).enroll(asked).await?;
    let EnrollResponse {
        chain,
        authorities,
        not_after_unix,
        cluster: name,
    } = answer.into_inner();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let shown = Shown::enrolled(chain, &request.key)?;
    let authorities = authorities.into_iter().map(CertificateDer::from).collect();
    cluster.keys.believe(authorities, Some(name));
    let until = not_after_unix.max(since);
    Ok((shown, Validity { since, until }))
}
