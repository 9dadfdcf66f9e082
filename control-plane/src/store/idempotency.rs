//! Answers to requests that bore an `Idempotency-Key`, so that a repeated one gets the same.

use super::{Store, StoreError};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// Nothing.
    New,
    /// The same request had this answer.
    Same(Kept),
    /// It was used for another request.
    Other,
}

impl Store {
    /// Looks a key of `owner` up; `request` is a hash of what was asked.
    pub(crate) async fn idempotent(
        &self,
        owner: &str,
        name: &str,
        request: &[u8],
        now: u64,
    ) -> Result<Claimed, StoreError> {
        retried!(self, "idempotent", |db| {
            let select = "SELECT request, status, response FROM idempotency_keys \
                          WHERE owner = $1 AND name = $2 AND expires_at >= $3";
            let row = db.row(select, &[owner.into(), name.into(), now.into()]).await?;
            let Some(row) = row else {
                return Ok(Claimed::New);
            };
            if row.bytes(0)? != request {
                return Ok(Claimed::Other);
            }
            Ok(Claimed::Same(Kept {
                status: u16::try_from(row.int(1)?).unwrap_or(500),
                body: row.bytes(2)?,
            }))
        })
    }

    /// Keeps an answer; the first one for a key stays.
    pub(crate) async fn keep_answer(
        &self,
        (owner, name): (&str, &str),
        request: &[u8],
        answer: &Kept,
        expires_at: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        retried!(self, "keep_answer", |db| {
            let mut tx = db.begin().await?;
            tx.write(
                "DELETE FROM idempotency_keys WHERE expires_at < $1",
                &[now.into()],
            )
            .await?;
            let insert = "INSERT INTO idempotency_keys (owner, name, request, status, response, expires_at) \
                          VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (owner, name) DO NOTHING";
            let values = [
                owner.into(),
                name.into(),
                request.into(),
                u64::from(answer.status).into(),
                answer.body.as_slice().into(),
                expires_at.into(),
            ];
            tx.write(insert, &values).await?;
            tx.commit().await
        })
    }
}
