//! Forwarding for what does not come in on a lane: QUIC datagrams, read by the sessions' own tasks.

use std::sync::{Arc, Mutex, PoisonError};

use wzp_relay_core::{overload::Overload, stats::Counters};
use wzp_socket::{clock, relay::Sender, send::SendBatch};

use crate::{config::Limits, media::Media, metrics::Rtts, port::Port};

/// A forwarder that tasks share.
pub(crate) struct Beside(Mutex<Parts>);

struct Parts {
    media: Media,
    out: SendBatch,
}

impl Beside {
    pub(crate) fn new(
        sender: &Sender,
        counters: Arc<Counters>,
        rtts: Arc<Rtts>,
        overload: Arc<Overload>,
        limits: &Limits,
    ) -> Self {
        Self(Mutex::new(Parts {
            media: Media::new(counters, rtts, overload, limits),
            out: sender.batch(),
        }))
    }

    /// Forwards one datagram of `port`.
    pub(crate) fn quic_datagram(&self, port: &Arc<Port>, datagram: &[u8]) {
        let now = clock::now();
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { media, out } = &mut *parts;
        media.quic_datagram(now, port, datagram, out);
        media.finish(now, out);
    }
}
