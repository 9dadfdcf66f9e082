//! The command line and the environment, made into a [`Config`] that cannot be wrong.

mod args;
mod environment;
mod values;

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

pub use args::{Args, RoomPolicy};
pub use values::{Database, Span, Url};

/// As in `sysexits.h`: what was asked for makes no sense.
pub(crate) const EX_USAGE: u8 = 64;

const GRANT_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=1_024;
const DATABASE_FILE: &str = "wzp.db";

/// Everything that can be said about a control plane.
#[derive(Debug)]
pub struct Config {
    /// HTTP.
    pub listen: SocketAddr,
    /// Where relays attach.
    pub grpc_listen: SocketAddr,
    /// Folder of the database file.
    pub data: PathBuf,
    /// What is durable.
    pub database: Database,
    /// What relays show; `None`: what the database has, or a new one.
    pub join_secret: Option<JoinSecret>,
    /// Where clients reach the HTTP API, if that is not where it listens.
    pub public_url: Option<Url>,
    /// Name in certificates.
    pub cluster: String,
    /// Life of a grant.
    pub grant_ttl: Duration,
    /// For rooms without a policy of their own.
    pub rooms: RoomPolicy,
    /// Whether the operator said so.
    pub rooms_said: bool,
    /// How often clients may ask.
    pub rates: Rates,
    /// Whether `X-Forwarded-For` is believed.
    pub behind_proxy: bool,
    /// What to log, and how.
    pub log: Log,
}

/// Requests a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of one network.
    pub prefix: u32,
    /// With one API key.
    pub key: u32,
}

/// What relays show to enter the cluster. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret {
    /// What is compared.
    pub secret: String,
    /// The authority that the token names, base64url of SHA-256.
    pub authority: Option<String>,
}

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter of `tracing-subscriber`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
}

/// A configuration that makes no sense. Who started the control plane is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The same port twice.
    #[error("--grpc-listen {0} is the address of --listen")]
    SameAddress(SocketAddr),
    /// Another kind of database.
    #[error(
        "--database-url begins with postgres:// or postgresql://; leave it out for a SQLite file in --data"
    )]
    DatabaseUrl,
    /// Too short or too long.
    #[error(
        "--join-token holds a secret of {0} bytes; 16 to 1,024 are possible, `openssl rand -base64 24` makes a good one"
    )]
    JoinSecret(usize),
    /// Begins like one.
    #[error("--join-token begins with wzp1. and is no join token")]
    JoinToken,
    /// It becomes part of a URI.
    #[error("--cluster {0:?} is not 1 to 63 lower-case letters, digits, '-' or '.'")]
    Cluster(String),
    /// Too short or too long.
    #[error("--grant-ttl is 60s to 7d")]
    GrantTtl,
    /// Not a filter.
    #[error("--log {0:?} is not a filter such as info or info,wzp_control=debug")]
    Log(String),
}

impl Config {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// The exit code, after the help or one line that says what is wrong was printed.
    pub fn from_command_line() -> Result<Self, ExitCode> {
        let args = environment::parse().map_err(|error| {
            if error.use_stderr() {
                return usage(&one_line(&error.render().to_string()));
            }
            // Help and version; a closed pipe is nobody's business here.
            let _ = error.print();
            ExitCode::SUCCESS
        })?;
        Self::try_from(args).map_err(|error| usage(&format!("{:#}", anyhow::Error::from(error))))
    }
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let Args {
            listen,
            grpc_listen,
            data,
            database_url,
            database_connections,
            join_token,
            public_url,
            cluster,
            grant_ttl,
            rooms,
            prefix_rate,
            key_rate,
            behind_proxy,
            log,
            log_json,
        } = args;
        if listen == grpc_listen && listen.port() != 0 {
            return Err(ConfigError::SameAddress(listen));
        }
        if !GRANT_TTL.contains(&grant_ttl.0) {
            return Err(ConfigError::GrantTtl);
        }
        Ok(Self {
            listen,
            grpc_listen,
            database: database(database_url, database_connections, &data)?,
            data,
            join_secret: join_token.as_deref().map(str::parse).transpose()?,
            public_url,
            cluster: parse_cluster(cluster)?,
            grant_ttl: grant_ttl.0,
            rooms: rooms.unwrap_or(RoomPolicy::Open),
            rooms_said: rooms.is_some(),
            rates: Rates {
                prefix: prefix_rate,
                key: key_rate,
            },
            behind_proxy,
            log: parse_log(log, log_json)?,
        })
    }
}

impl std::str::FromStr for JoinSecret {
    type Err = ConfigError;

    /// A whole token, or the secret alone.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (authority, secret) = match text.strip_prefix("wzp1.") {
            None => (None, text),
            Some(rest) => {
                let (authority, secret) = rest.split_once('.').ok_or(ConfigError::JoinToken)?;
                (Some(authority.to_owned()), secret)
            }
        };
        if !SECRET_BYTES.contains(&secret.len()) {
            return Err(ConfigError::JoinSecret(secret.len()));
        }
        let secret = secret.to_owned();
        Ok(Self { secret, authority })
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinSecret({:?})", self.authority)
    }
}

fn database(url: Option<String>, connections: u32, data: &std::path::Path) -> Result<Database, ConfigError> {
    let Some(url) = url else {
        return Ok(Database::Sqlite(data.join(DATABASE_FILE)));
    };
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Database::Postgres { url, connections })
    } else {
        Err(ConfigError::DatabaseUrl)
    }
}

fn parse_cluster(name: String) -> Result<String, ConfigError> {
    let fits = (1..=63).contains(&name.len());
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if fits && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(ConfigError::Cluster(name))
    }
}

fn parse_log(filter: String, json: bool) -> Result<Log, ConfigError> {
    match filter.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(Log { filter, json }),
        Err(_) => Err(ConfigError::Log(filter)),
    }
}

fn usage(line: &str) -> ExitCode {
    // Where nobody can be told, the exit code has to do.
    let _ = writeln!(io::stderr(), "wzp-control: {line} (try --help)");
    ExitCode::from(EX_USAGE)
}

/// What clap says in several lines, up to its usage, in one.
fn one_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"));
    let said = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let line = said.collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
