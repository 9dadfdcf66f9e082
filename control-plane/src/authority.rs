//! Who belongs to the cluster: its certificate authority, its grant keys and its join token.
//!
//! Two keys of each kind are believed at once. The newest signs, from a while after it was published; what this process
//! shows relays is signed by the oldest, so that a join token is good until the authority it names is gone.

mod certificates;
mod names;
mod tls;

pub(crate) use certificates::{EnrollError, Issued};
pub(crate) use tls::server_config;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wzp_identity::{GrantKey, GrantPublicKey};
use wzp_wire::RelayId;
use zeroize::Zeroizing;

use crate::{
    config::JoinSecret,
    random::{SystemRng, random_text},
    store::{KeyKind, KeyRow, Store, StoreError},
};
use certificates::Ca;

/// A new key is believed this long before it signs, so that every relay has heard of it.
const PUBLISH: Duration = Duration::from_secs(30);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a key in the database is damaged")]
    Damaged,
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("TLS refuses our own certificate")]
    Tls(#[from] rustls::Error),
    #[error("--cluster is {said}, and the database is that of cluster {kept}")]
    Cluster { said: String, kept: String },
}

/// The keys of this cluster.
pub(crate) struct Authority {
    cluster: String,
    join_secret: Zeroizing<String>,
    /// It was made at this very start.
    is_new: bool,
    keys: ArcSwap<Keys>,
}

/// All keys that are believed, the latest first.
struct Keys {
    authorities: Vec<Ca>,
    grants: Vec<(GrantKey, u64)>,
    generation: u64,
}

/// What relays are told to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trusted {
    pub(crate) grant_keys: Vec<GrantPublicKey>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Rises with every change.
    pub(crate) generation: u64,
}

impl Authority {
    /// Reads the keys of this cluster, and makes what is missing.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub(crate) async fn open(
        store: &Store,
        cluster: &str,
        secret: Option<&JoinSecret>,
        now: u64,
    ) -> Result<Self, AuthorityError> {
        let (kept, is_new) = store.setting("cluster", cluster).await?;
        if kept != cluster {
            let said = cluster.to_owned();
            return Err(AuthorityError::Cluster { said, kept });
        }
        let join_secret = match secret {
            Some(said) => said.secret.clone(),
            None => store.setting("join_secret", &random_text::<24>()).await?.0,
        };
        let keys = Keys::read(store, cluster, now).await?;
        Ok(Self {
            cluster: cluster.to_owned(),
            join_secret: join_secret.into(),
            is_new,
            keys: ArcSwap::from_pointee(keys),
        })
    }

    /// Reads the keys again, which another replica may have rotated. `true`: they have changed.
    pub(crate) async fn refresh(&self, store: &Store, now: u64) -> Result<bool, AuthorityError> {
        let keys = Keys::read(store, &self.cluster, now).await?;
        let changed = keys.generation != self.keys.load().generation;
        self.keys.store(Arc::new(keys));
        Ok(changed)
    }

    /// A new key of both kinds; of the old ones the latest is believed on.
    pub(crate) async fn rotate(&self, store: &Store, now: u64) -> Result<(), AuthorityError> {
        let (mut ca, mut grant) = (new_authority(&self.cluster, now)?, new_grant_key(now));
        for key in [&mut ca, &mut grant] {
            key.active_at = now + PUBLISH.as_secs();
        }
        store.rotate_key(KeyKind::Authority, &ca).await?;
        store.rotate_key(KeyKind::Grant, &grant).await?;
        self.refresh(store, now).await.map(drop)
    }

    /// What a relay is started with.
    pub(crate) fn join_token(&self) -> String {
        let keys = self.keys.load();
        let hash = keys.authorities.last().map(|ca| Sha256::digest(&ca.certificate));
        let hash = URL_SAFE_NO_PAD.encode(hash.unwrap_or_default());
        format!("wzp1.{hash}.{}", self.join_secret.as_str())
    }

    /// Whether this is the first start of the cluster, at which the join token is shown.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether a relay shows the right secret. Takes as long for a wrong one.
    pub(crate) fn admits(&self, secret: &str) -> bool {
        let [ours, theirs] = [self.join_secret.as_bytes(), secret.as_bytes()].map(Sha256::digest);
        ours.ct_eq(&theirs).into()
    }

    /// A certificate for `relay`, for the key that `csr` proves to be held.
    ///
    /// # Errors
    /// See [`EnrollError`].
    pub(crate) fn issue(&self, relay: &RelayId, csr: &[u8], now: u64) -> Result<Issued, EnrollError> {
        let keys = self.keys.load();
        let signer = keys.authorities.iter().find(|ca| ca.active_at <= now);
        let signer = signer
            .or_else(|| keys.authorities.last())
            .ok_or(EnrollError::NoAuthority)?;
        signer.issue(&self.cluster, relay, csr, now)
    }

    /// Whose relay's certificate this is, as far as its names go; that it was signed here is TLS's business.
    pub(crate) fn relay_of(&self, certificate: &CertificateDer<'_>) -> Option<RelayId> {
        names::relay_of(certificate, &self.cluster)
    }

    /// Signs grants and the relay list now.
    pub(crate) fn grant_key(&self, now: u64) -> Option<GrantKey> {
        let keys = self.keys.load();
        let active = keys.grants.iter().find(|(_, active_at)| *active_at <= now);
        active.or_else(|| keys.grants.last()).map(|(key, _)| key.clone())
    }

    /// What relays and clients believe.
    pub(crate) fn trusted(&self) -> Trusted {
        let keys = self.keys.load();
        Trusted {
            grant_keys: keys.grants.iter().map(|(key, _)| key.public().clone()).collect(),
            authorities: keys.authorities.iter().map(|ca| ca.certificate.clone()).collect(),
            generation: keys.generation,
        }
    }

    /// The name in certificates.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.cluster)
    }
}

impl Keys {
    async fn read(store: &Store, cluster: &str, now: u64) -> Result<Self, AuthorityError> {
        let authorities = store
            .keys(KeyKind::Authority, &new_authority(cluster, now)?)
            .await?;
        let grants = store.keys(KeyKind::Grant, &new_grant_key(now)).await?;
        let generation = authorities.iter().chain(&grants).map(|key| key.active_at).max();
        let authorities: Result<Vec<_>, _> = authorities.iter().map(Ca::of).collect();
        let grants: Option<Vec<_>> = grants
            .iter()
            .map(|row| Some((grant_key(row)?, row.active_at)))
            .collect();
        Ok(Self {
            authorities: authorities?,
            grants: grants.ok_or(AuthorityError::Damaged)?,
            generation: generation.unwrap_or_default(),
        })
    }
}

fn new_authority(cluster: &str, now: u64) -> Result<KeyRow, AuthorityError> {
    let (secret, certificate) = certificates::make_authority(cluster, now)?;
    Ok(KeyRow {
        id: hex(&Sha256::digest(&certificate)),
        secret,
        public: certificate,
        made_at: now,
        active_at: now,
    })
}

fn new_grant_key(now: u64) -> KeyRow {
    let mut seed = Zeroizing::new([0; 32]);
    rand_core::Rng::fill_bytes(&mut SystemRng, seed.as_mut());
    let key = GrantKey::from_seed(&seed);
    KeyRow {
        id: key.public().id().to_string(),
        secret: seed.to_vec(),
        public: key.public().to_bytes().to_vec(),
        made_at: now,
        active_at: now,
    }
}

fn grant_key(row: &KeyRow) -> Option<GrantKey> {
    let seed = row.secret.as_slice().try_into().ok()?;
    Some(GrantKey::from_seed(seed))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "authority/tests.rs"]
mod tests;
