//! The WZP control plane: knows the relays, places rooms on them, and tells clients where they are.
//!
//! ```text
//! relays ──gRPC──▶ grpc ──▶ plane (core::World behind one lock) ◀── http ◀── clients, operators
//!                              │ what was decided           ▲
//!                              ▼                            │ the list, signed once for each change
//!                            store (SQLite, PostgreSQL)   publish
//! ```
//!
//! A decision is true once it is a row; then relays are told. [`Config`] says everything, [`Control::bind`] binds,
//! [`Control::run`] serves until a signal.

mod authority;
mod banner;
mod check;
mod clock;
mod config;
mod control;
mod grpc;
mod http;
mod keys;
mod logging;
mod metrics;
mod plane;
mod random;
mod signals;
mod store;

pub use banner::{Banner, Shown};
pub use config::{Args, Config, ConfigError, Database, JoinSecret, Log, Rates, RoomPolicy, Span, Url};
pub use control::Control;

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
            let _ = writeln!(io::stderr(), "wzp-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = Control::bind(config).await?;
        control.banner().show();
        control.run().await
    })
}
