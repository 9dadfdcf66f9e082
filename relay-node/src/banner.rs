//! What is printed when a relay has started.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
};

use tracing::{field::display, info, warn};

use wzp_wire::RelayId;

use crate::config::{Access, ControlUrl, Fingerprint, Forward};

/// Where a relay listens and how it is known.
#[derive(Debug)]
pub struct Banner {
    /// What was bound.
    pub address: SocketAddr,
    /// Its name in its cluster, and where the control plane is.
    pub cluster: Option<(RelayId, ControlUrl)>,
    /// SHA-256 of the certificate; in a cluster it is shown until the cluster's authority has signed another one.
    pub fingerprint: Fingerprint,
    /// Whether it is kept in files, or lost at the end.
    pub kept: bool,
    /// Who may enter.
    pub access: AccessShown,
    /// The second port.
    pub reflect: Option<SocketAddr>,
    /// The upstream relay.
    pub forward: Option<Forward>,
    /// HTTP.
    pub metrics: Option<SocketAddr>,
}

/// Who may enter, without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessShown {
    /// Everybody, because the operator said so.
    Open,
    /// Everybody, because nothing was said.
    OpenByDefault,
    /// Whoever knows the secret.
    Secret,
}

impl AccessShown {
    fn label(self) -> &'static str {
        match self {
            Self::Open | Self::OpenByDefault => "open",
            Self::Secret => "secret",
        }
    }
}

impl Banner {
    pub(crate) fn access(access: &Access) -> AccessShown {
        match access {
            Access::Open { said: true } => AccessShown::Open,
            Access::Open { said: false } => AccessShown::OpenByDefault,
            Access::Secret(_) => AccessShown::Secret,
        }
    }

    /// Prints it for people, and logs what a collector should know.
    pub(crate) fn show(&self) {
        let mut out = io::stdout();
        if let Err(error) = write!(out, "{self}").and_then(|()| out.flush()) {
            warn!(%error, "cannot print where this relay listens");
        }
        self.log();
    }

    fn log(&self) {
        let Self {
            address,
            cluster,
            fingerprint,
            kept,
            access,
            reflect,
            forward,
            metrics,
        } = self;
        let (access, reflect, metrics) = (access.label(), reflect.map(display), metrics.map(display));
        let forward = forward.as_ref().map(|forward| display(&forward.target));
        if let Some((relay, control)) = cluster {
            return info!(%address, %relay, %control, reflect, metrics, version = env!("CARGO_PKG_VERSION"), "listening");
        }
        macro_rules! listening {
            ($level:ident, $message:literal) => {
                $level!(
                    %address, certificate = %fingerprint, kept, access, reflect, forward, metrics,
                    version = env!("CARGO_PKG_VERSION"), $message
                )
            };
        }
        if self.warns() {
            listening!(warn, "listening, open to everybody who reaches this port");
        } else {
            listening!(info, "listening");
        }
    }

    fn warns(&self) -> bool {
        self.cluster.is_none()
            && self.access == AccessShown::OpenByDefault
            && !self.address.ip().is_loopback()
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wzp-relay {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  address      {} (udp)", self.address)?;
        match &self.cluster {
            Some((relay, control)) => {
                writeln!(f, "  relay        {relay}")?;
                writeln!(f, "  control      {control}")?;
            }
            None => self.write_standalone(f)?,
        }
        if let Some(reflect) = self.reflect {
            writeln!(f, "  reflect      {reflect} (udp)")?;
        }
        if let Some(Forward { target, certificate }) = &self.forward {
            writeln!(f, "  forwards to  {target}")?;
            if certificate.is_none() {
                writeln!(
                    f,
                    "  warning: the upstream relay is not verified; pin it with --forward-cert"
                )?;
            }
        }
        if let Some(metrics) = self.metrics {
            writeln!(f, "  metrics      http://{metrics}/metrics")?;
        }
        if self.warns() {
            writeln!(
                f,
                "  warning: open to everybody who reaches this port; --secret keeps strangers out"
            )?;
        }
        Ok(())
    }
}

impl Banner {
    fn write_standalone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  certificate  sha256 {}", self.fingerprint)?;
        if !self.kept {
            writeln!(
                f,
                "               new at each start; --cert FILE --key FILE keep one"
            )?;
        }
        match self.access {
            AccessShown::Open | AccessShown::OpenByDefault => writeln!(f, "  access       open"),
            AccessShown::Secret => writeln!(f, "  access       members who know the secret"),
        }
    }
}
