//! The media thread of a client: sound in, sound out, lanes and calls, every 10 ms and whenever something arrives.
//!
//! It decides nothing itself: what to send is up to [`wzp_sdk_core::call`], on what to
//! [`wzp_sdk_core::carrier`]. Signalling stays on tokio and talks to it through [`Handle`].

mod active;
mod link;
mod links;

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, TryRecvError},
    },
    time::Duration,
};

use bytes::Bytes;
use wzp_sdk_core::silence::{Change, GIVE_UP};
use wzp_socket::{client::Socket, clock};
use wzp_wire::{
    Epoch, Instant, RelayId,
    signal::{RelaySeat, SignalMessage},
};

pub(crate) use active::{ActiveCall, Owner};
pub(crate) use link::{Link, LinkId};
pub(crate) use links::{Dialer, Wanted};

use links::{Fate, Links};

use crate::call::{EndReason, Event};

/// Pace of sound.
const TICK: Duration = Duration::from_millis(10);
/// A thread that was kept from running for longer than this does not catch up: its sound is late anyway.
const CATCH_UP: Duration = Duration::from_millis(200);
/// Messages and QUIC datagrams of the relay that may wait, and that are taken in a row.
const FROM_RELAY: usize = 256;
/// Longest datagram that a carrier delivers.
const BUFFER: usize = 2_048;

/// What the thread is told.
pub(crate) enum Command {
    /// Start this call over the relay of this client; it asks to join at once.
    Start(Box<ActiveCall>),
    /// Start this call over these relays of a cluster, the first of which carries.
    StartOver(Box<ActiveCall>, Vec<Link>, Dialer),
    /// Send in another tier.
    SetTier(wzp_sdk_core::call::TierChoice),
    /// Leave the room.
    Leave,
    /// End the thread.
    Stop,
}

/// What comes from the relay over QUIC. However much it sends, no more than [`FROM_RELAY`] of it waits here.
pub(crate) enum FromRelay {
    /// It said something.
    Signal(LinkId, Box<SignalMessage>),
    /// A QUIC datagram came.
    Datagram(LinkId, Bytes),
    /// The connection is gone.
    Lost(LinkId),
    /// There is a connection to a relay of the cluster, or there will be none.
    Dialled(RelayId, Option<Box<Link>>),
    /// The control plane says by which relays the room is served, and since when.
    Served(Epoch, Vec<RelaySeat>),
}

/// Talks to the media thread from anywhere.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    relay: tokio::sync::mpsc::Sender<FromRelay>,
    socket: Arc<Socket>,
}

impl Handle {
    /// The thread may be gone already, and then there is nobody to tell.
    pub(crate) fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.socket.wake();
        }
    }

    /// Hands on what the relay said, and holds its stream back while the thread is behind.
    pub(crate) async fn pass(&self, from: FromRelay) {
        if self.relay.send(from).await.is_ok() {
            self.socket.wake();
        }
    }

    /// Hands on a datagram, or drops it while the thread is behind.
    pub(crate) fn offer(&self, link: LinkId, datagram: Bytes) {
        if self.relay.try_send(FromRelay::Datagram(link, datagram)).is_ok() {
            self.socket.wake();
        }
    }
}

/// Starts the media thread of a client, with its only relay if it was given one.
pub(crate) fn start(socket: Arc<Socket>, link: Option<Link>) -> std::io::Result<Handle> {
    let (commands, inbox) = mpsc::channel();
    let (relay, from_relay) = tokio::sync::mpsc::channel(FROM_RELAY);
    let handle = Handle {
        commands,
        relay,
        socket: Arc::clone(&socket),
    };
    let mut thread = Thread {
        links: Links::new(socket, link),
        inbox,
        from_relay,
        call: None,
    };
    std::thread::Builder::new()
        .name("wzp-media".into())
        .spawn(move || thread.run())?;
    Ok(handle)
}

struct Thread {
    links: Links,
    inbox: Receiver<Command>,
    from_relay: tokio::sync::mpsc::Receiver<FromRelay>,
    call: Option<Box<ActiveCall>>,
}

/// Whether the thread goes on.
enum Flow {
    On,
    End,
}

impl Thread {
    fn run(&mut self) {
        let mut buffer = [0; BUFFER];
        let mut next_tick = clock::now() + TICK;
        loop {
            let now = clock::now();
            let timeout = next_tick.duration_since(now);
            self.links.wait(&mut buffer, timeout, self.call.as_deref_mut());
            if let Flow::End = self.obey(clock::now()) {
                break;
            }
            self.listen(clock::now());
            let now = clock::now();
            if now.duration_since(next_tick) > CATCH_UP {
                next_tick = now;
            }
            while now >= next_tick {
                self.tick(next_tick, now);
                next_tick += TICK;
            }
        }
        if let Some(call) = self.call.take() {
            call.end(EndReason::Left);
        }
    }

    fn tick(&mut self, due: Instant, now: Instant) {
        match self.links.handle_timeout(now) {
            Some(Fate::Changed(Change::GaveUp)) => {
                if let Some(call) = &mut self.call {
                    // Should the relay only have been out of reach, it learns that the room is left.
                    call.leave(&mut self.links);
                }
                self.end(EndReason::RelaySilent { after: GIVE_UP });
            }
            Some(Fate::Changed(Change::Silent(since))) => self.tell(Event::RelaySilent { since }),
            Some(Fate::Changed(Change::Answers(after))) => self.tell(Event::RelayAnswers { after }),
            Some(Fate::Suspect(link)) => {
                let relay = self.links.find(link).and_then(|link| link.relay.clone());
                if let Some((call, relay)) = self.call.as_deref_mut().zip(relay) {
                    call.dial_again(&relay, &self.links);
                }
            }
            Some(Fate::Dead(link)) => self.handle_lost(now, link),
            None => {}
        }
        if let Some(call) = &mut self.call {
            call.tick(due, now, &mut self.links);
            if let Some(reason) = call.is_stranded(now) {
                self.end(reason);
            }
        }
    }

    fn obey(&mut self, now: Instant) -> Flow {
        loop {
            let command = match self.inbox.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return Flow::On,
                Err(TryRecvError::Disconnected) => return Flow::End,
            };
            match command {
                Command::Start(call) if self.links.is_lost() => call.end(EndReason::RelayLost),
                Command::Start(call) => self.start(now, call),
                Command::StartOver(call, links, dialer) => {
                    links.into_iter().for_each(|link| self.links.add(link));
                    self.links.set_dialer(Some(dialer));
                    self.start(now, call);
                }
                Command::SetTier(tier) => {
                    if let Some(call) = &mut self.call {
                        call.set_tier(now, tier);
                    }
                }
                Command::Leave => {
                    if let Some(call) = &mut self.call {
                        call.leave(&mut self.links);
                    }
                    self.end(EndReason::Left);
                }
                Command::Stop => return Flow::End,
            }
        }
    }

    fn start(&mut self, now: Instant, mut call: Box<ActiveCall>) {
        call.start(now, &mut self.links);
        self.call = Some(call);
    }

    fn listen(&mut self, now: Instant) {
        for _ in 0..FROM_RELAY {
            let Ok(from) = self.from_relay.try_recv() else {
                return;
            };
            match from {
                FromRelay::Signal(link, message) => {
                    let path = self.links.find(link).and_then(|link| link.path);
                    let call = self.call.as_deref_mut().zip(path);
                    let over = call
                        .and_then(|(call, path)| call.handle_signal(now, path, *message, &mut self.links));
                    if let Some(reason) = over {
                        self.end(reason);
                    }
                }
                FromRelay::Datagram(link, bytes) => {
                    self.links
                        .handle_quic(now, link, &bytes, self.call.as_deref_mut());
                }
                FromRelay::Lost(link) => self.handle_lost(now, link),
                FromRelay::Served(epoch, seats) => {
                    if let Some(call) = &mut self.call {
                        call.handle_relays(now, epoch, seats, &mut self.links);
                    }
                }
                FromRelay::Dialled(relay, link) => {
                    if let Some(call) = &mut self.call {
                        call.handle_dialled(now, &relay, link.map(|link| *link), &mut self.links);
                    }
                }
            }
        }
    }

    fn handle_lost(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.find(id) else { return };
        if link.relay.is_none() {
            link.handle_lost();
            self.end(EndReason::RelayLost);
            return;
        }
        let path = link.path;
        self.links.retire(now, id);
        if let Some((call, path)) = self.call.as_deref_mut().zip(path) {
            call.handle_lost(now, path, &mut self.links);
        }
    }

    fn tell(&self, event: Event) {
        if let Some(call) = &self.call {
            call.tell(event);
        }
    }

    fn end(&mut self, reason: EndReason) {
        if let Some(call) = self.call.take() {
            self.links.end_call();
            call.end(reason);
        }
    }
}
