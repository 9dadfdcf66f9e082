//! What can be wrong with a database.

use std::{io, path::PathBuf};

/// Why the store cannot be used from now on. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "the database is of a newer wzp-control (version {found}, this one knows up to {known}): install that one, or restore a backup"
    )]
    Newer { found: u64, known: u64 },
    #[error("the file is damaged or no SQLite database: restore a backup, or move it away to begin anew")]
    Corrupt,
    #[error("the database cannot be written")]
    ReadOnly,
    #[error("no room is left on the disk")]
    Full,
    #[error("another wzp-control{who} uses the file; several replicas need --database-url postgres://…")]
    InUse { who: String },
    #[error("cannot use {path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the database cannot be used")]
    Sql(#[source] sqlx::Error),
}

/// Why something could not be read or written just now. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The network, or the database itself; trying again may help.
    #[error("the database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    #[error("no room is left on the disk of the database")]
    Full,
    #[error("the database cannot be written")]
    ReadOnly,
    /// The statement, or what is in the tables: a bug, or a hand in the database.
    #[error("the database refuses")]
    Sql(#[source] sqlx::Error),
}

enum Fault {
    Transient,
    Full,
    ReadOnly,
    Corrupt,
    Other,
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Corrupt => Self::Corrupt,
            Fault::Full => Self::Full,
            Fault::ReadOnly => Self::ReadOnly,
            Fault::Transient | Fault::Other => Self::Sql(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Transient => Self::Unreachable(error),
            Fault::Full => Self::Full,
            Fault::ReadOnly => Self::ReadOnly,
            Fault::Corrupt | Fault::Other => Self::Sql(error),
        }
    }
}

/// Whether trying again may help.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    matches!(fault(error), Fault::Transient)
}

fn fault(error: &sqlx::Error) -> Fault {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::WorkerCrashed | E::BeginFailed => {
            Fault::Transient
        }
        E::Database(said) => said.code().map_or(Fault::Other, |code| of_code(&code)),
        _ => Fault::Other,
    }
}

fn of_code(code: &str) -> Fault {
    // SQLSTATEs have five characters; result codes of SQLite are numbers, whose low byte says the kind.
    if code.len() == 5 {
        return match (code.get(..2), code) {
            // Connection, rollback for concurrency, no resources, the operator or a crash.
            (_, "53100") => Fault::Full,
            (_, "25006") => Fault::ReadOnly,
            (Some("08" | "40" | "53" | "57"), _) => Fault::Transient,
            _ => Fault::Other,
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Fault::Transient,
        Ok(8 | 14) => Fault::ReadOnly,
        Ok(11 | 26) => Fault::Corrupt,
        Ok(13) => Fault::Full,
        _ => Fault::Other,
    }
}
