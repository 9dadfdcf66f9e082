//! What each part costs: criterion's benches, and the whole client at once.

mod criterion;
mod full_duplex;

use std::path::PathBuf;

use crate::report::Format;

/// Measures the parts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the CPU share of a whole client: noise suppressor, sender and receiver on recorded speech
    #[arg(long)]
    full_duplex: bool,
    /// Folder with recorded speech, mono WAV files
    #[arg(long, default_value = "target/speech/48k")]
    speech: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Runs criterion's benches (unless only the whole client is asked for), then the whole client.
///
/// # Errors
/// When cargo fails, or recorded speech is missing.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        full_duplex,
        speech,
        format,
    } = args;
    if !full_duplex {
        for part in criterion::run()? {
            format.print(&part)?;
        }
    }
    for tier in full_duplex::run(&speech)? {
        format.print(&tier)?;
    }
    Ok(())
}
