//! Measuring the way to other relays: a PING a second on a lane of its own, or over QUIC where there is none.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{select, time};
use tracing::{debug, field::display, info, warn};
use wzp_relay_core::probe::{Probe, Standing};
use wzp_socket::{clock, send::Extras};
use wzp_wire::{Datagram, Instant, Ping, datagram::PING_LEN, signal::Role};

use crate::{
    config::Target,
    outbound::{Backoff, Call, CallError, Caller},
    port::{Port, Seats},
    random::SystemRng,
    relay::Shared,
};

/// Probes `target` for as long as the relay runs, into `probe`.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>, target: Target, probe: Arc<Mutex<Probe>>) {
    let mut prober = Prober {
        relay,
        caller,
        target,
        probe,
        said: Standing::Unknown,
        trouble: None,
    };
    let mut backoff = Backoff::default();
    loop {
        match prober.connect().await {
            Ok(call) => {
                backoff.reset();
                prober.trouble = None;
                prober.ping_until_closed(call).await;
                lock(&prober.probe).handle_disconnect();
            }
            Err(error) => {
                debug!(target = %prober.target, %error, "cannot probe");
                prober.trouble = Some(error);
            }
        }
        select! {
            () = backoff.wait() => {}
            never = prober.miss_pings() => match never {},
        }
    }
}

struct Prober {
    relay: Arc<Shared>,
    caller: Arc<Caller>,
    target: Target,
    probe: Arc<Mutex<Probe>>,
    /// What the log was told last.
    said: Standing,
    /// Why there was no connection the last time.
    trouble: Option<CallError>,
}

impl Prober {
    async fn connect(&mut self) -> Result<Call, CallError> {
        let (caller, target) = (Arc::clone(&self.caller), self.target.clone());
        let seats = Seats::Probe(Arc::clone(&self.probe));
        select! {
            called = caller.call(&target, Role::Probe, None, seats) => called,
            never = self.miss_pings() => match never {},
        }
    }

    /// While there is no connection, PINGs are lost as they become due.
    async fn miss_pings(&mut self) -> Infallible {
        loop {
            self.turn(Probe::handle_disconnected).await;
        }
    }

    async fn ping_until_closed(&mut self, mut call: Call) {
        let (relay, caller) = (Arc::clone(&self.relay), Arc::clone(&self.caller));
        // Nothing is expected but a goodbye; a lane's PONGs come in on the IO threads.
        let closed = async { while call.reader.next().await.is_ok() {} };
        let pongs = crate::session::datagrams(&relay, &call.port);
        let pings = async {
            loop {
                let send_due = |probe: &mut Probe, now| {
                    if let Some(ping) = probe.poll_transmit(now, &mut SystemRng) {
                        send(&caller, &call.port, &ping);
                    }
                    probe.poll_timeout()
                };
                self.turn(send_due).await;
            }
        };
        select! {
            () = closed => {}
            _ = pongs => {}
            () = pings => {}
            _ = call.writer.run() => {}
        }
    }

    /// Does what is due, tells how things are, and waits until something is due again.
    async fn turn(&mut self, due: impl FnOnce(&mut Probe, Instant) -> Instant) {
        let wait = {
            let mut probe = lock(&self.probe);
            let now = clock::now();
            probe.handle_timeout(now);
            due(&mut probe, now).duration_since(now)
        };
        self.tell();
        time::sleep(wait).await;
    }

    fn tell(&mut self) {
        let (standing, estimate) = {
            let probe = lock(&self.probe);
            self.relay.metrics.probe(&self.target.name, &probe);
            (probe.standing(), probe.estimate())
        };
        if standing == self.said {
            return;
        }
        self.said = standing;
        let target = &self.target;
        if standing == Standing::Reachable {
            info!(%target, rtt = ?estimate.rtt.unwrap_or_default(), "the probed relay answers");
        } else {
            let error = self.trouble.as_ref().map(display);
            warn!(%target, error, "the probed relay does not answer");
        }
    }
}

/// Sends a PING to `port`, over its lane if it has one.
pub(crate) fn send(caller: &Caller, port: &Port, ping: &Ping) {
    let mut buf = [0; PING_LEN + 64];
    let Some(lane) = &*port.lane() else {
        if Datagram::Ping(*ping).encode(&mut buf).is_ok() {
            // A connection on its way out is noticed by its reader.
            let _ = port
                .connection
                .send_datagram(Bytes::copy_from_slice(buf.get(..PING_LEN).unwrap_or_default()));
        }
        return;
    };
    let sealer = &lane.out.sealer;
    let now = clock::now();
    let encoded = buf
        .get_mut(sealer.header_len()..)
        .and_then(|room| Datagram::Ping(*ping).encode(room).ok());
    let Some(len) = encoded else { return };
    let spin = ping.nonce.first().is_some_and(|byte| byte & 1 == 1);
    if let Ok((len, counter)) = sealer.seal_ping(now, &mut buf, len, spin) {
        lane.alive.handle_ping_sent(now, ping.nonce, counter);
        caller.sender.send(
            &lane.out.address(),
            Extras::default(),
            buf.get(..len).unwrap_or_default(),
        );
    }
}

fn lock(probe: &Mutex<Probe>) -> MutexGuard<'_, Probe> {
    probe.lock().unwrap_or_else(PoisonError::into_inner)
}
