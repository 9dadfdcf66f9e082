//! The downstream side of a trunk: this relay's members are carried to another one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::select;
use tracing::{info, warn};
use wzp_relay_core::{admission::Refusal, trunk::Side};
use wzp_wire::RoomName;
use wzp_wire::signal::{
    Kind, Reason, Role, TrunkJoin, TrunkJoined, TrunkMember, TrunkPeerMessage,
    proto::{self, NoticeKind},
};

use crate::{
    config::Forward,
    frames,
    hall::{Delivery, Hall, Newcomer},
    outbound::{Backoff, Call, Caller},
    port::{Cut, Port, Seats},
    relay::Shared,
    session::{End, code, lose_later},
};

/// The upstream relay, and which of our members it is to know.
pub(crate) struct Upstream {
    forward: Forward,
    /// By handle: told again whenever the upstream relay comes back.
    announced: Mutex<BTreeMap<u16, TrunkJoin>>,
}

impl Upstream {
    pub(crate) fn new(forward: Forward) -> Self {
        Self {
            forward,
            announced: Mutex::default(),
        }
    }

    /// A member of ours has joined: tells the upstream relay, now or when it is there.
    pub(crate) fn announce(&self, hall: &Hall, join: TrunkJoin) {
        let mut announced = self.announced();
        hall.send_upstream(frames::frame(Kind::TrunkJoin(join.clone().into())));
        announced.insert(join.handle, join);
    }

    /// The member is about to leave.
    pub(crate) fn withdraw(&self, handle: u16) {
        self.announced().remove(&handle);
    }

    /// From now on the upstream relay hears of joins as they happen; of those before, now. Under one lock, so that
    /// it hears of each once.
    fn connected(&self, hall: &Hall, port: &Arc<Port>) {
        let announced = self.announced();
        hall.set_upstream(Some(Arc::clone(port)));
        for join in announced.values() {
            port.outbox
                .push(frames::frame(Kind::TrunkJoin(join.clone().into())));
        }
    }

    fn tell_members(&self, hall: &Hall, kind: NoticeKind, text: &str) {
        let handles: Vec<u16> = self.announced().keys().copied().collect();
        let frame = frames::notice(kind, text);
        for port in handles.into_iter().filter_map(|handle| hall.own(handle)) {
            port.outbox.push(frame.clone());
        }
    }

    fn announced(&self) -> MutexGuard<'_, BTreeMap<u16, TrunkJoin>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the trunk up for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>) {
    let Some(upstream) = &relay.upstream else { return };
    let Forward { target, certificate } = &upstream.forward;
    let mut backoff = Backoff::default();
    let mut lost = false;
    loop {
        match caller
            .call(target, Role::Relay, *certificate, Seats::trunk())
            .await
        {
            Ok(call) => {
                info!(%target, "upstream relay connected");
                backoff.reset();
                relay.metrics.upstream(true);
                if std::mem::take(&mut lost) {
                    let text = "members behind the upstream relay can be heard again";
                    upstream.tell_members(&relay.hall, NoticeKind::UpstreamRestored, text);
                }
                let end = carry(&relay, upstream, call).await;
                relay.metrics.upstream(false);
                lost = true;
                warn!(%target, ?end, "upstream relay lost");
                let text = "members behind the upstream relay cannot be heard for now";
                upstream.tell_members(&relay.hall, NoticeKind::UpstreamLost, text);
            }
            Err(error) => warn!(%target, %error, "cannot reach the upstream relay"),
        }
        backoff.wait().await;
    }
}

async fn carry(relay: &Arc<Shared>, upstream: &Upstream, mut call: Call) -> End {
    let Call {
        port, reader, writer, ..
    } = &mut call;
    let port = &*port;
    upstream.connected(&relay.hall, port);
    let cut = writer.cut();
    let reading = async {
        loop {
            match reader.next().await {
                Ok(message) => {
                    if let Err(refusal) = message.kind.map_or(Ok(()), |kind| handle(relay, port, kind)) {
                        return End::Refused(refusal);
                    }
                }
                Err(end) => return end,
            }
        }
    };
    let end = select! {
        end = reading => end,
        end = writer.run() => end,
        end = crate::session::datagrams(relay, port) => end,
        _ = cut => End::SlowReader,
    };
    relay.hall.set_upstream(None);
    tokio::spawn(lose_later(Arc::downgrade(relay), Arc::clone(port)));
    port.connection
        .close(code(Reason::UpstreamLost), b"the trunk has ended");
    end
}

fn handle(relay: &Shared, port: &Arc<Port>, kind: Kind) -> Result<(), Refusal> {
    match kind {
        Kind::TrunkJoined(joined) => {
            let TrunkJoined { handle, members, .. } = joined.try_into()?;
            if let Some(room) = relay.hall.room_of(handle) {
                members
                    .iter()
                    .for_each(|member| enter(relay, port, &room, member));
            }
        }
        Kind::TrunkMemberJoined(proto::TrunkMemberJoined {
            room,
            member: Some(member),
        }) => {
            let member = TrunkMember::try_from(member)?;
            if let Ok(room) = RoomName::parse(&room) {
                enter(relay, port, &room, &member);
            }
        }
        Kind::TrunkMemberLeft(left) => {
            if let Some(handle) = Side::Downstream.parse_peer(left.handle) {
                relay.hall.trunk_leave(port, handle);
            }
        }
        Kind::TrunkPeerMessage(message) => {
            let TrunkPeerMessage { from, to, payload } = message.try_into()?;
            let delivery = relay.hall.trunk_peer_message(port, from, to, payload.into_vec());
            if delivery == Delivery::Lost {
                relay.metrics.peer_message_lost();
            }
        }
        Kind::TrunkRefused(refused) => {
            let reason = refused.reason();
            let member = u16::try_from(refused.handle)
                .ok()
                .and_then(|handle| relay.hall.own(handle));
            if let Some(member) = member {
                member.outbox.cut(Cut::Goodbye(Refusal::new(
                    reason,
                    "refused by the upstream relay",
                )));
            }
        }
        Kind::Goodbye(goodbye) => {
            return Err(Refusal::new(
                Reason::UpstreamLost,
                format!("{:?}", goodbye.reason()),
            ));
        }
        // From a version that is ahead of us by one.
        _ => {}
    }
    Ok(())
}

/// A member that the upstream relay tells of; one too many for this relay is not heard, and nobody else suffers.
fn enter(relay: &Shared, port: &Arc<Port>, room: &RoomName, member: &TrunkMember) {
    let newcomer = Newcomer {
        room,
        announcement: &member.announcement,
        echo: false,
        preferred: Some(member.sender),
    };
    if let Err(error) = relay.hall.trunk_join(port, member.handle, &newcomer) {
        relay.metrics.refused(Refusal::from(error).reason);
    }
}
