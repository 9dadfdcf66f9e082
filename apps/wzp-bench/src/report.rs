//! Results for people or for programs.

use std::fmt::Display;

use anyhow::Context;
use serde::Serialize;

/// How to print results.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Format {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

impl Format {
    /// For programs, not for people.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result as soon as it is known.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn print(self, result: &(impl Serialize + Display)) -> anyhow::Result<()> {
        if self.json {
            let line = serde_json::to_string(result).context("writing a result as JSON")?;
            println!("{line}");
        } else {
            println!("{result}");
        }
        Ok(())
    }
}
