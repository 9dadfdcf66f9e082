//! What is printed when a control plane has started.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
};

use tracing::{info, warn};

use crate::config::{Database, RoomPolicy};

/// Where a control plane listens, and what was made at its first start.
#[derive(Debug)]
pub struct Banner {
    /// HTTP.
    pub http: SocketAddr,
    /// Where clients reach it.
    pub public_url: String,
    /// For relays.
    pub grpc: SocketAddr,
    /// What is durable.
    pub database: Database,
    /// Name in certificates.
    pub cluster: String,
    /// For rooms without a policy of their own.
    pub rooms: RoomPolicy,
    /// Whether the operator said so.
    pub rooms_said: bool,
    /// If it was made at this start.
    pub join_token: Option<Shown>,
    /// If it was made at this start.
    pub api_key: Option<Shown>,
}

/// A secret that is shown once. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(pub String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

impl Banner {
    /// Prints it for people, and logs what a collector should know.
    pub(crate) fn show(&self) {
        let mut out = io::stdout();
        if let Err(error) = write!(out, "{self}").and_then(|()| out.flush()) {
            warn!(%error, "cannot print where this control plane listens");
        }
        let Self {
            http,
            grpc,
            database,
            cluster,
            ..
        } = self;
        let (rooms, version) = (self.rooms_label(), env!("CARGO_PKG_VERSION"));
        if self.warns() {
            warn!(%http, %grpc, %database, cluster, rooms, version, "listening, rooms are open to everybody who reaches this port");
        } else {
            info!(%http, %grpc, %database, cluster, rooms, version, "listening");
        }
    }

    fn warns(&self) -> bool {
        self.rooms == RoomPolicy::Open && !self.rooms_said && !self.http.ip().is_loopback()
    }

    fn rooms_label(&self) -> &'static str {
        match self.rooms {
            RoomPolicy::Open => "open",
            RoomPolicy::Key => "key",
        }
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wzp-control {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  http         http://{}", self.http)?;
        if self.public_url != format!("http://{}", self.http) {
            writeln!(f, "               {} for clients", self.public_url)?;
        }
        writeln!(f, "  relays       https://{} (gRPC)", self.grpc)?;
        writeln!(f, "  database     {}", self.database)?;
        writeln!(f, "  cluster      {}", self.cluster)?;
        writeln!(f, "  rooms        {}", self.rooms_label())?;
        if let Some(Shown(token)) = &self.join_token {
            writeln!(f, "  join token   {token}")?;
        }
        if let Some(Shown(key)) = &self.api_key {
            writeln!(f, "  admin key    {key}")?;
            writeln!(f, "               shown now and never again")?;
        }
        if self.warns() {
            writeln!(
                f,
                "  warning: rooms are open to everybody who reaches this port; --rooms key demands an API key"
            )?;
        }
        Ok(())
    }
}
