//! Signing keys of the cluster, and the keys of relays' certificates.

use super::{Store, StoreError, db::Row, migrations::START_LOCK};

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Certificates.
    Authority,
    /// Grants and the relay list.
    Grant,
}

/// A key of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) secret: Vec<u8>,
    /// The certificate of an authority, the public half of a grant key.
    pub(crate) public: Vec<u8>,
    pub(crate) made_at: u64,
    /// From when on it signs.
    pub(crate) active_at: u64,
}

impl KeyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Grant => "grant",
        }
    }
}

impl KeyRow {
    fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.text(0)?,
            secret: row.bytes(1)?,
            public: row.bytes(2)?,
            made_at: row.number(3)?,
            active_at: row.number(4)?,
        })
    }
}

impl Store {
    /// Keys of `kind`, the latest first. If there is none, `first` is it: of two replicas that start at once, one wins.
    pub(crate) async fn keys(&self, kind: KeyKind, first: &KeyRow) -> Result<Vec<KeyRow>, StoreError> {
        retried!(self, "keys", |db| {
            let mut tx = db.begin().await?;
            tx.lock(START_LOCK).await?;
            let mut found = list(&mut tx, kind).await?;
            if found.is_empty() {
                insert(&mut tx, kind, first).await?;
                found.push(first.clone());
            }
            tx.commit().await?;
            Ok(found)
        })
    }

    /// Adds a key; of the older ones only the latest stays.
    pub(crate) async fn rotate_key(&self, kind: KeyKind, next: &KeyRow) -> Result<Vec<KeyRow>, StoreError> {
        retried!(self, "rotate_key", |db| {
            let mut tx = db.begin().await?;
            tx.lock(START_LOCK).await?;
            insert(&mut tx, kind, next).await?;
            let mut found = list(&mut tx, kind).await?;
            for old in found.iter().skip(2) {
                let delete = "DELETE FROM signing_keys WHERE kind = $1 AND id = $2";
                tx.write(delete, &[kind.as_str().into(), old.id.as_str().into()])
                    .await?;
            }
            tx.commit().await?;
            found.truncate(2);
            Ok(found)
        })
    }

    /// Notes that `public` is the key of `relay` until then. `false`: it is that of another relay.
    pub(crate) async fn claim_relay_key(
        &self,
        public: &[u8],
        relay: &str,
        expires_at: u64,
        now: u64,
    ) -> Result<bool, StoreError> {
        retried!(self, "claim_relay_key", |db| {
            let mut tx = db.begin().await?;
            tx.write("DELETE FROM relay_keys WHERE expires_at < $1", &[now.into()])
                .await?;
            let claim = "INSERT INTO relay_keys (public, relay, expires_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (public) DO UPDATE SET expires_at = excluded.expires_at \
                         WHERE relay_keys.relay = excluded.relay";
            let touched = tx
                .write(claim, &[public.into(), relay.into(), expires_at.into()])
                .await?;
            tx.commit().await?;
            Ok(touched > 0)
        })
    }
}

async fn list(tx: &mut super::db::Tx, kind: KeyKind) -> Result<Vec<KeyRow>, sqlx::Error> {
    let select = "SELECT id, secret, public, made_at, active_at FROM signing_keys WHERE kind = $1 \
                  ORDER BY active_at DESC, made_at DESC, id";
    let rows = tx.rows(select, &[kind.as_str().into()]).await?;
    rows.iter().map(KeyRow::of).collect()
}

async fn insert(tx: &mut super::db::Tx, kind: KeyKind, key: &KeyRow) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO signing_keys (kind, id, secret, public, made_at, active_at) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    let values = [
        kind.as_str().into(),
        key.id.as_str().into(),
        key.secret.as_slice().into(),
        key.public.as_slice().into(),
        key.made_at.into(),
        key.active_at.into(),
    ];
    tx.write(insert, &values).await.map(drop)
}
