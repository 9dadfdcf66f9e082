//! Whole-system tests of WZP: the relay as a process, real sockets, members through the SDK.
//!
//! This library is the test bed. Whatever it cannot do ends the test, with what it was about to do.
//!
//! * [`beside`]: a call that should not notice what a test does.
//! * [`cluster`]: `wzp-control` and its relays as processes.
//! * [`control`]: a control plane that puts every room on the same relays.
//! * [`process`]: our binaries, built once, killed at the end of a test.
//! * [`relay`]: `wzp-relay` as a process, and its metrics.
//! * [`member`]: a member of a call through the SDK, with a tone to say and [`ears`] to hear with.
//! * [`wire`]: a client of nothing but the wire, that can misbehave.
//! * [`link`]: a bad link.
//! * [`tap`]: a UDP proxy that sees, drops, keeps and makes up packets.

#![expect(clippy::unwrap_used, reason = "a test bed: what fails here fails the test")]

pub mod beside;
pub mod cluster;
pub mod control;
pub mod ears;
pub mod link;
pub mod member;
pub mod process;
pub mod relay;
pub mod tap;
pub mod wire;

use std::time::{Duration, Instant};

/// Longest wait for anything that takes no time of its own; generous, as the machine may be busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `look` finds something.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn until<V>(what: &str, look: impl FnMut() -> Option<V>) -> V {
    until_within(PATIENCE, what, look).await
}

/// As [`until`], for something that takes its time.
///
/// # Panics
/// When that takes longer than `patience`.
pub async fn until_within<V>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<V>) -> V {
    let (began, mut every) = (Instant::now(), tokio::time::interval(LOOK_EVERY));
    loop {
        every.tick().await;
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < patience,
            "waited {} s for {what}",
            patience.as_secs()
        );
    }
}

/// Waits for `future`.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}
