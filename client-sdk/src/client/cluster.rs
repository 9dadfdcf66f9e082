//! Calls in a cluster: connections to every relay that serves the room, now and whenever the call wants another.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use wzp_identity::Identity;
use wzp_sdk_core::carrier::Preference;
use wzp_socket::client::Socket;
use wzp_wire::{RelayId, signal::RelaySeat};

use super::attach::{Attached, attach};
use crate::{
    control::{Cluster, Kept, Ticket, lock},
    error::{ConnectError, JoinError},
    media::{Dialer, FromRelay, Handle, Link, Wanted},
    session,
};

/// The relay that is to carry has so much time before another one does.
const CARRIER: Duration = Duration::from_millis(1_500);
/// Where the room is, is asked after so long without a relay, and then after twice as long each time.
const ASK_FIRST: Duration = Duration::from_secs(2);
const ASK_LAST: Duration = Duration::from_secs(60);

/// What it takes to connect to a relay of the cluster.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) socket: Arc<Socket>,
    pub(super) media: Handle,
    pub(super) identity: Identity,
    pub(super) carrier: Preference,
    pub(super) cluster: Arc<Cluster>,
}

/// The relays with which a call begins, and those that are still to come.
pub(super) struct Opened {
    /// The first one carries.
    pub(super) links: Vec<Link>,
    pub(super) dialer: Dialer,
    late: Late,
}

struct Late {
    media: Handle,
    failed: Vec<RelayId>,
    running: JoinSet<Outcome>,
}

type Outcome = (RelayId, Result<Attached, ConnectError>);

impl Way {
    /// Connects to the relays of a ticket. Returns when there is enough to begin with.
    pub(super) async fn open(self, ticket: &Kept) -> Result<Opened, JoinError> {
        let Ticket { grant, relays, .. } = lock(ticket).clone();
        let mut running = JoinSet::new();
        for seat in &relays {
            running.spawn(self.clone().connect(seat.clone(), grant.clone()));
        }
        let carrier = relays.first().map(|seat| seat.relay.clone());
        let until = Instant::now() + CARRIER;
        let mut found: Vec<(RelayId, Attached)> = Vec::new();
        let mut failed: Vec<(RelayId, ConnectError)> = Vec::new();
        loop {
            let outcome = tokio::select! {
                outcome = running.join_next() => outcome,
                () = sleep_until(until), if !found.is_empty() => break,
            };
            match outcome {
                None => break,
                Some(Ok((relay, Ok(attached)))) => found.push((relay, attached)),
                Some(Ok((relay, Err(error)))) => failed.push((relay, error)),
                // Only a panic ends a task so, and that relay counts as one that is not there.
                Some(Err(_)) => {}
            }
            let is_there = |(relay, _): &(RelayId, Attached)| Some(relay) == carrier.as_ref();
            let is_gone = |(relay, _): &(RelayId, ConnectError)| Some(relay) == carrier.as_ref();
            if found.iter().any(is_there) || !found.is_empty() && failed.iter().any(is_gone) {
                break;
            }
        }
        if found.is_empty() {
            return Err(none_of(failed));
        }
        let place = |relay: &RelayId| relays.iter().position(|seat| seat.relay == *relay);
        found.sort_by_key(|(relay, _)| place(relay));
        let links = found
            .into_iter()
            .map(|(_, attached)| attached.start(&self.media).0);
        Ok(Opened {
            links: links.collect(),
            late: Late {
                media: self.media.clone(),
                failed: failed.into_iter().map(|(relay, _)| relay).collect(),
                running,
            },
            dialer: self.dialer(Arc::clone(ticket)),
        })
    }

    /// Does what the media thread wants, as long as it wants anything. The control plane is asked ever less often where
    /// the room is.
    fn dialer(self, ticket: Kept) -> Dialer {
        let (dialer, mut wanted) = mpsc::unbounded_channel::<Wanted>();
        tokio::spawn(async move {
            let (mut pause, mut asked_at) = (ASK_FIRST, None::<Instant>);
            while let Some(wanted) = wanted.recv().await {
                let (way, ticket) = (self.clone(), Arc::clone(&ticket));
                match wanted {
                    Wanted::Relay(seat) => {
                        let grant = lock(&ticket).grant.clone();
                        tokio::spawn(async move {
                            let media = way.media.clone();
                            let outcome = way.connect(seat, grant).await;
                            tell(&media, outcome).await;
                        });
                    }
                    Wanted::Room => {
                        let since = asked_at.map(|at| at.elapsed());
                        if since.is_some_and(|since| since < pause) {
                            continue;
                        }
                        // It was all well in between.
                        let anew = since.is_none_or(|since| since > ASK_LAST + ASK_FIRST);
                        pause = if anew {
                            ASK_FIRST
                        } else {
                            (pause * 3 / 2).min(ASK_LAST)
                        };
                        asked_at = Some(Instant::now());
                        tokio::spawn(async move { way.ask(&ticket).await });
                    }
                }
            }
        });
        dialer
    }

    async fn ask(&self, ticket: &Kept) {
        let room = lock(ticket).room.clone();
        let Ok(new) = self.cluster.ask(&self.identity, &room).await else {
            return;
        };
        let (epoch, relays) = (new.epoch, new.relays.clone());
        {
            let mut ticket = lock(ticket);
            // A new grant has another number for us in the room, and the old one opens every relay of it.
            if ticket.is_over() {
                *ticket = new;
            }
        }
        self.media.pass(FromRelay::Served(epoch, relays)).await;
    }

    async fn connect(self, seat: RelaySeat, grant: String) -> Outcome {
        let session = session::connect_to_seat(&self.socket, &seat, &self.identity, grant).await;
        let relay = seat.relay;
        let attached =
            session.map(|session| attach(&self.socket, session, self.carrier, Some(relay.clone())));
        (relay, attached)
    }
}

impl Opened {
    /// Call it once the media thread has the call: it is told of the relays that were not there at first.
    pub(super) fn finish(late: Self) -> (Vec<Link>, Dialer, impl FnOnce()) {
        let Self { links, dialer, late } = late;
        let finish = move || {
            tokio::spawn(async move {
                let Late {
                    media,
                    failed,
                    mut running,
                } = late;
                for relay in failed {
                    media.pass(FromRelay::Dialled(relay, None)).await;
                }
                while let Some(outcome) = running.join_next().await {
                    if let Ok(outcome) = outcome {
                        tell(&media, outcome).await;
                    }
                }
            });
        };
        (links, dialer, finish)
    }
}

/// The link is named before anything that it says.
async fn tell(media: &Handle, (relay, attached): Outcome) {
    match attached {
        Ok(attached) => {
            let (link, _, start) = attached.split();
            media.pass(FromRelay::Dialled(relay, Some(Box::new(link)))).await;
            start(media);
        }
        Err(_) => media.pass(FromRelay::Dialled(relay, None)).await,
    }
}

/// Who answered says more than who did not.
fn none_of(failed: Vec<(RelayId, ConnectError)>) -> JoinError {
    let asked = failed.len();
    let telling = |(_, error): &(RelayId, ConnectError)| match error {
        ConnectError::Refused { .. } => 3,
        ConnectError::Certificate { .. } => 2,
        ConnectError::Unreachable { .. } => 0,
        _ => 1,
    };
    match failed.into_iter().max_by_key(telling) {
        Some((_, ConnectError::Refused { reason, text })) => JoinError::Refused { reason, text },
        Some((relay, source)) => JoinError::NoRelay {
            asked,
            relay: relay.to_string(),
            source: Box::new(source),
        },
        None => JoinError::RelayLost,
    }
}
