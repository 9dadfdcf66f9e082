//! Every flag.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum, builder::BoolishValueParser};

use super::{Span, Url};

/// Places rooms on relays and tells clients where they are.
///
/// Without any option it keeps everything in ./wzp-data, makes its keys, a join token and a first API key there, prints
/// both once, and answers on the loopback. Every option can be given in the environment instead: --grpc-listen is
/// WZP_CONTROL_GRPC_LISTEN. A variable that is empty counts as not set.
#[derive(Debug, Parser)]
#[command(name = "wzp-control", version, max_term_width = 110)]
pub struct Args {
    /// TCP address for the HTTP API, the status page, /metrics, /livez and /readyz
    #[arg(
        long,
        env = "WZP_CONTROL_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(super) listen: SocketAddr,

    /// TCP address for relays (gRPC over TLS)
    #[arg(
        long,
        env = "WZP_CONTROL_GRPC_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8081"
    )]
    pub(super) grpc_listen: SocketAddr,

    /// Folder of the database file; made if it is missing
    #[arg(
        long,
        env = "WZP_CONTROL_DATA",
        value_name = "DIR",
        default_value = "./wzp-data"
    )]
    pub(super) data: PathBuf,

    /// postgres://USER:PASSWORD@HOST:PORT/NAME, which several replicas may share [default: a SQLite file in --data]
    #[arg(
        long,
        env = "WZP_CONTROL_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) database_url: Option<String>,

    /// Most connections to PostgreSQL
    #[arg(long, env = "WZP_CONTROL_DATABASE_CONNECTIONS", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) database_connections: u32,

    /// What relays show to enter the cluster: a token printed before, or a secret of 16 to 1,024 bytes [default: made at
    /// the first start and kept]. The whole token is printed at the first start, and given by GET /v1/join-token
    #[arg(
        long,
        env = "WZP_CONTROL_JOIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(super) join_token: Option<String>,

    /// Where clients reach the HTTP API [default: http:// and --listen]
    #[arg(long, env = "WZP_CONTROL_PUBLIC_URL", value_name = "URL")]
    pub(super) public_url: Option<Url>,

    /// Name of the cluster in certificates: 1 to 63 lower-case letters, digits, '-' or '.'
    #[arg(long, env = "WZP_CONTROL_CLUSTER", value_name = "NAME", default_value = "wzp")]
    pub(super) cluster: String,

    /// How long a grant lets its member in: 60s to 7d
    #[arg(
        long,
        env = "WZP_CONTROL_GRANT_TTL",
        value_name = "TIME",
        default_value = "6h"
    )]
    pub(super) grant_ttl: Span,

    /// Who may join a room that has no policy of its own [default: open; with a warning if --listen is no loopback address]
    #[arg(long, env = "WZP_CONTROL_ROOMS", value_name = "POLICY")]
    pub(super) rooms: Option<RoomPolicy>,

    /// HTTP requests a second of one address (/64 of IPv6); twice as many at once. Loopback addresses have no limit
    #[arg(long, env = "WZP_CONTROL_PREFIX_RATE", value_name = "PER_SECOND", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) prefix_rate: u32,

    /// HTTP requests a second with one API key; twice as many at once
    #[arg(long, env = "WZP_CONTROL_KEY_RATE", value_name = "PER_SECOND", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) key_rate: u32,

    /// Take the client's address from the last entry of X-Forwarded-For: only behind a proxy that writes it
    #[arg(long, env = "WZP_CONTROL_BEHIND_PROXY", value_parser = BoolishValueParser::new())]
    pub(super) behind_proxy: bool,

    /// What to log: error, warn, info, debug, or a filter such as info,wzp_control=debug
    #[arg(long, env = "WZP_CONTROL_LOG", value_name = "FILTER", default_value = "info")]
    pub(super) log: String,

    /// Log one JSON object a line
    #[arg(long, env = "WZP_CONTROL_LOG_JSON", value_parser = BoolishValueParser::new())]
    pub(super) log_json: bool,
}

/// Who may join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoomPolicy {
    /// Whoever signs for an identity.
    Open,
    /// Whom a holder of an API key lets in.
    Key,
}
