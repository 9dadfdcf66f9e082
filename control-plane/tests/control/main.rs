//! A control plane on real sockets, and relays that speak to it message by message.
#![expect(clippy::unwrap_used, reason = "a test")]

mod api;
mod attach;
mod enroll;
mod http;
mod join;
mod moves;
mod process;
mod relay;
mod replicas;
mod server;

use std::time::Duration;

/// Nothing here takes that long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} takes too long"),
    }
}
