//! What a relay of a cluster shows others, and whom it believes: its certificate, and the cluster's authorities.
//!
//! Keys are made in memory and never leave it. A new certificate is announced for a while before it is shown, and the
//! one it replaces for as long afterwards, because clients and peers know relays by the hashes of their certificates.

mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::{CertificateError, Error, crypto::ring, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use wzp_wire::RelayId;

use crate::{cert::Certificate, config::Fingerprint};
pub(crate) use tls::{control_client, peer_client, server};

/// Certificates and authorities, as TLS sees them at any moment.
#[derive(Debug)]
pub(crate) struct Keys {
    shown: ArcSwap<Shown>,
    announced: Mutex<Vec<[u8; 32]>>,
    trust: ArcSwap<Trust>,
}

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Shown {
    certified: Arc<CertifiedKey>,
    hash: [u8; 32],
    /// The cluster's authority has signed it.
    is_enrolled: bool,
}

/// Who vouches for others.
#[derive(Debug)]
enum Trust {
    /// Whoever the join token names.
    Pinned(Fingerprint),
    /// Whom the control plane has named.
    Named {
        authorities: Vec<CertificateDer<'static>>,
        cluster: String,
    },
}

/// Whose certificate it is, in this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A relay.
    Relay(RelayId),
    /// Anything else: the control plane.
    Other,
}

impl Keys {
    /// Until the relay is enrolled, a certificate of its own making is shown.
    pub(crate) fn new(authority: Fingerprint, own: &Certificate) -> Result<Self, Error> {
        let shown = Shown::new(own.chain.clone(), &own.key, false)?;
        Ok(Self {
            announced: Mutex::new(Vec::new()),
            shown: ArcSwap::from_pointee(shown),
            trust: ArcSwap::from_pointee(Trust::Pinned(authority)),
        })
    }

    /// Has others told of `next`, beside what is shown now.
    pub(crate) fn announce(&self, next: &Shown) {
        let shown = self.shown.load();
        let mut announced = vec![next.hash];
        if shown.is_enrolled {
            announced.push(shown.hash);
        }
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = announced;
    }

    /// Shows `next` from now on.
    pub(crate) fn show(&self, next: Shown) {
        self.announce(&next);
        self.shown.store(Arc::new(next));
    }

    /// What was shown before is forgotten.
    pub(crate) fn forget_old(&self) {
        let hash = self.shown.load().hash;
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = vec![hash];
    }

    /// The hash of every certificate that clients may see now.
    pub(crate) fn announced(&self) -> Vec<[u8; 32]> {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.clone()
    }

    /// Whether there is a certificate of the cluster.
    pub(crate) fn is_enrolled(&self) -> bool {
        self.shown.load().is_enrolled
    }

    /// Believes these authorities, and nobody else; none is no change.
    pub(crate) fn believe(&self, authorities: Vec<CertificateDer<'static>>, cluster: Option<String>) {
        if authorities.is_empty() {
            return;
        }
        let known = match &**self.trust.load() {
            Trust::Pinned(_) => String::new(),
            Trust::Named { cluster, .. } => cluster.clone(),
        };
        let cluster = cluster.unwrap_or(known);
        self.trust.store(Arc::new(Trust::Named { authorities, cluster }));
    }

    /// The relay whose certificate is the first of `chain`.
    pub(crate) fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Option<RelayId> {
        let (first, others) = chain.split_first()?;
        match self.verify(first, others, KeyUsage::client_auth(), UnixTime::now()) {
            Ok(Holder::Relay(relay)) => Some(relay),
            Ok(Holder::Other) | Err(_) => None,
        }
    }

    /// Whose certificate it is.
    ///
    /// # Errors
    /// No authority that is believed vouches for it now and for this use.
    pub(crate) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Holder, Error> {
        let unknown = || Error::from(CertificateError::UnknownIssuer);
        let bad = |_| Error::from(CertificateError::BadEncoding);
        let trust = self.trust.load();
        let (roots, cluster): (Vec<&CertificateDer<'_>>, _) = match &**trust {
            Trust::Pinned(pin) => {
                let pinned = others.iter().filter(|other| Fingerprint::of(other) == *pin);
                (pinned.collect(), None)
            }
            Trust::Named { authorities, cluster } => (authorities.iter().collect(), Some(cluster)),
        };
        let anchors: Result<Vec<_>, _> = roots
            .iter()
            .map(|root| webpki::anchor_from_trusted_cert(root))
            .collect();
        let anchors = anchors.map_err(bad)?;
        if anchors.is_empty() {
            return Err(unknown());
        }
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let leaf = EndEntityCert::try_from(certificate).map_err(bad)?;
        let verified = leaf.verify_for_usage(algorithms.all, &anchors, others, now, usage, None, None);
        verified.map_err(|error| match error {
            webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
            webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
            _ => unknown(),
        })?;
        let relay = leaf.valid_uri_names().find_map(|name| relay_of(name, cluster));
        Ok(relay.map_or(Holder::Other, Holder::Relay))
    }
}

impl Shown {
    /// `chain` with its key, which the cluster's authority has signed.
    pub(crate) fn enrolled(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        Self::new(chain, key, true)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        is_enrolled: bool,
    ) -> Result<Self, Error> {
        let Fingerprint(hash) = Fingerprint::of(chain.first().ok_or(Error::NoCertificatesPresented)?);
        let certified = CertifiedKey::new(chain, ring::sign::any_supported_type(key)?);
        certified.keys_match().or_else(|error| match error {
            Error::InconsistentKeys(rustls::InconsistentKeys::Unknown) => Ok(()),
            error => Err(error),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            hash,
            is_enrolled,
        })
    }
}

/// `spiffe://<cluster>/relay/<id>`.
fn relay_of(name: &str, cluster: Option<&String>) -> Option<RelayId> {
    let (of, rest) = name.strip_prefix("spiffe://")?.split_once('/')?;
    let ours = cluster.is_none_or(|cluster| cluster.is_empty() || cluster == of);
    RelayId::parse(rest.strip_prefix("relay/").filter(|_| ours)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_relays_are_those_of_this_cluster() {
        let ours = "home".to_owned();
        let of = |name: &str| relay_of(name, Some(&ours)).map(|id| id.to_string());
        assert_eq!(of("spiffe://home/relay/r-1"), Some("r-1".to_owned()));
        for other in [
            "spiffe://away/relay/r-1",
            "spiffe://home/control",
            "https://home/relay/r",
            "spiffe://home/relay/a/b",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
