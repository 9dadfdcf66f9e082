//! The command line and the environment, made into a [`Config`] that cannot be wrong.

mod args;
mod cluster;
mod environment;
mod target;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use wzp_identity::{GrantKey, SecretError, shared_secret_issuer};
use wzp_lane::{
    Aead,
    ids::{Layout, LayoutError},
};
use wzp_relay_core::{limits::ConnectionsConfig, limits::Rate, overload, rooms, speakers, trunk::Side};

pub use args::Args;
pub use cluster::{Advertise, Cluster, ControlUrl, JoinToken, Listen, Place};
pub use target::{Fingerprint, Target};

/// What `sysexits.h` calls a command that was used wrongly.
pub(crate) const EX_USAGE: u8 = 64;

/// A relay's configuration.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The cluster it serves in.
    pub cluster: Option<Cluster>,
    /// Where the certificate is kept; `None` is a new one each start.
    pub certificate: Option<CertificateFiles>,
    /// Who may enter.
    pub access: Access,
    /// The second port.
    pub reflect_port: Option<u16>,
    /// The upstream relay.
    pub forward: Option<Forward>,
    /// Signs the grants that relays show each other: that of `--forward-secret`, or of `--secret`.
    pub forward_key: Option<Box<GrantKey>>,
    /// Whether other relays may carry their members here.
    pub takes_relays: bool,
    /// The relays to be measured.
    pub probes: Vec<Target>,
    /// Where to answer HTTP.
    pub metrics: Option<SocketAddr>,
    /// Threads that move packets; 0 is one per core.
    pub io_threads: usize,
    /// Threads for QUIC; 0 is one for every two cores.
    pub quic_threads: usize,
    /// Lanes at once.
    pub max_lanes: usize,
    /// How QUIC connection ids and lane ids look.
    pub ids: Layout,
    /// Packet protections of lanes, best first; what this machine can do, without a flag.
    pub aeads: &'static [Aead],
    /// Rooms, members, loudest.
    pub rooms: rooms::Config,
    /// How much anybody may use.
    pub limits: Limits,
    /// What to log, and how.
    pub log: Log,
}

/// Files of the certificate and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// PEM.
    pub cert: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
}

/// Who may enter.
#[derive(Debug)]
pub enum Access {
    /// Everybody, as the operator said or by default.
    Open {
        /// `--open` was given.
        said: bool,
    },
    /// Whoever has a grant that this key signed.
    Secret(Box<GrantKey>),
}

impl Access {
    /// The key that signs the grants of members, if they need one.
    pub(crate) fn key(&self) -> Option<&GrantKey> {
        match self {
            Self::Open { .. } => None,
            Self::Secret(key) => Some(key),
        }
    }
}

/// The upstream relay.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Its name or address.
    pub target: Target,
    /// Its certificate; `None` takes any.
    pub certificate: Option<Fingerprint>,
}

/// A trunk may carry the packets of so many members that send as many as they may.
const TRUNK_PACKETS: u32 = 64;
/// PINGs a second, and at once, that somebody who is in no room may want answered.
const QUESTIONS: (u32, u32) = (50, 100);

/// Rates and counts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: ConnectionsConfig,
    /// Handshakes at once whose only end is a reason why not.
    pub polite_refusals: usize,
    /// Handshakes of one prefix.
    pub handshakes: Rate,
    /// Signalling messages of one connection.
    pub messages: Rate,
    /// Joins of one connection.
    pub joins: Rate,
    /// Joins of one identity.
    pub identity_joins: Rate,
    /// Joins of one prefix.
    pub prefix_joins: Rate,
    /// Media packets and PINGs of one member.
    pub packets: Rate,
    /// Media packets of one trunk.
    pub trunk_packets: Rate,
    /// PINGs of one connection that is nobody's member.
    pub questions: Rate,
    /// Joins over the trunks of one identity.
    pub trunk_joins: Rate,
    /// From the first packet of a handshake to a good Hello.
    pub unauthenticated: Duration,
    /// How long somebody may take nothing of what waits for it.
    pub patience: Duration,
    /// Bytes of all signalling queues together.
    pub queues: usize,
    /// When less is forwarded and nobody taken in.
    pub overload: overload::Config,
}

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A filter of `tracing-subscriber`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
}

/// A configuration that makes no sense. Who started the relay is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// See [`wzp_identity::SecretError`].
    #[error("--secret")]
    Secret(#[source] SecretError),
    /// Both for everybody and for some.
    #[error("--open cannot be used with --secret")]
    OpenAndSecret,
    /// Trunks do not go on: a relay is at one end only.
    #[error("--allow-forward cannot be used with --forward")]
    ForwardBothWays,
    /// As above, of the relays.
    #[error("--forward-secret")]
    ForwardSecret(#[source] SecretError),
    /// It would keep members and relays apart, and does not.
    #[error("--forward-secret is the same as --secret; leave it out if whoever knows that may be a relay")]
    SameSecret,
    /// There is nobody to show it to, and nobody who shows it.
    #[error("--forward-secret is for relays with --forward or --allow-forward")]
    NeedlessForwardSecret,
    /// The same port twice.
    #[error("--reflect-port {0} is the port of --listen")]
    ReflectPort(u16),
    /// More than are sensible to measure.
    #[error("--probe is given {0} times, at most 64 are possible")]
    Probes(usize),
    /// Members come with grants of the control plane, and rooms are where it says.
    #[error("--control cannot be used with --{0}")]
    ClusterAnd(&'static str),
    /// The names become labels.
    #[error("--probe names {0:?} twice")]
    ProbeName(String),
    /// Too short or too long; nothing else is left to be wrong.
    #[error("--id-length")]
    Ids(#[from] LayoutError),
    /// Not a filter.
    #[error("--log {0:?} is not a filter such as info or info,wzp_relay=debug")]
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
            control,
            join_token,
            id,
            region,
            zone,
            node,
            advertise,
            cert,
            key,
            secret,
            open,
            reflect_port,
            forward,
            forward_cert,
            allow_forward,
            forward_secret,
            probe,
            metrics,
            io_threads,
            quic_threads,
            loudest,
            loudest_above,
            max_connections,
            max_connections_per_prefix,
            max_connections_per_identity,
            max_lanes,
            id_server,
            id_config,
            id_length,
            max_rooms,
            max_members,
            handshakes_per_prefix,
            message_rate,
            join_rate,
            packet_rate,
            log,
            log_json,
        } = args;
        if let Some(port) = reflect_port.filter(|port| (listen.first..=listen.last).contains(port)) {
            return Err(ConfigError::ReflectPort(port));
        }
        let place = Place {
            region: region.unwrap_or_default(),
            zone: zone.unwrap_or_default(),
            node: node.unwrap_or_default(),
        };
        let cluster = control
            .zip(join_token)
            .zip(id)
            .map(|((control, token), id)| Cluster {
                control,
                token,
                id,
                place,
                advertise,
            });
        let standalone = [
            ("secret", secret.is_some()),
            ("open", open),
            ("cert", cert.is_some()),
            ("forward", forward.is_some()),
            ("allow-forward", allow_forward),
            ("forward-secret", forward_secret.is_some()),
        ];
        if let Some((flag, _)) = standalone.iter().find(|(_, given)| cluster.is_some() && *given) {
            return Err(ConfigError::ClusterAnd(flag));
        }
        let access = match secret {
            Some(_) if open => return Err(ConfigError::OpenAndSecret),
            Some(secret) => Access::Secret(Box::new(
                shared_secret_issuer(&secret).map_err(ConfigError::Secret)?,
            )),
            None => Access::Open { said: open },
        };
        if allow_forward && forward.is_some() {
            return Err(ConfigError::ForwardBothWays);
        }
        let takes_relays = allow_forward || cluster.is_none() && listen.ip.is_loopback();
        let forward_key = match forward_secret {
            Some(_) if forward.is_none() && !takes_relays => return Err(ConfigError::NeedlessForwardSecret),
            Some(secret) => Some(relays_key(&secret, &access)?),
            None => access.key().cloned(),
        };
        let ids = match id_server {
            Some(server) => Layout::routable(&server, id_config.unwrap_or(0), id_length.map(usize::from))?,
            None => Layout::default(),
        };
        let connections = ConnectionsConfig {
            total: count(max_connections),
            per_prefix: count(max_connections_per_prefix),
            per_identity: count(max_connections_per_identity),
            ..ConnectionsConfig::default()
        };
        let rooms = rooms::Config {
            rooms: count(max_rooms),
            members: usize::from(max_members),
            joins: rooms::Config::joins(max_members),
            speakers: speakers::Config {
                above: usize::from(loudest_above),
                loudest: usize::from(loudest),
            },
            // In a cluster, too, members have handles as soon as they are there.
            side: if forward.is_some() || cluster.is_some() {
                Side::Downstream
            } else {
                Side::Upstream
            },
        };
        Ok(Self {
            listen,
            cluster,
            certificate: cert.zip(key).map(|(cert, key)| CertificateFiles { cert, key }),
            access,
            reflect_port,
            forward: forward.map(|target| Forward {
                target,
                certificate: forward_cert,
            }),
            forward_key: forward_key.map(Box::new),
            takes_relays,
            probes: distinct(probe)?,
            metrics,
            io_threads: usize::from(io_threads),
            quic_threads: usize::from(quic_threads),
            max_lanes: count(max_lanes),
            ids,
            aeads: Aead::supported(),
            rooms,
            limits: Limits {
                connections,
                polite_refusals: 64,
                handshakes: Rate::new(handshakes_per_prefix, handshakes_per_prefix.saturating_mul(5)),
                messages: Rate::new(message_rate, message_rate.saturating_mul(10)),
                joins: Rate::per_minute(join_rate, join_rate),
                identity_joins: Rate::per_minute(join_rate.saturating_mul(5), join_rate.saturating_mul(5)),
                prefix_joins: Rate::new(
                    (max_connections_per_prefix / 100).max(10),
                    max_connections_per_prefix.saturating_mul(3) / 2 + 50,
                ),
                packets: Rate::new(packet_rate, packet_rate.div_ceil(2)),
                trunk_packets: Rate::new(packet_rate * TRUNK_PACKETS, packet_rate * TRUNK_PACKETS / 2),
                questions: Rate::new(QUESTIONS.0, QUESTIONS.1),
                trunk_joins: Rate::new(50, 1_000),
                unauthenticated: Duration::from_secs(5),
                patience: Duration::from_secs(10),
                queues: 256 << 20,
                overload: overload::Config::default(),
            },
            log: parse_log(log, log_json)?,
        })
    }
}

fn relays_key(secret: &str, access: &Access) -> Result<GrantKey, ConfigError> {
    let key = shared_secret_issuer(secret).map_err(ConfigError::ForwardSecret)?;
    match access.key() {
        Some(members) if members.public() == key.public() => Err(ConfigError::SameSecret),
        _ => Ok(key),
    }
}

fn distinct(probes: Vec<Target>) -> Result<Vec<Target>, ConfigError> {
    if probes.len() > 64 {
        return Err(ConfigError::Probes(probes.len()));
    }
    for (at, probe) in probes.iter().enumerate() {
        if probes.iter().take(at).any(|other| other.name == probe.name) {
            return Err(ConfigError::ProbeName(probe.name.clone()));
        }
    }
    Ok(probes)
}

fn parse_log(filter: String, json: bool) -> Result<Log, ConfigError> {
    match filter.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(Log { filter, json }),
        Err(_) => Err(ConfigError::Log(filter)),
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn usage(line: &str) -> ExitCode {
    // Where nobody can be told, the exit code has to do.
    let _ = writeln!(io::stderr(), "wzp-relay: {line} (try --help)");
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
