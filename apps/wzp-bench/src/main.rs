//! Measures WZP. One subcommand per file; each prints for people, or JSON with `--json`.

mod components;
mod cpu;
mod floor;
mod join;
mod link;
mod load;
mod pipeline;
mod relay;
mod report;
mod speech;
mod voice;

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
    /// From connecting to the first sound, in a room of 20
    Join(join::Args),
    /// A bad link to test with: a UDP proxy that loses, delays and reorders
    Link(link::Args),
    /// What each part costs, and a whole client at once
    Components(components::Args),
    /// A relay as its own process under load, against forwarding without crypto
    Relay(relay::Args),
    /// Recorded speech through every tier and loss: quality, intelligibility, rate, delay
    Voice(voice::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floor(args) => floor::run(args),
        Command::Join(args) => join::run(args),
        Command::Link(args) => link::run(args),
        Command::Components(args) => components::run(args),
        Command::Relay(args) => relay::run(args),
        Command::Voice(args) => voice::run(args),
    }
}
