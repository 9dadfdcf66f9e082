//! Certificates for relays: with the join token, or in exchange for the one they have.

use tonic::{Code, Status};
use wzp_control_core::BootId;
use wzp_proto::control::{EnrollRequest, EnrollResponse};
use wzp_wire::RelayId;

use super::{
    Caller,
    events::{self, Malformed},
};
use crate::{
    authority::{EnrollError, Issued},
    clock,
    plane::Plane,
    store::StoreError,
};

/// A relay whose clock is off by more would hold every grant for expired, or for good.
const CLOCK_MS: u64 = 300_000;

/// Why a relay gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the join token is wrong")]
    Token,
    #[error("neither a join token nor a certificate was shown")]
    Nothing,
    #[error("the certificate is that of relay {0}")]
    OtherId(RelayId),
    #[error("the certificate names no relay of this cluster")]
    NoRelay,
    #[error("another process is attached as relay {0}")]
    Taken(RelayId),
    #[error("the key is in use by another relay")]
    Key,
    #[error("the clock of the relay is off by {0} ms")]
    Clock(i64),
    #[error(transparent)]
    Certificate(#[from] EnrollError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// For a counter.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Certificate(_) => "malformed",
            Self::Token | Self::Nothing => "token",
            Self::OtherId(_) | Self::NoRelay => "certificate",
            Self::Taken(_) => "duplicate_id",
            Self::Key => "key",
            Self::Clock(_) => "clock",
            Self::Store(_) => "database",
        }
    }

    pub(super) fn status(&self) -> Status {
        let code = match self {
            Self::Malformed(_) | Self::Certificate(_) => Code::InvalidArgument,
            Self::Token | Self::Nothing => Code::Unauthenticated,
            Self::OtherId(_) | Self::NoRelay => Code::PermissionDenied,
            Self::Taken(_) | Self::Key => Code::AlreadyExists,
            Self::Clock(_) => Code::FailedPrecondition,
            Self::Store(_) => Code::Unavailable,
        };
        Status::new(code, self.to_string())
    }
}

pub(super) async fn enroll(
    plane: &Plane,
    caller: &Caller,
    request: EnrollRequest,
) -> Result<EnrollResponse, Refused> {
    let relay = events::relay(&request.relay_id)?;
    let boot = BootId(events::fixed(&request.boot_id, "boot_id")?);
    let (now, now_ms) = (clock::unix_seconds(), clock::unix_ms());
    may_enroll(plane, caller, &relay, &request.join_secret)?;
    if request.unix_ms.abs_diff(now_ms) > CLOCK_MS {
        let off = i128::from(request.unix_ms) - i128::from(now_ms);
        return Err(Refused::Clock(i64::try_from(off).unwrap_or(i64::MAX)));
    }
    if plane.is_taken(&relay, boot) {
        return Err(Refused::Taken(relay));
    }
    let Issued {
        chain,
        not_after,
        public_key,
    } = plane.authority.issue(&relay, &request.csr, now)?;
    if !plane
        .store
        .claim_relay_key(&public_key, relay.as_str(), not_after, now)
        .await?
    {
        return Err(Refused::Key);
    }
    let der = |certificates: &[rustls_pki_types::CertificateDer<'_>]| {
        certificates.iter().map(|der| der.to_vec()).collect()
    };
    Ok(EnrollResponse {
        chain: der(&chain),
        authorities: der(&plane.authority.trusted().authorities),
        not_after_unix: not_after,
        cluster: plane.authority.cluster().to_owned(),
    })
}

fn may_enroll(plane: &Plane, caller: &Caller, relay: &RelayId, secret: &str) -> Result<(), Refused> {
    if !secret.is_empty() {
        return if plane.authority.admits(secret) {
            Ok(())
        } else {
            Err(Refused::Token)
        };
    }
    let certificate = caller.certificate.as_ref().ok_or(Refused::Nothing)?;
    match plane.authority.relay_of(certificate) {
        Some(named) if named == *relay => Ok(()),
        Some(named) => Err(Refused::OtherId(named)),
        None => Err(Refused::NoRelay),
    }
}
