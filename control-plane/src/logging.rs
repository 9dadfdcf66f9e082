//! Logs go to standard error, one line or one JSON object each.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging for this process.
pub(crate) fn start(log: &Log) {
    // The configuration has parsed this filter before.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for terminals; a log file or a collector gets plain text.
        .with_ansi(std::io::stderr().is_terminal())
        // What cannot be logged is lost; complaining of it on the same standard error would be a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if log.json {
        builder.json().init();
    } else {
        builder.init();
    }
}
