//! One task for each connection: greeting, then signalling until somebody ends it.
//!
//! Reading, writing, QUIC datagrams and every way to end are futures of the one task, so that a slow reader stops
//! its own session only.

mod greeting;
mod member;
mod peer;
mod stream;
mod trunk;

use std::{sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Incoming, VarInt};
use tokio::{select, time};
use tracing::{Instrument, debug, debug_span};
use wzp_relay_core::{
    admission::{self, Refusal},
    limits::Prefix,
    stats::Leg,
    trunk::Side,
};
use wzp_socket::relay::{Lane, Session};
use wzp_wire::signal::{Kind, LaneAccept, LaneOffer, Reason, Role, SignalMessage, Welcome};

use crate::{
    doors::{Door, DoorKind},
    frames,
    lanes::{self, Lanes, Numbers},
    outbox::{Cut, Slow, outbox},
    peers,
    port::{Link, Port, Seats},
    relay::{Shared, Ticket},
};
use greeting::Greeted;
pub(crate) use greeting::unix_now;
use member::Member;
use peer::Peer;
pub(crate) use stream::{Reader, Writer};
use trunk::Trunk;
pub(crate) use trunk::lose_later;

/// How the software introduces itself.
pub(crate) const SOFTWARE: &str = concat!("wzp-relay/", env!("CARGO_PKG_VERSION"));
/// How long a last message may take to arrive before the connection is closed.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The other end closed it.
    Left,
    /// Nothing was heard for the idle timeout.
    Idle,
    /// Transport trouble, or a peer that does not speak QUIC properly.
    Broken(ConnectionError),
    /// We end it, with a reason that the other end gets.
    Refused(Refusal),
    /// It did not read what was sent to it.
    SlowReader(Slow),
    /// The relay stops.
    Shutdown,
}

impl End {
    /// Every value of the label `reason`.
    pub(crate) const LABELS: [&str; 7] = [
        "leave",
        "timeout",
        "error",
        "kicked",
        "slow_reader",
        "shutdown",
        "migrated",
    ];

    /// The value of the label `reason`.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Left => "leave",
            Self::Idle => "timeout",
            Self::Broken(_) => "error",
            Self::Refused(refusal) if refusal.reason == Reason::Moved => "migrated",
            Self::Refused(_) => "kicked",
            Self::SlowReader(_) => "slow_reader",
            Self::Shutdown => "shutdown",
        }
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Self::Left,
            ConnectionError::ConnectionClosed(_) => Self::Left,
            ConnectionError::TimedOut | ConnectionError::Reset => Self::Idle,
            other => Self::Broken(other),
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves one connection to its end.
///
/// Both stages are boxed: what only the greeting needs does not stay for as long as its member does.
pub(crate) async fn serve(relay: Arc<Shared>, door: Arc<Door>, incoming: Box<Incoming>) {
    let Some(visitor) = Box::pin(receive(&relay, &door, *incoming)).await else {
        return;
    };
    let Visitor {
        connection,
        greeted,
        _ticket,
        _known,
    } = visitor;
    let span = debug_span!("session", peer = %connection.remote_address(), role = ?greeted.role);
    Box::pin(run(&relay, &door.lanes, &connection, greeted))
        .instrument(span)
        .await;
}

/// Somebody who was let in.
struct Visitor {
    connection: Connection,
    greeted: Box<Greeted>,
    _ticket: Ticket,
    _known: Session,
}

/// Handshake and greeting; `None` if that comes to nothing, which the other end has been told then.
async fn receive(relay: &Arc<Shared>, door: &Door, incoming: Incoming) -> Option<Visitor> {
    let began = time::Instant::now();
    let deadline = began + relay.limits.unauthenticated;
    let prefix = Prefix::of(incoming.remote_address().ip());
    let mut ticket = match relay.ticket(prefix) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            turn_away(relay, incoming, &refusal, deadline).await;
            return None;
        }
    };
    let Ok(connecting) = incoming.accept() else {
        relay.metrics.handshake("failed");
        return None;
    };
    let connection = match time::timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => {
            relay.metrics.handshake("failed");
            return None;
        }
        Err(_) => {
            relay.metrics.handshake("timeout");
            return None;
        }
    };
    relay.metrics.handshake("ok");
    relay.metrics.handshake_took(began.elapsed());
    let known = door.sessions.enter(connection.remote_address());
    let greeted = select! {
        greeted = time::timeout_at(deadline, greeting::greet(relay, &connection, &mut ticket, door.kind)) => greeted,
        () = relay.stopping() => {
            connection.close(code(Reason::ShuttingDown), b"the relay stops");
            return None;
        }
    };
    match greeted {
        Ok(Ok(greeted)) => {
            return Some(Visitor {
                connection,
                greeted: Box::new(greeted),
                _ticket: ticket,
                _known: known,
            });
        }
        Ok(Err(refused)) => {
            relay.refused(refused.refusal.reason);
            debug!(reason = %admission::label(refused.refusal.reason), text = %refused.refusal.text, "refused");
            refused.tell(&connection).await;
        }
        Err(_) => {
            let refusal = Refusal::new(Reason::Timeout, "no good Hello within the time for it");
            relay.refused(refusal.reason);
            connection.close(code(refusal.reason), refusal.text.as_bytes());
        }
    }
    None
}

/// Completes the handshake only to say why not: a refusal without one has no reason. As that costs a signature and
/// the state of a connection, it is for proven addresses, and for a few at once; others are refused without a reason.
async fn turn_away(relay: &Shared, incoming: Incoming, refusal: &Refusal, deadline: time::Instant) {
    if !incoming.remote_address_validated() && incoming.may_retry() {
        if incoming.retry().is_ok() {
            relay.metrics.handshake("retry");
        }
        return;
    }
    relay.refused(refusal.reason);
    relay.metrics.handshake("refused");
    let Ok(_polite) = relay.refusals.try_acquire() else {
        return incoming.refuse();
    };
    let Ok(connecting) = incoming.accept() else { return };
    if let Ok(Ok(connection)) = time::timeout_at(deadline, connecting).await {
        connection.close(code(refusal.reason), refusal.text.as_bytes());
    }
}

/// The application error code of a close is the number of its reason.
pub(crate) fn code(reason: Reason) -> VarInt {
    VarInt::from_u32(u32::try_from(i32::from(reason)).unwrap_or_default())
}

async fn run(relay: &Arc<Shared>, lanes: &Arc<Lanes>, connection: &Connection, greeted: Box<Greeted>) {
    let Greeted {
        entrant,
        hello,
        role,
        peer,
        mut reader,
        send,
    } = *greeted;
    let (outbox, outgoings) = outbox(role, &relay.budget);
    let (leg, seats) = match role {
        Role::Relay | Role::Peer => (Leg::Mesh, Seats::trunk()),
        Role::Member => (Leg::Client, Seats::member()),
        _ => (Leg::Client, Seats::Asker),
    };
    let link = peer.map(|relay| Link {
        relay,
        side: Side::Upstream,
    });
    let is_peer = link.is_some();
    let port = Port::new(connection.clone(), hello.identity_key, leg, seats, outbox, link);
    let mut signals = Signals {
        relay: Arc::clone(relay),
        lanes: Arc::clone(lanes),
        port: Arc::clone(&port),
        numbers: Numbers::default(),
        lane: None,
    };
    port.outbox.push(signals.welcome(hello.lane.as_ref()));
    let began = time::Instant::now();
    let session = relay.metrics.session(role);
    let mut writer = Writer::new(send, outgoings, relay.limits.patience);
    let mut party = match role {
        Role::Relay => Party::Trunk(Trunk::new(relay, &port)),
        Role::Member => Party::Member(Box::new(Member::new(relay, &port, entrant, hello))),
        Role::Peer => Party::Peer(Peer::start(relay, &port)),
        _ => Party::Probe,
    };
    let cut = writer.cut();
    let end = select! {
        end = read(&mut signals, &mut reader, &mut party) => end,
        end = writer.run() => end,
        end = datagrams(relay, &port) => end,
        end = peers::watch(relay, &port), if is_peer => end,
        why = cut => match why {
            Cut::SlowReader(slow) => End::SlowReader(slow),
            Cut::Goodbye(refusal) => End::Refused(refusal),
        },
        () = relay.stopping() => End::Shutdown,
    };
    match party {
        Party::Member(member) => member.left(),
        Party::Trunk(trunk) => trunk.left(),
        Party::Peer(peer) => peer.left(&end),
        Party::Probe => {}
    }
    debug!(?end, "session ended");
    session.ended(end.label(), began.elapsed());
    Box::pin(finish(relay, connection, writer, end)).await;
}

/// Who is at the other end.
enum Party {
    Member(Box<Member>),
    Trunk(Trunk),
    Peer(Peer),
    Probe,
}

/// What every session can be asked, whatever its role.
struct Signals {
    relay: Arc<Shared>,
    lanes: Arc<Lanes>,
    port: Arc<Port>,
    numbers: Numbers,
    /// Open as long as this is.
    lane: Option<Lane<Arc<Port>>>,
}

impl Signals {
    fn welcome(&mut self, offer: Option<&LaneOffer>) -> bytes::Bytes {
        let lane = offer.and_then(|offer| self.accept_lane(offer));
        let welcome = Welcome {
            relay_boot_id: self.relay.boot_id,
            software: SOFTWARE.to_owned(),
            lane,
            observed: self.port.connection.remote_address(),
            reflect_port: self.relay.reflect_port,
            relay_id: self.relay.cluster.as_ref().map(|cluster| cluster.id().clone()),
        };
        frames::frame(Kind::Welcome(welcome.into()))
    }

    fn accept_lane(&mut self, offer: &LaneOffer) -> Option<LaneAccept> {
        let aeads = self.relay.aeads;
        match lanes::accept(&self.lanes, &self.port, &mut self.numbers, aeads, offer) {
            Ok((lane, accept)) => {
                self.lane = Some(lane);
                Some(accept)
            }
            Err(error) => {
                self.relay.no_lane(error);
                None
            }
        }
    }

    /// `None` when the message is one of the role's.
    fn handle(&mut self, message: SignalMessage) -> Result<Option<Kind>, Refusal> {
        match message.kind {
            None | Some(Kind::Keepalive(_)) => Ok(None),
            Some(Kind::LaneOffer(offer)) => {
                let offer = LaneOffer::try_from(offer)?;
                match self.accept_lane(&offer) {
                    Some(accept) => self
                        .port
                        .outbox
                        .push(frames::frame(Kind::LaneAccept(accept.into()))),
                    None => {
                        let refusal = Refusal::new(Reason::Overloaded, "no lane can be had");
                        self.port.outbox.push(frames::refused(0, &refusal));
                    }
                }
                Ok(None)
            }
            Some(kind) => Ok(Some(kind)),
        }
    }
}

async fn read(signals: &mut Signals, reader: &mut Reader, party: &mut Party) -> End {
    loop {
        let message = match reader.next().await {
            Ok(message) => message,
            Err(end) => return end,
        };
        signals.relay.metrics.message();
        let kind = match signals.handle(message) {
            Ok(Some(kind)) => kind,
            Ok(None) => continue,
            Err(refusal) => return refusal.into(),
        };
        let handled = match party {
            Party::Member(member) => member.handle(kind),
            Party::Trunk(trunk) => trunk.handle(kind),
            Party::Peer(peer) => peer.handle(kind),
            Party::Probe => Err(unexpected()),
        };
        if let Err(refusal) = handled {
            return refusal.into();
        }
    }
}

/// A message that the other end's role does not send.
fn unexpected() -> Refusal {
    Refusal::new(Reason::Malformed, "this message is not for this role")
}

/// Forwards what comes in over QUIC, until the connection ends.
pub(crate) async fn datagrams(relay: &Shared, port: &Arc<Port>) -> End {
    loop {
        match port.connection.read_datagram().await {
            Ok(datagram) => relay.beside(port).quic_datagram(port, &datagram),
            Err(error) => return error.into(),
        }
    }
}

/// Says why, waits until that has arrived or a second has passed, and closes.
async fn finish(relay: &Shared, connection: &Connection, writer: Writer, end: End) {
    let refusal = match end {
        End::Left | End::Idle | End::Broken(_) => return,
        End::SlowReader(slow) => {
            relay.metrics.slow_reader(slow);
            return connection.close(code(Reason::Overloaded), b"signalling was not read");
        }
        End::Shutdown => Refusal::new(Reason::ShuttingDown, "the relay stops"),
        End::Refused(refusal) => {
            relay.refused(refusal.reason);
            refusal
        }
    };
    let last = frames::goodbye(refusal.reason, &refusal.text);
    let _ = time::timeout(LAST_WORD, writer.last_word(last)).await;
    connection.close(code(refusal.reason), refusal.text.as_bytes());
}

impl DoorKind {
    /// At the second port only questions for addresses are answered.
    fn admits(self, role: Role) -> bool {
        self == Self::Main || role == Role::Probe
    }
}
