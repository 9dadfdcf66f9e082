//! Measuring the way to other relays: a PING a second on a lane of its own, or over QUIC where there is none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::{select, time};
use tracing::{debug, info};
use wzp_relay_core::probe::Probe;
use wzp_socket::{clock, send::Extras};
use wzp_wire::{Datagram, Ping, datagram::PING_LEN, signal::Role};

use crate::{
    config::Target,
    outbound::{Backoff, Call, Caller},
    port::{Port, Seats},
    random::SystemRng,
    relay::Shared,
};

/// Probes `target` for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>, target: Target) {
    let probe = Arc::<Mutex<Probe>>::default();
    let mut backoff = Backoff::default();
    loop {
        match caller
            .call(&target, Role::Probe, None, Seats::Probe(Arc::clone(&probe)))
            .await
        {
            Ok(call) => {
                info!(%target, "probing");
                backoff.reset();
                ping_until_closed(&relay, &caller, &target, &probe, call).await;
                lock(&probe).handle_disconnect();
            }
            Err(error) => debug!(%target, %error, "cannot probe"),
        }
        publish(&relay, &target, &probe, false);
        backoff.wait().await;
    }
}

async fn ping_until_closed(
    relay: &Shared,
    caller: &Caller,
    target: &Target,
    probe: &Mutex<Probe>,
    mut call: Call,
) {
    // Nothing is expected but a goodbye; a lane's PONGs come in on the IO threads.
    let closed = async { while call.reader.next().await.is_ok() {} };
    let pongs = crate::session::datagrams(relay, &call.port);
    let pings = async {
        loop {
            let wait = {
                let mut probe = lock(probe);
                let now = clock::now();
                probe.handle_timeout(now);
                if let Some(ping) = probe.poll_transmit(now, &mut SystemRng) {
                    send(caller, &call.port, &ping);
                }
                probe.poll_timeout().duration_since(now)
            };
            publish(relay, target, probe, true);
            time::sleep(wait).await;
        }
    };
    select! {
        () = closed => {}
        _ = pongs => {}
        () = pings => {}
        _ = call.writer.run() => {}
    }
}

fn send(caller: &Caller, port: &Port, ping: &Ping) {
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

fn publish(relay: &Shared, target: &Target, probe: &Mutex<Probe>, reachable: bool) {
    let probe = lock(probe);
    relay
        .metrics
        .probe(&target.name, &probe.estimate(), probe.loss(), reachable);
}

fn lock(probe: &Mutex<Probe>) -> MutexGuard<'_, Probe> {
    probe.lock().unwrap_or_else(PoisonError::into_inner)
}
