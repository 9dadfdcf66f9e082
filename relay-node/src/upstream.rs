//! The downstream side of a trunk: this relay's members are carried to another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{select, sync::Notify, time};
use tracing::{info, warn};
use wzp_relay_core::{
    admission::Refusal,
    trunk::{Listing, Side},
    uplink::{self, Tell, Uplink},
};
use wzp_socket::clock;
use wzp_wire::signal::{
    Kind, Reason, Role, TrunkJoin, TrunkJoined, TrunkMember, TrunkPeerMessage,
    proto::{self, NoticeKind},
};
use wzp_wire::{Instant, RoomName};

use crate::{
    config::Forward,
    frames,
    hall::{Delivery, Hall, Newcomer},
    outbound::{Backoff, Call, Caller},
    outbox::Cut,
    port::{Port, Seats},
    relay::Shared,
    session::{End, code, lose_later},
};

/// The upstream relay, and which of our members it is to know.
pub(crate) struct Upstream {
    forward: Forward,
    uplink: Mutex<Uplink<TrunkJoin>>,
    /// Somebody's turn may have come nearer.
    changed: Notify,
}

impl Upstream {
    pub(crate) fn new(forward: Forward) -> Self {
        Self {
            forward,
            uplink: Mutex::new(Uplink::new(uplink::Config::default())),
            changed: Notify::new(),
        }
    }

    /// A member of ours has joined: tells the upstream relay, now or when it is there and has time.
    pub(crate) fn announce(&self, hall: &Hall, join: TrunkJoin) {
        let (now, handle) = (clock::now(), join.handle);
        let told = {
            let mut uplink = self.uplink();
            uplink.handle_join(now, handle, join);
            bring(&mut uplink, hall, now);
            uplink.poll_tell(handle)
        };
        self.changed.notify_one();
        tell(hall, handle, told);
    }

    /// The member is about to leave.
    pub(crate) fn withdraw(&self, handle: u16) {
        self.uplink().handle_leave(handle);
    }

    /// Members who wait for their turn, or for the upstream relay.
    pub(crate) fn waiting(&self) -> usize {
        self.uplink().waiting()
    }

    /// From now on the upstream relay hears of joins as they happen; of those before, as fast as it takes them. Under
    /// one lock, so that it hears of each once.
    fn connected(&self, hall: &Hall, port: &Arc<Port>) {
        let mut uplink = self.uplink();
        hall.set_upstream(Some(Arc::clone(port)));
        uplink.handle_connected();
    }

    fn lost(&self, hall: &Hall) {
        let members = {
            let mut uplink = self.uplink();
            hall.set_upstream(None);
            uplink.handle_lost(clock::now())
        };
        for handle in members {
            tell(hall, handle, Some(Tell::Lost));
        }
    }

    /// Brings everybody whose turn it is, for as long as the trunk is up.
    async fn keep_bringing(&self, hall: &Hall) {
        loop {
            let wait = {
                let now = clock::now();
                let mut uplink = self.uplink();
                bring(&mut uplink, hall, now);
                uplink.poll_timeout().map(|at| at.duration_since(now))
            };
            let turn = async {
                match wait {
                    Some(wait) => time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                () = turn => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn joined(&self, hall: &Hall, handle: u16) {
        let told = self.uplink().handle_joined(handle);
        tell(hall, handle, told);
    }

    /// The upstream relay has refused a member for a reason that passes.
    fn refused_for_now(&self, hall: &Hall, handle: u16) {
        let told = {
            let mut uplink = self.uplink();
            uplink.handle_refused(clock::now(), handle);
            uplink.poll_tell(handle)
        };
        self.changed.notify_one();
        tell(hall, handle, told);
    }

    fn uplink(&self) -> MutexGuard<'_, Uplink<TrunkJoin>> {
        self.uplink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bring(uplink: &mut Uplink<TrunkJoin>, hall: &Hall, now: Instant) {
    while let Some((_, join)) = uplink.poll(now) {
        hall.send_upstream(frames::frame(Kind::TrunkJoin(join.clone().into())));
    }
}

/// Whoever follows `docs/crypto.md` joins anew when the upstream relay is restored: who has only waited is told so in
/// another way, or would wait again.
fn tell(hall: &Hall, handle: u16, what: Option<Tell>) {
    let (Some(what), Some(member)) = (what, hall.own(handle)) else {
        return;
    };
    let (kind, text) = match what {
        Tell::Lost => (
            NoticeKind::UpstreamLost,
            "members behind the upstream relay cannot be heard for now",
        ),
        Tell::Restored => (
            NoticeKind::UpstreamRestored,
            "members behind the upstream relay can be heard again",
        ),
        Tell::Waiting => (
            NoticeKind::Unspecified,
            "the upstream relay is busy: members behind it cannot be heard yet",
        ),
        Tell::Brought => (
            NoticeKind::Unspecified,
            "members behind the upstream relay can be heard now",
        ),
    };
    member.outbox.push(frames::notice(kind, text));
}

/// Keeps the trunk up for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>) {
    let Some(upstream) = &relay.upstream else { return };
    let Forward { target, certificate } = &upstream.forward;
    let mut backoff = Backoff::default();
    loop {
        match caller
            .call(target, Role::Relay, *certificate, Seats::trunk())
            .await
        {
            Ok(call) => {
                info!(%target, "upstream relay connected");
                backoff.reset();
                relay.metrics.upstream(true);
                let end = carry(&relay, upstream, call).await;
                relay.metrics.upstream(false);
                warn!(%target, ?end, "upstream relay lost");
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
        let mut listing = Listing::default();
        loop {
            match reader.next().await {
                Ok(message) => {
                    if let Err(refusal) = message
                        .kind
                        .map_or(Ok(()), |kind| handle(relay, upstream, port, &mut listing, kind))
                    {
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
        why = cut => match why {
            Cut::SlowReader(slow) => End::SlowReader(slow),
            Cut::Goodbye(refusal) => End::Refused(refusal),
        },
        () = upstream.keep_bringing(&relay.hall) => End::Left,
    };
    upstream.lost(&relay.hall);
    tokio::spawn(lose_later(Arc::downgrade(relay), Arc::clone(port)));
    port.connection
        .close(code(Reason::UpstreamLost), b"the trunk has ended");
    end
}

fn handle(
    relay: &Shared,
    upstream: &Upstream,
    port: &Arc<Port>,
    listing: &mut Listing,
    kind: Kind,
) -> Result<(), Refusal> {
    if !matches!(kind, Kind::TrunkJoined(_)) {
        listing.handle_other();
    }
    match kind {
        Kind::TrunkJoined(part) => {
            let part = TrunkJoined::try_from(part)?;
            upstream.joined(&relay.hall, part.handle);
            if let Some(room) = listing.handle_part(&part, relay.hall.room_of(part.handle)) {
                let members = part.members.iter();
                members.for_each(|member| enter(relay, port, &room, member));
            }
            if let Some(whole) = listing.poll_whole() {
                relay.hall.trunk_listed(port, &whole);
            }
        }
        Kind::TrunkMemberJoined(proto::TrunkMemberJoined {
            room,
            member: Some(member),
            ..
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
            let Ok(handle) = u16::try_from(refused.handle) else {
                return Ok(());
            };
            if uplink::passes_by_itself(reason) {
                upstream.refused_for_now(&relay.hall, handle);
            } else if let Some(member) = relay.hall.own(handle) {
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
        relay.refused(Refusal::from(error).reason);
    }
}
