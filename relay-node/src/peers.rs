//! Sessions with other relays of the cluster, one for each pair that shares a room.
//!
//! Each end tells the other of its own members. The relay whose name sorts first calls; one that is being emptied calls
//! whoever serves its rooms next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{select, task::JoinHandle, time};
use tracing::{debug, info, warn};
use wzp_relay_core::{admission::Refusal, backoff::Backoff, probe::wrapping_us, trunk::Side};
use wzp_socket::clock;
use wzp_wire::{
    Epoch, Ping, RelayId, RoomName, SenderId,
    signal::{Announcement, Kind, Reason, TrunkPeerMessage, proto},
};

use crate::{
    bulletin::News,
    cluster::{Cluster, Listed},
    hall::{Delivery, Told},
    outbound::{Call, CallError, Caller},
    outbox::Cut,
    port::{Link, Port},
    probes,
    random::{SystemRng, random},
    relay::Shared,
    session::{End, code},
};

/// How often the one who called asks whether the other is there. It is heard in between, if it has something to say.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Nothing heard for so long: the control plane is told.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// How long the members behind a session that broke stay seated: a new join of theirs would be a replay to the others.
const GRACE: Duration = Duration::from_secs(15);
/// Changes of who is needed are noticed at once; this is for those who could not be reached.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the sessions that are needed, for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>) {
    let Some(cluster) = relay.cluster.clone() else {
        return;
    };
    let mut calls: BTreeMap<RelayId, Calling> = BTreeMap::new();
    loop {
        calls.retain(|_, call| !call.0.is_finished());
        for (peer, _) in relay.hall.wanted_peers().into_iter().filter(|(_, calls)| *calls) {
            calls.entry(peer.clone()).or_insert_with(|| {
                let (relay, caller) = (Arc::clone(&relay), Arc::clone(&caller));
                Calling(tokio::spawn(keep_calling(relay, caller, peer)))
            });
        }
        select! {
            () = cluster.peers_changed.notified() => {}
            () = time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Ends with the relay.
struct Calling(JoinHandle<()>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls `peer` for as long as it is needed and listed.
async fn keep_calling(relay: Arc<Shared>, caller: Arc<Caller>, peer: RelayId) {
    let Some(cluster) = &relay.cluster else { return };
    let mut backoff = Backoff::default();
    loop {
        let needed = relay.hall.wanted_peers().contains(&(peer.clone(), true));
        let Some(listed) = cluster.listed().get(&peer).cloned().filter(|_| needed) else {
            return;
        };
        match call(cluster, &caller, &peer, &listed).await {
            Ok(call) => {
                backoff.reset();
                carry(&relay, &caller, call).await;
            }
            Err(error) => debug!(%peer, %error, "cannot reach a peer"),
        }
        time::sleep(backoff.next(&mut SystemRng)).await;
    }
}

async fn call(
    cluster: &Cluster,
    caller: &Caller,
    peer: &RelayId,
    listed: &Listed,
) -> Result<Call, CallError> {
    let mut last = CallError::NoAddress;
    for &address in &listed.addresses {
        let config = crate::keys::peer_client(&cluster.keys, peer.clone())?;
        let link = Link {
            relay: peer.clone(),
            side: Side::Downstream,
        };
        match caller.call_peer(address, config, link).await {
            Ok(call) => return Ok(call),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A session that we called, to its end.
async fn carry(relay: &Arc<Shared>, caller: &Caller, mut call: Call) {
    let Call {
        port, reader, writer, ..
    } = &mut call;
    let port = &*port;
    began(relay, port);
    let cut = writer.cut();
    let reading = async {
        loop {
            let message = match reader.next().await {
                Ok(message) => message,
                Err(end) => return end,
            };
            if let Some(kind) = message.kind
                && let Err(refusal) = handle(relay, port, kind)
            {
                return End::Refused(refusal);
            }
        }
    };
    let end = select! {
        end = reading => end,
        end = writer.run() => end,
        end = crate::session::datagrams(relay, port) => end,
        end = watch(relay, port) => end,
        why = cut => match why {
            Cut::SlowReader(slow) => End::SlowReader(slow),
            Cut::Goodbye(refusal) => End::Refused(refusal),
        },
        () = ask(caller, port) => End::Left,
        () = relay.stopping() => End::Shutdown,
    };
    ended(relay, port, &end);
    let reason = match end {
        End::Shutdown => Reason::ShuttingDown,
        _ => Reason::UpstreamLost,
    };
    port.connection.close(code(reason), b"the session has ended");
}

async fn ask(caller: &Caller, port: &Port) {
    let mut every = time::interval(ASK_EVERY);
    loop {
        every.tick().await;
        let ping = Ping {
            nonce: random(),
            probe: true,
            sent_us: wrapping_us(clock::now()),
        };
        probes::send(caller, port, &ping);
    }
}

/// Tells the control plane when nothing is heard over a lane. Never ends a session: QUIC does.
pub(crate) async fn watch(relay: &Shared, port: &Port) -> End {
    let mut every = time::interval(ASK_EVERY);
    let mut is_down = false;
    loop {
        every.tick().await;
        let Some(lane) = &*port.lane() else { continue };
        let silent = clock::now().duration_since(lane.alive.opened_at());
        if silent >= SILENT_AFTER && !is_down {
            tell_down(relay, port, silent);
        }
        is_down = silent >= SILENT_AFTER;
    }
}

fn tell_down(relay: &Shared, port: &Port, silent: Duration) {
    let (Some(cluster), Some(link)) = (&relay.cluster, &port.link) else {
        return;
    };
    warn!(peer = %link.relay, ?silent, "a peer does not answer");
    relay.metrics.peer_down();
    let boot = cluster.listed().get(&link.relay).map(|listed| listed.boot);
    cluster.bulletin.news(&News::PeerDown {
        relay: link.relay.clone(),
        boot: boot.unwrap_or_default(),
        silent,
    });
}

/// Both ends are there.
pub(crate) fn began(relay: &Arc<Shared>, port: &Arc<Port>) {
    let Some(link) = &port.link else { return };
    info!(peer = %link.relay, "peer connected");
    if let Some(before) = relay.hall.peer_up(port) {
        let text = "another session with the same relay";
        before
            .outbox
            .cut(Cut::Goodbye(Refusal::new(Reason::Replaced, text)));
        tokio::spawn(lose_later(Arc::clone(relay), before));
    }
}

/// A session is over. A relay that stops takes its members with it; one that was cut off may come back.
pub(crate) fn ended(relay: &Arc<Shared>, port: &Arc<Port>, end: &End) {
    use quinn::ConnectionError::ApplicationClosed;
    let Some(link) = &port.link else { return };
    relay.hall.peer_down(port);
    let closed = port.connection.close_reason();
    let stopped = code(Reason::ShuttingDown);
    if matches!(closed, Some(ApplicationClosed(close)) if close.error_code == stopped) {
        info!(peer = %link.relay, "peer stopped");
        return relay.hall.lose_peer(port);
    }
    info!(peer = %link.relay, ?end, "peer lost");
    if matches!(end, End::Idle | End::Broken(_)) {
        tell_down(relay, port, SILENT_AFTER);
    }
    tokio::spawn(lose_later(Arc::clone(relay), Arc::clone(port)));
}

async fn lose_later(relay: Arc<Shared>, port: Arc<Port>) {
    time::sleep(GRACE).await;
    relay.hall.lose_peer(&port);
}

/// What a peer says.
pub(crate) fn handle(relay: &Shared, port: &Arc<Port>, kind: Kind) -> Result<(), Refusal> {
    let malformed = || Refusal::new(Reason::Malformed, "a peer's message is out of its range");
    let handle = |field: u32| {
        let side = port.link.as_ref().map(|link| link.side);
        side.and_then(|side| side.parse_peer(field)).ok_or_else(malformed)
    };
    match kind {
        Kind::TrunkMemberJoined(proto::TrunkMemberJoined {
            room,
            member: Some(member),
            epoch,
        }) => {
            let told = Told {
                room: &RoomName::parse(&room).map_err(|_| malformed())?,
                handle: handle(member.handle)?,
                sender: SenderId::from_field(member.sender).ok_or_else(malformed)?,
                announcement: &Announcement::new(member.announcement).ok_or_else(malformed)?,
                epoch: Epoch(epoch),
            };
            if let Err(error) = relay.hall.peer_joined(port, &told) {
                relay.refused(Refusal::from(error).reason);
            }
        }
        Kind::TrunkMemberLeft(left) => relay.hall.peer_left(port, handle(left.handle)?),
        Kind::TrunkPeerMessage(message) => {
            let TrunkPeerMessage { from, to, payload } = message.try_into()?;
            let from = handle(from.into())?;
            let delivery = relay.hall.message_of_peer(port, from, to, payload.into_vec());
            if delivery == Delivery::Lost {
                relay.metrics.peer_message_lost();
            }
        }
        // A goodbye is followed by the end; others are from a version that is ahead of us by one.
        _ => {}
    }
    Ok(())
}
