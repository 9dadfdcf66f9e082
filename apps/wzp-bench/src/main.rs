//! Measures WZP. One subcommand per file; each prints for people, or JSON with `--json`.

mod cpu;
mod floor;
mod link;
mod load;
mod report;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the kernel alone costs: bare sendto, and forwarding without crypto
    Floor(floor::Args),
    /// A bad link to test with: a UDP proxy that loses, delays and reorders
    Link(link::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floor(args) => floor::run(args),
        Command::Link(args) => link::run(args),
    }
}
