//! The WZP relay: a QUIC server that forwards sealed media between the members of rooms.
//!
//! ```text
//! IO threads (one socket each)      media ──▶ core::forward ──▶ lanes, QUIC datagrams, trunks
//!      │ QUIC packets                 ▲ FanOut, swapped
//!      ▼                              │
//! quinn endpoint ──▶ doors ──▶ session (a task each) ──▶ hall (core::Rooms behind one lock)
//!                                        └──▶ upstream, probes: the same, as the client of another relay
//! ```
//!
//! [`Config`] says everything, [`Relay::bind`] binds, [`Relay::run`] serves until a signal.

mod banner;
mod beside;
mod bulletin;
mod cert;
mod cluster;
mod config;
mod control;
mod doors;
mod drain;
mod frames;
mod hall;
mod http;
mod keys;
mod lanes;
mod load;
mod logging;
mod media;
mod metrics;
mod outbound;
mod outbox;
mod peers;
mod port;
mod probes;
mod random;
mod refusals;
mod relay;
mod session;
mod signals;
mod tls;
mod upstream;

pub use banner::{AccessShown, Banner};
pub use cert::{Certificate, CertificateError};
pub use config::{
    Access, Advertise, Args, CertificateFiles, Cluster, Config, ConfigError, ControlUrl, Fingerprint,
    Forward, JoinToken, Limits, Listen, Log, Place, Target,
};
pub use relay::Relay;

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// The whole program: reads the command line, says where it listens, serves until a signal says stop.
pub fn main() -> ExitCode {
    let config = match Config::from_command_line() {
        Ok(config) => config,
        Err(code) => return code,
    };
    logging::start(&config.log);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can be told, the exit code has to do.
            let _ = writeln!(io::stderr(), "wzp-relay: {error:#}");
            exit_code(&error)
        }
    }
}

/// Files that the operator named and that are not what they should be are wrong configuration too.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let of_certificate = error
        .downcast_ref()
        .is_some_and(CertificateError::is_configuration);
    let of_pair = matches!(error.downcast_ref(), Some(tls::TlsError::Certificate(_)));
    if of_certificate || of_pair {
        ExitCode::from(config::EX_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(quic_threads(config.quic_threads))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let relay = Relay::bind(config).await?;
        relay.banner().show();
        relay.run().await
    })
}

/// Fewer than cores unless said otherwise: a packet that wakes a second thread pays for that too, and the IO threads have
/// most of the work.
fn quic_threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        wanted => wanted,
    }
}
