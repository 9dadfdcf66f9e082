//! API keys: shown once, kept as hashes, known in memory so that they are good while the database is away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wzp_control_core::policy::{Scope, Scopes};

use crate::{
    authority::hex,
    clock,
    random::{random, random_text},
    store::{ApiKeyRow, Store, StoreError},
};

const PREFIX: &str = "wzp";
/// A key that was made by another replica is asked for this often; one that was deleted there is good for as long.
const REFRESH: Duration = Duration::from_secs(5);

/// The keys of this cluster, as last read.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    rows: ArcSwap<HashMap<String, ApiKeyRow>>,
    read: Mutex<Instant>,
}

impl ApiKeys {
    /// Reads all keys. If there is none, one for everything is made and returned.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn open(store: &Store) -> Result<(Arc<Self>, Option<String>), StoreError> {
        let (key, row) = make("first", [Scope::Admin].into_iter().collect());
        let first = store.add_api_key(&row, true).await?.then_some(key);
        let keys = Self {
            rows: ArcSwap::default(),
            read: Mutex::new(Instant::now()),
        };
        keys.read(store).await?;
        Ok((Arc::new(keys), first))
    }

    /// Makes a key; it is shown now and never again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn add(
        &self,
        store: &Store,
        name: &str,
        scopes: Scopes,
    ) -> Result<(String, ApiKeyRow), StoreError> {
        let (key, row) = make(name, scopes);
        store.add_api_key(&row, false).await?;
        self.read(store).await?;
        Ok((key, row))
    }

    /// Forgets a key; `false`: there was none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn delete(&self, store: &Store, id: &str) -> Result<bool, StoreError> {
        let deleted = store.delete_api_key(id).await?;
        self.read(store).await?;
        Ok(deleted)
    }

    /// The key that somebody shows, if it is one.
    pub(crate) async fn find(&self, store: &Store, shown: &str) -> Option<ApiKeyRow> {
        let id = shown.strip_prefix(PREFIX)?.strip_prefix('_')?.split('_').next()?;
        if self.is_old() {
            // What is known goes on while the database is away.
            let _ = self.read(store).await;
        }
        let row = self.rows.load().get(id)?.clone();
        bool::from(Sha256::digest(shown).as_slice().ct_eq(&row.hash)).then_some(row)
    }

    async fn read(&self, store: &Store) -> Result<(), StoreError> {
        let rows = store.api_keys().await?;
        self.rows.store(Arc::new(
            rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
        ));
        Ok(())
    }

    /// Whether it is time to read again; `true` once in that time.
    fn is_old(&self) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let old = read.elapsed() > REFRESH;
        if old {
            *read = Instant::now();
        }
        old
    }
}

/// `wzp_<id>_<secret>`: the id is no secret, and names the key in lists and logs.
fn make(name: &str, scopes: Scopes) -> (String, ApiKeyRow) {
    let id = hex(&random::<4>());
    let key = format!("{PREFIX}_{id}_{}", random_text::<24>());
    let row = ApiKeyRow {
        id,
        name: name.to_owned(),
        hash: Sha256::digest(&key).to_vec(),
        scopes,
        made_at: clock::unix_seconds(),
    };
    (key, row)
}
