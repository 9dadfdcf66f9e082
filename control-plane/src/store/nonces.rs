//! Nonces of joins that were signed by identities: each is good once.

use super::{Store, StoreError};

impl Store {
    /// Takes a nonce; `false`: it was taken before.
    pub(crate) async fn take_nonce(
        &self,
        identity: &[u8],
        nonce: &[u8],
        expires_at: u64,
        now: u64,
    ) -> Result<bool, StoreError> {
        retried!(self, "take_nonce", |db| {
            let mut tx = db.begin().await?;
            tx.write("DELETE FROM join_nonces WHERE expires_at < $1", &[now.into()])
                .await?;
            let insert = "INSERT INTO join_nonces (identity, nonce, expires_at) VALUES ($1, $2, $3) \
                          ON CONFLICT (identity, nonce) DO NOTHING";
            let taken = tx
                .write(insert, &[identity.into(), nonce.into(), expires_at.into()])
                .await?;
            tx.commit().await?;
            Ok(taken > 0)
        })
    }
}
