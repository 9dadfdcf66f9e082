//! What is durable, in a SQLite file or in PostgreSQL: keys, API keys, leases, policies, nonces.
//!
//! Load, presence and probes are not here: they are learned anew from the relays within seconds.
//! An operation that fails for want of a connection is tried again; each is one transaction, so that is safe.

/// Runs an operation until it succeeds, fails for good, or has failed often enough.
///
/// A macro, because a future that comes out of a closure cannot be shown to be `Send`.
macro_rules! retried {
    ($store:expr, $name:literal, |$db:ident| $operation:block) => {{
        let mut tries = 0;
        loop {
            let began = std::time::Instant::now();
            let $db = &$store.db;
            let operation = $crate::store::typed(async { $operation });
            let result = tokio::time::timeout($store.patience(), operation).await;
            if let Some(settled) = $store.settle($name, began, tries, result).await {
                break settled;
            }
            tries += 1;
        }
    }};
}

mod api_keys;
mod db;
mod error;
mod file_lock;
mod idempotency;
mod keys;
mod migrations;
mod nonces;
mod policies;
mod rooms;
mod settings;

pub(crate) use api_keys::ApiKeyRow;
pub(crate) use error::{OpenError, StoreError};
pub(crate) use idempotency::{Claimed, Kept};
pub(crate) use keys::{KeyKind, KeyRow};
pub(crate) use rooms::{Changed, Joined, LAST_SENDER};

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time;
use tracing::{info, warn};

use crate::config::Database;
use db::Db;
use file_lock::FileLock;

/// Tries of one operation, and the pauses between them.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(150)];
/// After which an operation counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while the database is known to be away: whoever asks is not kept waiting to hear that again.
const AWAY: Duration = Duration::from_millis(300);

/// Told of every operation: its name, how long it took and whether it succeeded.
pub(crate) type Observer = Arc<dyn Fn(&'static str, Duration, bool) + Send + Sync>;

/// The database of this cluster.
pub(crate) struct Store {
    db: Db,
    observer: Observer,
    reachable: AtomicBool,
    /// Held as long as the file is open.
    _lock: Option<FileLock>,
}

impl Store {
    /// Opens the database, makes it if there is none, and takes it to the latest version.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub(crate) async fn open(database: &Database, observer: Observer) -> Result<Self, OpenError> {
        let (db, lock) = match database {
            Database::Sqlite(path) => {
                let lock = prepare(path)?;
                let db = Db::sqlite(path).await?;
                if !is_sound(&db).await? {
                    return Err(OpenError::Corrupt);
                }
                (db, Some(lock))
            }
            Database::Postgres { url, connections } => (Db::postgres(url, *connections).await?, None),
        };
        migrations::run(&db).await?;
        Ok(Self {
            db,
            observer,
            reachable: AtomicBool::new(true),
            _lock: lock,
        })
    }

    /// Whether the last operation reached the database.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Open connections, and how many of them do nothing.
    pub(crate) fn connections(&self) -> (u32, usize) {
        self.db.connections()
    }

    /// Closes all connections; nothing works afterwards.
    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// What became of one try; `None`: it is worth another one.
    async fn settle<T>(
        &self,
        name: &'static str,
        began: Instant,
        tries: usize,
        result: Result<Result<T, sqlx::Error>, time::error::Elapsed>,
    ) -> Option<Result<T, StoreError>> {
        let result = result.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        (self.observer)(name, began.elapsed(), result.is_ok());
        match result {
            Ok(value) => {
                self.note(true);
                Some(Ok(value))
            }
            Err(error) if error::is_transient(&error) => {
                // Who waited for a connection in vain has waited long enough.
                let again = self.is_reachable() && !matches!(error, sqlx::Error::PoolTimedOut);
                if let Some(pause) = PAUSES.get(tries).filter(|_| again) {
                    time::sleep(*pause).await;
                    return None;
                }
                self.note(false);
                Some(Err(error.into()))
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn patience(&self) -> Duration {
        if self.is_reachable() { PATIENCE } else { AWAY }
    }

    fn note(&self, reachable: bool) {
        if self.reachable.swap(reachable, Ordering::Relaxed) != reachable {
            if reachable {
                info!("the database answers again");
            } else {
                warn!(
                    "the database cannot be reached; calls go on, and rooms that are known still take members"
                );
            }
        }
    }
}

/// Says what the errors of an operation are.
fn typed<T, F: Future<Output = Result<T, sqlx::Error>>>(operation: F) -> F {
    operation
}

fn prepare(path: &Path) -> Result<FileLock, OpenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| OpenError::File {
            path: folder.to_owned(),
            source,
        })?;
    }
    let lock = FileLock::take(&path.with_extension("lock"))?;
    // Keys are in it: nobody else reads it, and what SQLite puts beside it has the same mode.
    file_lock::create_private(path)?;
    Ok(lock)
}

async fn is_sound(db: &Db) -> Result<bool, sqlx::Error> {
    match db.row("PRAGMA quick_check(1)", &[]).await? {
        Some(row) => Ok(row.text(0)? == "ok"),
        None => Ok(false),
    }
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
