//! One way to speak to SQLite and PostgreSQL: the same statements, three types of values.
//!
//! Both understand `$1`, `ON CONFLICT` and `RETURNING`. There are no NULLs, and BIGINT is every number.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, PgPool, Row as _, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Readers beside the writer; a connection is a thread.
const SQLITE_CONNECTIONS: u32 = 4;
const ACQUIRE: Duration = Duration::from_secs(1);

/// A pool of connections.
#[derive(Clone, Debug)]
pub(super) enum Db {
    Sqlite {
        pool: SqlitePool,
        /// Waiting for each other here is fairer and faster than polling a locked file.
        writer: Arc<Mutex<()>>,
    },
    Postgres(PgPool),
}

/// A transaction that writes; rolled back when dropped.
pub(super) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>, OwnedMutexGuard<()>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// What is put into a statement.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// What comes out, by the position in the statement.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Int(int) => query.bind(*int),
                Value::Text(text) => query.bind(*text),
                Value::Bytes(bytes) => query.bind(*bytes),
            };
        }
        query
    }};
}

macro_rules! each {
    ($rows:expr, $kind:path) => {
        $rows.into_iter().map($kind).collect()
    };
}

impl Db {
    /// Opens `path`, and makes it if it is missing.
    pub(super) async fn sqlite(path: &std::path::Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A lease that was given out is still there after a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .connect_with(options)
            .await?;
        let writer = Arc::default();
        Ok(Self::Sqlite { pool, writer })
    }

    pub(super) async fn postgres(url: &str, connections: u32) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.application_name("wzp-control"))
            .await?;
        Ok(Self::Postgres(pool))
    }

    pub(super) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { pool, writer } => {
                let guard = Arc::clone(writer).lock_owned().await;
                Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?, guard)
            }
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    pub(super) async fn rows(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite { pool, .. } => each!(bound!(sql, values).fetch_all(pool).await?, Row::Sqlite),
            Self::Postgres(pool) => each!(bound!(sql, values).fetch_all(pool).await?, Row::Postgres),
        })
    }

    pub(super) async fn row(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// One statement that writes; how many rows it touched.
    pub(super) async fn write(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        let mut tx = self.begin().await?;
        let touched = tx.write(sql, values).await?;
        tx.commit().await?;
        Ok(touched)
    }

    /// Connections that are open, and how many of them do nothing.
    pub(super) fn connections(&self) -> (u32, usize) {
        match self {
            Self::Sqlite { pool, .. } => (pool.size(), pool.num_idle()),
            Self::Postgres(pool) => (pool.size(), pool.num_idle()),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { pool, .. } => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx, _) => each!(bound!(sql, values).fetch_all(&mut **tx).await?, Row::Sqlite),
            Self::Postgres(tx) => each!(bound!(sql, values).fetch_all(&mut **tx).await?, Row::Postgres),
        })
    }

    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    pub(super) async fn write(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx, _) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Statements that define something, in the words of PostgreSQL.
    pub(super) async fn define(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx, _) => {
                let sql = AssertSqlSafe(sql.replace("BYTEA", "BLOB"));
                sqlx::raw_sql(sql).execute(&mut **tx).await?;
            }
            Self::Postgres(tx) => {
                sqlx::raw_sql(sql).execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    /// Waits until no other replica is in a transaction that called this with the same number.
    pub(super) async fn lock(&mut self, number: i64) -> Result<(), sqlx::Error> {
        match self {
            // There is one writer at a time.
            Self::Sqlite(..) => Ok(()),
            Self::Postgres(_) => {
                let lock = "SELECT 1 FROM (SELECT pg_advisory_xact_lock($1)) AS held";
                self.rows(lock, &[Value::Int(number)]).await.map(drop)
            }
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx, _guard) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}

impl Row {
    pub(super) fn int(&self, at: usize) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }

    /// Numbers that were never negative when they were written.
    pub(super) fn number(&self, at: usize) -> Result<u64, sqlx::Error> {
        u64::try_from(self.int(at)?).map_err(|error| sqlx::Error::Decode(error.into()))
    }

    pub(super) fn text(&self, at: usize) -> Result<String, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }

    pub(super) fn bytes(&self, at: usize) -> Result<Vec<u8>, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
        }
    }
}

impl From<u64> for Value<'_> {
    /// Times, epochs and counts are far below the limit of a BIGINT.
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}
