//! Logs go to standard error, one line or one JSON object each.

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging for this process.
pub(crate) fn start(log: &Log) {
    // The configuration has parsed this filter before.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if log.json {
        builder.json().init();
    } else {
        builder.init();
    }
}
