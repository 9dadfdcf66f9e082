//! What can go wrong, and whose fault it is.

use std::{error::Error, io, path::PathBuf, time::Duration};

use wzp_identity::SecretError;
use wzp_sdk_core::voice::codec::CodecError;
use wzp_wire::signal::Reason;

use crate::{CertificateHash, TrustError};

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The one who configured the client.
    Usage,
    /// The network, or a relay that is not there.
    Unreachable,
    /// The relay said no.
    Refused,
    /// This program or the relay's.
    Failed,
}

/// Why there is no connection to a relay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// `relay` is not `host:port`, or its name is unknown.
    #[error("relay address `{relay}` can't be resolved, it should be host:port")]
    Address {
        /// What was given.
        relay: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No relay was named.
    #[error("no relay was named")]
    NoRelay,
    /// Nobody answered.
    #[error("relay {relay} does not answer, tried for {:.0} s: is it running, and does UDP get there?", after.as_secs_f64())]
    Unreachable {
        /// What was given.
        relay: String,
        /// How long it was tried.
        after: Duration,
    },
    /// The relay is another one than the user trusts.
    #[error("relay {relay} shows another certificate: expected {expected}, seen {seen}{}", hint(file.as_ref()))]
    Certificate {
        /// What was given.
        relay: String,
        /// The hash that is known.
        expected: CertificateHash,
        /// The hash that it showed.
        seen: CertificateHash,
        /// The known relays file that says so; `None` when the hash was pinned.
        file: Option<PathBuf>,
    },
    /// The known relays file can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The shared secret can't be used.
    #[error("shared secret")]
    Secret(#[source] SecretError),
    /// The relay refused us.
    #[error("relay refused the connection: {text}")]
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// Why, for people.
        text: String,
    },
    /// The relay does not speak as agreed.
    #[error("relay broke the protocol: {0}")]
    Protocol(&'static str),
    /// QUIC failed otherwise.
    #[error("connection to relay {relay} failed")]
    Quic {
        /// What was given.
        relay: String,
        /// What QUIC said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The socket can't be set up.
    #[error("socket can't be set up")]
    Socket(#[source] io::Error),
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// The control plane of the cluster does not help.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Why the control plane of a cluster does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The URL can't be used.
    #[error("control plane `{url}`: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It does not answer.
    #[error("control plane {url} can't be reached")]
    Unreachable {
        /// What was given.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It said no, or that it can't.
    #[error("control plane refused: {text} ({code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, for programs; `unknown` when it did not say.
        code: String,
        /// Why, for people.
        text: String,
    },
    /// It does not speak as agreed.
    #[error("control plane broke the protocol: {0}")]
    Protocol(&'static str),
    /// There is no certificate that this system trusts.
    #[error("this system trusts no certificates, so https can't be used; set SSL_CERT_FILE")]
    NoRoots,
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
}

impl ControlError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Url { .. } | Self::NoRoots => Fault::Usage,
            Self::Unreachable { .. } => Fault::Unreachable,
            Self::Refused { status: 500.., .. } => Fault::Unreachable,
            Self::Refused { .. } => Fault::Refused,
            Self::Protocol(_) | Self::Tls(_) => Fault::Failed,
        }
    }

    /// Whether it is simply not there, which is no reason not to use what is known.
    pub(crate) fn is_absence(&self) -> bool {
        self.fault() == Fault::Unreachable
    }
}

fn hint(file: Option<&PathBuf>) -> String {
    file.map_or_else(String::new, |file| {
        format!(
            ". If the relay was set up anew, remove its line from {}",
            file.display()
        )
    })
}

impl ConnectError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoRelay | Self::Trust(_) | Self::Secret(_) => Fault::Usage,
            Self::Address { .. } | Self::Unreachable { .. } | Self::Quic { .. } => Fault::Unreachable,
            Self::Certificate { .. } | Self::Refused { .. } => Fault::Refused,
            Self::Protocol(_) | Self::Socket(_) | Self::Tls(_) => Fault::Failed,
            Self::Control(error) => error.fault(),
        }
    }
}

/// Why there is no call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The relay refused us.
    #[error("relay refused to let us into the room: {text}")]
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// Why, for people.
        text: String,
    },
    /// The client is in a room already: leave it first, or make another client.
    #[error("this client is in a room already")]
    Busy,
    /// The connection to the relay ended.
    #[error("connection to the relay was lost")]
    RelayLost,
    /// The relay did not answer.
    #[error("relay did not answer within {} s", after.as_secs())]
    Timeout {
        /// How long it was waited.
        after: Duration,
    },
    /// The control plane of the cluster does not help.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// None of the relays that the room was given to can be used.
    #[error("none of {} relays of the room can be used, {relay} among them", asked)]
    NoRelay {
        /// How many were tried.
        asked: usize,
        /// The one that says most.
        relay: String,
        /// What is wrong with it.
        #[source]
        source: Box<ConnectError>,
    },
    /// The codec libraries failed.
    #[error("codec can't be set up")]
    Codec(#[from] CodecError),
}

impl JoinError {
    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused { .. } => Fault::Refused,
            Self::Busy => Fault::Usage,
            Self::RelayLost | Self::Timeout { .. } => Fault::Unreachable,
            Self::Control(error) => error.fault(),
            Self::NoRelay { source, .. } => source.fault(),
            Self::Codec(_) => Fault::Failed,
        }
    }
}
