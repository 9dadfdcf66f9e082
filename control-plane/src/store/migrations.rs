//! What the database looks like. Forward only: a step that was released is never changed, the next one is added.

use super::{
    db::{Db, Tx, Value},
    error::OpenError,
};

/// In the words of PostgreSQL; the version of a database is how many of these it has seen.
const STEPS: &[&str] = &[include_str!("migrations/0001.sql")];

/// Of the advisory lock under which replicas start one after another: "wzp" in ASCII.
pub(super) const START_LOCK: i64 = 0x77_7a_70;

/// What this program knows.
pub(super) fn latest() -> u64 {
    u64::try_from(STEPS.len()).unwrap_or(u64::MAX)
}

/// Takes the database to the latest version, in one transaction.
pub(super) async fn run(db: &Db) -> Result<(), OpenError> {
    let mut tx = db.begin().await?;
    tx.lock(START_LOCK).await?;
    let found = version(&mut tx).await?;
    if found > latest() {
        return Err(OpenError::Newer {
            found,
            known: latest(),
        });
    }
    let seen = usize::try_from(found).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(seen) {
        tx.define(step).await?;
    }
    // Written at every start, so that a database that cannot be written is noticed now.
    tx.write("UPDATE schema_version SET version = $1", &[Value::from(latest())])
        .await?;
    tx.commit().await?;
    Ok(())
}

async fn version(tx: &mut Tx) -> Result<u64, sqlx::Error> {
    tx.define("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .await?;
    match tx.row("SELECT version FROM schema_version", &[]).await? {
        Some(row) => row.number(0),
        None => {
            tx.write("INSERT INTO schema_version (version) VALUES (0)", &[])
                .await?;
            Ok(0)
        }
    }
}
