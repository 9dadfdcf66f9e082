//! Every flag.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, builder::BoolishValueParser};
use wzp_lane::ids::ServerId;
use wzp_wire::RelayId;

use super::{
    Fingerprint, Target,
    cluster::{Advertise, ControlUrl, JoinToken, Listen, place},
};

/// Forwards sealed voice between the members of rooms.
///
/// Members connect with QUIC (ALPN wzp/1) on one UDP port; the relay never holds a key that opens what they say.
/// Every option can be given in the environment instead: --max-rooms is WZP_RELAY_MAX_ROOMS, and WZP_RELAY_OPEN is one of
/// 1, true, yes, on or 0, false, no, off. A variable that is empty counts as not set.
#[derive(Debug, Parser)]
#[command(name = "wzp-relay", version, max_term_width = 110)]
pub struct Args {
    /// UDP address and port for everything; port 0 is any free one, and of FIRST-LAST the first free one is taken
    #[arg(
        long,
        env = "WZP_RELAY_LISTEN",
        value_name = "ADDR:PORT[-PORT]",
        default_value = "0.0.0.0:4433"
    )]
    pub(super) listen: Listen,

    /// Serve in the cluster of this control plane; each address of the name is one replica of it [default: none]
    #[arg(
        long,
        env = "WZP_RELAY_CONTROL",
        value_name = "URL",
        requires = "join_token",
        requires = "id"
    )]
    pub(super) control: Option<ControlUrl>,

    /// Lets this relay into the cluster, as wzp-control prints it
    #[arg(
        long,
        env = "WZP_RELAY_JOIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        requires = "control"
    )]
    pub(super) join_token: Option<JoinToken>,

    /// This relay's name in the cluster: 1 to 64 letters, digits, '-', '_' or '.'
    #[arg(long, env = "WZP_RELAY_ID", value_name = "NAME", requires = "control")]
    pub(super) id: Option<RelayId>,

    /// Where this relay is; rooms stay within a region if they can
    #[arg(long, env = "WZP_RELAY_REGION", value_name = "NAME", requires = "control", value_parser = place)]
    pub(super) region: Option<String>,

    /// What fails together with this relay: a room's standby relay is elsewhere
    #[arg(long, env = "WZP_RELAY_ZONE", value_name = "NAME", requires = "control", value_parser = place)]
    pub(super) zone: Option<String>,

    /// The machine, which fails together as well
    #[arg(long, env = "WZP_RELAY_NODE", value_name = "NAME", requires = "control", value_parser = place)]
    pub(super) node: Option<String>,

    /// Where clients reach this relay, if not where it is bound; may be given several times [default: the bound address]
    #[arg(
        long,
        env = "WZP_RELAY_ADVERTISE",
        value_name = "IP[:PORT]",
        value_delimiter = ',',
        requires = "control"
    )]
    pub(super) advertise: Vec<Advertise>,

    /// Certificate (PEM) that clients pin; made on first start if neither file is there [default: a new one each start]
    #[arg(long, env = "WZP_RELAY_CERT", value_name = "FILE", requires = "key")]
    pub(super) cert: Option<PathBuf>,

    /// Private key (PEM, PKCS#8) of --cert; made with mode 0600
    #[arg(long, env = "WZP_RELAY_KEY", value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,

    /// Only members who know this secret may enter: 16 to 1,024 bytes, the same in their --secret
    #[arg(long, env = "WZP_RELAY_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub(super) secret: Option<String>,

    /// Everybody may enter; this is also so without --secret, but said here it is no warning
    #[arg(long, env = "WZP_RELAY_OPEN", value_parser = BoolishValueParser::new())]
    pub(super) open: bool,

    /// Second UDP port at which clients may ask for their address (probe sessions only) [default: none]
    #[arg(long, env = "WZP_RELAY_REFLECT_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) reflect_port: Option<u16>,

    /// Carry every room to this relay over one trunk; its members and ours hear each other [default: none]
    #[arg(long, env = "WZP_RELAY_FORWARD", value_name = "HOST:PORT")]
    pub(super) forward: Option<Target>,

    /// SHA-256 of the upstream relay's certificate, 64 hex digits [default: any certificate, with a warning]
    #[arg(
        long,
        env = "WZP_RELAY_FORWARD_CERT",
        value_name = "SHA256",
        requires = "forward"
    )]
    pub(super) forward_cert: Option<Fingerprint>,

    /// Relays started with --forward may carry their members here [default: only if --listen is a loopback address]
    #[arg(long, env = "WZP_RELAY_ALLOW_FORWARD", value_parser = BoolishValueParser::new())]
    pub(super) allow_forward: bool,

    /// What relays show each other instead of --secret (16 to 1,024 bytes, the same on both sides): with it, nobody
    /// becomes a relay by knowing --secret, nor a member by knowing this [default: the secret of --secret]
    #[arg(
        long,
        env = "WZP_RELAY_FORWARD_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub(super) forward_secret: Option<String>,

    /// Measure the way to this relay with a PING a second; may be given up to 64 times
    #[arg(
        long,
        env = "WZP_RELAY_PROBE",
        value_name = "[NAME=]HOST:PORT",
        value_delimiter = ','
    )]
    pub(super) probe: Vec<Target>,

    /// TCP address for /metrics, /livez and /readyz [default: none]
    #[arg(long, env = "WZP_RELAY_METRICS", value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,

    /// Threads that move packets, each with its own socket; 0 is one per core
    #[arg(long, env = "WZP_RELAY_IO_THREADS", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(super) io_threads: u16,

    /// Threads for QUIC: signalling, and members without lanes; 0 is one for every two cores
    #[arg(long, env = "WZP_RELAY_QUIC_THREADS", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(super) quic_threads: u16,

    /// How many are heard at once in a large room, 1 to 64
    #[arg(long, env = "WZP_RELAY_LOUDEST", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) loudest: u16,

    /// Rooms with more members than this are large
    #[arg(long, env = "WZP_RELAY_LOUDEST_ABOVE", value_name = "N", default_value_t = 8)]
    pub(super) loudest_above: u16,

    /// Connections at once, in all
    #[arg(long, env = "WZP_RELAY_MAX_CONNECTIONS", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_connections: u32,

    /// Connections at once from one network (/24 of IPv4, /56 of IPv6)
    #[arg(long, env = "WZP_RELAY_MAX_CONNECTIONS_PER_PREFIX", value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_connections_per_prefix: u32,

    /// Connections at once of one identity
    #[arg(long, env = "WZP_RELAY_MAX_CONNECTIONS_PER_IDENTITY", value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_connections_per_identity: u32,

    /// Lanes at once; whoever gets none is served over QUIC datagrams. 32 bytes each
    #[arg(long, env = "WZP_RELAY_MAX_LANES", value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(super) max_lanes: u32,

    /// For a load balancer that routes by connection id (unencrypted QUIC-LB): our server id, 1 to 12 bytes [default: none]
    #[arg(long, env = "WZP_RELAY_ID_SERVER", value_name = "HEX")]
    pub(super) id_server: Option<ServerId>,

    /// Number of that load balancer's configuration, 0 to 6 [default: 0]
    #[arg(long, env = "WZP_RELAY_ID_CONFIG", value_name = "N", requires = "id_server",
          value_parser = clap::value_parser!(u8).range(0..=6))]
    pub(super) id_config: Option<u8>,

    /// Bytes of each connection id and lane id, up to 20 [default: 8 more than the server id has, which is the least]
    #[arg(
        long,
        env = "WZP_RELAY_ID_LENGTH",
        value_name = "BYTES",
        requires = "id_server"
    )]
    pub(super) id_length: Option<u8>,

    /// Rooms at once
    #[arg(long, env = "WZP_RELAY_MAX_ROOMS", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_rooms: u32,

    /// Members of one room, 1 to 10,000; our clients keep keys for 1,000 others
    #[arg(long, env = "WZP_RELAY_MAX_MEMBERS", value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) max_members: u16,

    /// Handshakes a second from one network; five times as many at once
    #[arg(long, env = "WZP_RELAY_HANDSHAKES_PER_PREFIX", value_name = "PER_SECOND", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) handshakes_per_prefix: u32,

    /// Signalling messages a second of one connection; ten times as many at once
    #[arg(long, env = "WZP_RELAY_MESSAGE_RATE", value_name = "PER_SECOND", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) message_rate: u32,

    /// Joins a minute of one connection and, five times as many, of one identity; networks and rooms have limits of
    /// their own, by --max-connections-per-prefix and --max-members
    #[arg(long, env = "WZP_RELAY_JOIN_RATE", value_name = "PER_MINUTE", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(super) join_rate: u32,

    /// Media packets and PINGs a second of one member; half as many at once
    #[arg(long, env = "WZP_RELAY_PACKET_RATE", value_name = "PER_SECOND", default_value_t = 400,
          value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(super) packet_rate: u32,

    /// What to log: error, warn, info, debug, or a filter such as info,wzp_relay=debug
    #[arg(long, env = "WZP_RELAY_LOG", value_name = "FILTER", default_value = "info")]
    pub(super) log: String,

    /// Log one JSON object a line
    #[arg(long, env = "WZP_RELAY_LOG_JSON", value_parser = BoolishValueParser::new())]
    pub(super) log_json: bool,
}
