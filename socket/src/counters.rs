//! What a socket counts. Plain atomics: the shell above exports them.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows, except where its doc says otherwise.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Overwrites the number, for a gauge that the kernel counts.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The counters of one IO thread, or of a client's socket.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: Counter,)+ }

        /// The sum of several [`Counters`] at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Totals { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Totals {
            /// Adds the present values of `counters`.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.value());)+
            }

            /// Every counter by its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Moves at each turn of the IO loop, at least once per [`tick`](crate::relay::Config::tick): liveness.
    ticks,
    /// Moves for each datagram that the kernel handed over.
    received,
    /// Moves for each batch that came back full: the loop has more to do than one batch.
    full_batches,
    /// The kernel's own count of datagrams dropped because the receive buffer was full.
    kernel_dropped,
    /// Moves for a datagram longer than a receive slot, which is dropped.
    dropped_oversized,
    /// Moves for a datagram that is neither QUIC nor a lane packet.
    dropped_malformed,
    /// Moves for each datagram taken out of a lane packet that opened.
    lane_opened,
    /// Moves for a lane packet whose id nobody holds; it gets no answer.
    lane_unknown,
    /// Moves for a lane packet seen before, or older than the replay window.
    lane_replayed,
    /// Moves for a lane packet that does not open.
    lane_failed,
    /// Moves for a lane-like packet handed to QUIC, since it may be a stateless reset.
    reset_candidates,
    /// Moves for each QUIC packet queued for the endpoint.
    quic_queued,
    /// Moves for a packet dropped because the queue is full, or strangers' half of it.
    quic_dropped_full,
    /// Moves for a QUIC packet that the endpoint's buffers could not hold.
    quic_dropped_oversized,
    /// Moves for each datagram that the kernel took.
    sent,
    /// Moves for a datagram that the kernel refused for its own sake (unreachable, not permitted, too long).
    send_failed,
    /// Moves for a datagram dropped because the send buffer was full.
    send_dropped_full,
    /// Moves for a datagram that a lane refused to seal (unconfirmed, exhausted, too long).
    seal_refused,
    /// Moves for an opened datagram dropped, the oldest first, because nobody fetched it from the queue.
    inbox_dropped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_sum_by_name() {
        let (a, b) = (Counters::default(), Counters::default());
        a.sent.add(2);
        b.sent.add(3);
        let mut totals = Totals::default();
        totals.add(&a);
        totals.add(&b);
        assert_eq!(
            totals.named().find(|(name, _)| *name == "sent"),
            Some(("sent", 5))
        );
    }
}
