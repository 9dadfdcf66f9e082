//! API keys: only their hashes are here.

use wzp_control_core::policy::Scopes;

use super::{Store, StoreError, db::Row};

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKeyRow {
    /// The part of the key that is no secret.
    pub(crate) id: String,
    pub(crate) name: String,
    /// SHA-256 of the whole key, which has 192 random bits.
    pub(crate) hash: Vec<u8>,
    pub(crate) scopes: Scopes,
    pub(crate) made_at: u64,
}

impl ApiKeyRow {
    fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.text(0)?,
            name: row.text(1)?,
            hash: row.bytes(2)?,
            scopes: row.text(3)?.parse().map_err(decode)?,
            made_at: row.number(4)?,
        })
    }
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

impl Store {
    /// Every key.
    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKeyRow>, StoreError> {
        retried!(self, "api_keys", |db| {
            let select = "SELECT id, name, hash, scopes, made_at FROM api_keys ORDER BY made_at, id";
            db.rows(select, &[]).await?.iter().map(ApiKeyRow::of).collect()
        })
    }

    /// Keeps a new key. With `only_first`, only if there is none; `false`: there was one.
    pub(crate) async fn add_api_key(&self, key: &ApiKeyRow, only_first: bool) -> Result<bool, StoreError> {
        let scopes = key.scopes.to_string();
        retried!(self, "add_api_key", |db| {
            let mut tx = db.begin().await?;
            tx.lock(super::migrations::START_LOCK).await?;
            if only_first && tx.row("SELECT id FROM api_keys LIMIT 1", &[]).await?.is_some() {
                return Ok(false);
            }
            let insert = "INSERT INTO api_keys (id, name, hash, scopes, made_at) VALUES ($1, $2, $3, $4, $5)";
            let values = [
                key.id.as_str().into(),
                key.name.as_str().into(),
                key.hash.as_slice().into(),
                scopes.as_str().into(),
                key.made_at.into(),
            ];
            tx.write(insert, &values).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Forgets a key; `false`: there was none.
    pub(crate) async fn delete_api_key(&self, id: &str) -> Result<bool, StoreError> {
        retried!(self, "delete_api_key", |db| {
            Ok(db
                .write("DELETE FROM api_keys WHERE id = $1", &[id.into()])
                .await?
                > 0)
        })
    }
}
