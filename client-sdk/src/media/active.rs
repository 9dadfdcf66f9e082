//! A running call on the media thread: its core, its sound, and what its owner is told.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use getrandom::{SysRng, rand_core::UnwrapErr};
use tokio::sync::{mpsc, oneshot};
use wzp_sdk_core::{
    call::{self as core, TierChoice},
    paths::{self, PathId, Sending},
    voice::receiver::PULL,
};
use wzp_wire::{
    Epoch, Instant, RelayId, SenderId,
    signal::{Kind, RelaySeat, SignalMessage},
};

use super::{Link, Wanted, links::Links};
use crate::{
    audio::{FRAME, Read, Sink, Source},
    call::{EndReason, Event, PathStats, Processing, RemoteStats, Stats},
    codec::Library,
    control::{Kept, lock},
    dsp::{Denoiser, EchoCanceller, EchoOptions},
    error::JoinError,
};

/// Ticks between two looks at the figures.
const STATS_EVERY: u32 = 20;
/// A call in a cluster ends when no relay has had us in the room for so long.
const STRANDED: Duration = Duration::from_secs(30);
/// Where the room is, is asked so often while no relay answers.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Below what 16 bits can say.
const SILENCE_DBOV: f32 = -96.0;

/// What the relay said to our join.
pub(crate) type Admission = oneshot::Sender<Result<(SenderId, usize), JoinError>>;

pub(crate) struct ActiveCall {
    core: core::Call<Library>,
    source: Option<Box<dyn Source>>,
    sink: Box<dyn Sink>,
    front: FrontEnd,
    news: News,
    stats: Arc<Mutex<Stats>>,
    admission: Option<Admission>,
    ticket: Option<Kept>,
    /// The call is over several relays of a cluster, and when one of them last had us in the room.
    cluster: Option<Instant>,
    ask_at: Instant,
    began: Instant,
    wire_before: (u64, u64),
    ticks: u32,
    level_dbov: f32,
}

/// What the owner of a call gives and gets.
pub(crate) struct Owner {
    pub(crate) source: Box<dyn Source>,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) processing: Processing,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stats: Arc<Mutex<Stats>>,
    pub(crate) admission: Admission,
    /// In a cluster: to be kept up to date while the room moves.
    pub(crate) ticket: Option<Kept>,
}

impl ActiveCall {
    pub(crate) fn new(now: Instant, core: core::Call<Library>, owner: Owner) -> Self {
        Self {
            core,
            source: Some(owner.source),
            sink: owner.sink,
            front: FrontEnd::new(owner.processing),
            news: News(owner.events),
            stats: owner.stats,
            admission: Some(owner.admission),
            ticket: owner.ticket,
            cluster: None,
            ask_at: now,
            began: now,
            wire_before: (0, 0),
            ticks: 0,
            level_dbov: SILENCE_DBOV,
        }
    }

    pub(super) fn start(&mut self, now: Instant, links: &mut Links) {
        self.began = now;
        self.wire_before = links.wire_bytes();
        for link in links.iter_mut() {
            let (carrier, why) = link.carrier();
            link.path = Some(match &link.relay {
                None => self.core.add_path(now, paths::Kind::Relay, carrier, why),
                Some(relay) => {
                    self.cluster = Some(now);
                    self.core.add_relay(now, relay, carrier, why)
                }
            });
        }
        self.core.join(now);
        self.flush(now, links);
    }

    /// There is another connection to use, or there will be none.
    pub(super) fn handle_dialled(
        &mut self,
        now: Instant,
        relay: &RelayId,
        link: Option<Link>,
        links: &mut Links,
    ) {
        // The room may be served by others since it was dialled.
        if !self.core.is_served_by(relay) {
            return;
        }
        let old = links.to(relay).map(|old| (old.id, old.path, old.is_silent()));
        match (link, old) {
            // It answers as it did, and nobody needs a second connection.
            (_, Some((_, _, false))) | (None, Some(_)) => {}
            (None, None) => self.core.handle_unreachable(now, relay),
            (Some(mut link), old) => {
                if let Some((id, path, _)) = old {
                    links.retire(now, id);
                    path.into_iter().for_each(|path| self.core.remove_path(now, path));
                }
                let (carrier, why) = link.carrier();
                link.path = Some(self.core.add_relay(now, relay, carrier, why));
                links.add(link);
            }
        }
        self.flush(now, links);
    }

    /// A relay does not answer over the connection that we have. Should it over another, that one takes its place.
    pub(super) fn dial_again(&self, relay: &RelayId, links: &Links) {
        let seats = self.core.relays();
        if let Some(seat) = seats.into_iter().find(|seat| seat.relay == *relay) {
            links.want(Wanted::Relay(seat));
        }
    }

    /// The control plane says where the room is.
    pub(super) fn handle_relays(
        &mut self,
        now: Instant,
        epoch: Epoch,
        seats: Vec<RelaySeat>,
        links: &mut Links,
    ) {
        self.core.handle_relays(now, epoch, seats);
        self.flush(now, links);
    }

    /// The connection under a path is gone, and there may be others.
    pub(super) fn handle_lost(&mut self, now: Instant, path: PathId, links: &mut Links) {
        self.core.remove_path(now, path);
        self.flush(now, links);
    }

    pub(super) fn ping_due(&self, now: Instant, path: PathId) -> bool {
        self.core.ping_due(now, path)
    }

    pub(super) fn handle_ping(&mut self, now: Instant, path: PathId) {
        self.core.handle_ping(now, path);
    }

    pub(super) fn handle_pong(&mut self, now: Instant, path: PathId, rtt: Duration) {
        self.core.handle_pong(now, path, rtt);
    }

    /// Whether no relay of the cluster has had us for so long that nobody waits any more.
    pub(super) fn is_stranded(&mut self, now: Instant) -> Option<EndReason> {
        let since = self.cluster?;
        if self.core.is_inside() {
            self.cluster = Some(now);
        }
        (now >= since + STRANDED && !self.core.is_inside())
            .then_some(EndReason::RelaySilent { after: STRANDED })
    }

    pub(super) fn set_tier(&mut self, now: Instant, tier: TierChoice) {
        self.core.set_tier(now, tier);
    }

    pub(super) fn leave(&mut self, links: &mut Links) {
        self.core.leave();
        while let Some((path, message)) = self.core.poll_signal() {
            links.signal(path, message);
        }
        self.publish(links);
    }

    /// Takes a message of the relay, and says so when it ends the call.
    pub(super) fn handle_signal(
        &mut self,
        now: Instant,
        path: PathId,
        message: SignalMessage,
        links: &mut Links,
    ) -> Option<EndReason> {
        let is_last = matches!(message.kind, Some(Kind::Goodbye(_)));
        self.core.handle_signal(now, path, message);
        let refused = self.flush(now, links);
        let (reason, text) = refused?;
        if let Some(admission) = self.admission.take() {
            let _ = admission.send(Err(JoinError::Refused {
                reason,
                text: text.clone(),
            }));
            return Some(EndReason::Refused { reason, text });
        }
        // The room that we are to enter anew is closed to us.
        let outside = self.core.sender_id().is_none();
        (is_last || outside).then_some(EndReason::Refused { reason, text })
    }

    pub(super) fn handle_datagram(
        &mut self,
        at: Instant,
        path: PathId,
        datagram: &mut [u8],
        links: &mut Links,
    ) {
        self.core.handle_datagram(at, path, datagram);
        self.flush(at, links);
    }

    /// 10 ms of sound in both directions.
    pub(super) fn tick(&mut self, due: Instant, now: Instant, links: &mut Links) {
        if let Some(rtt) = links.rtt(self.core.carrying()) {
            self.core.handle_rtt(now, rtt);
        }
        for link in links.iter_mut() {
            if let Some(path) = link.path {
                let (carrier, why) = link.carrier();
                self.core.set_carrier(path, carrier, why);
            }
        }
        self.core.handle_tick(now);
        links.ping_paths(now, self);
        if self.cluster.is_some() && links.is_silent() && now >= self.ask_at {
            self.ask_at = now + ASK_EVERY;
            links.want(Wanted::Room);
        }
        while let Some(seat) = self.core.poll_dial(now) {
            links.want(Wanted::Relay(seat));
        }
        if self.core.poll_timeout().is_some_and(|timeout| timeout <= now) {
            self.core.handle_timeout(now, &mut UnwrapErr(SysRng));
        }
        let mut heard = [0.0; PULL];
        // Play-out keeps its own pace even when the thread woke late.
        self.core.pull(due, &mut heard);
        self.sink.write(&heard);
        self.front.render(&heard);
        if self.core.sender_id().is_some() {
            self.capture(now);
        }
        self.flush(now, links);
        self.look_at(links);
    }

    pub(crate) fn end(self: Box<Self>, reason: EndReason) {
        let Self {
            admission,
            source,
            sink,
            news,
            ..
        } = *self;
        if let Some(admission) = admission {
            let _ = admission.send(Err(JoinError::RelayLost));
        }
        // A recording is complete, or known not to be, before anybody hears of the end.
        drop((source, sink));
        news.end(reason);
    }

    fn capture(&mut self, now: Instant) {
        let mut frame = [0.0; FRAME];
        if let Some(source) = &mut self.source {
            match source.read(&mut frame) {
                Read::Sound => {}
                Read::Silence => frame.fill(0.0),
                Read::End => {
                    frame.fill(0.0);
                    self.source = None;
                    self.tell(Event::SourceEnded);
                }
            }
        }
        let power = frame.iter().map(|sample| sample * sample).sum::<f32>() / FRAME as f32;
        self.level_dbov = (10.0 * power.log10()).max(SILENCE_DBOV);
        let speech = self.front.capture(&mut frame);
        self.core.handle_capture(now, &frame, speech);
    }

    /// Moves everything that the core has to say; returns the relay's refusal, if there was one.
    fn flush(&mut self, now: Instant, links: &mut Links) -> Option<(wzp_wire::signal::Reason, String)> {
        let mut out = [0; core::MAX_DATAGRAM];
        while let Some((sending, len)) = self.core.poll_packet(now, &mut out) {
            let packet = out.get(..len).unwrap_or_default();
            match sending {
                Sending::Nowhere => {}
                Sending::On(path) => links.send(now, path, packet),
                Sending::Both(path, other) => {
                    links.send(now, path, packet);
                    links.send(now, other, packet);
                }
            }
        }
        while let Some((path, message)) = self.core.poll_signal() {
            links.signal(path, message);
        }
        while let Some(path) = self.core.poll_hangup() {
            links.hang_up(path);
            self.core.remove_path(now, path);
        }
        let mut refused = None;
        while let Some(event) = self.core.poll_event() {
            match event {
                core::Event::Joined { sender, members } => match self.admission.take() {
                    Some(admission) => {
                        // Whoever is told that it is in the room may look at the figures at once.
                        self.publish(links);
                        let _ = admission.send(Ok((sender, members)));
                    }
                    None => self.tell(Event::Rejoined { sender, members }),
                },
                core::Event::Refused { reason, text } => refused = Some((reason, text)),
                other => {
                    if let (core::Event::Moving { epoch, .. }, Some(ticket)) = (&other, &self.ticket) {
                        let mut ticket = lock(ticket);
                        (ticket.epoch, ticket.relays) = (*epoch, self.core.relays());
                    }
                    if let Some(event) = Event::from_core(other) {
                        self.tell(event);
                    }
                }
            }
        }
        refused
    }

    fn look_at(&mut self, links: &Links) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(STATS_EVERY) {
            self.publish(links);
        }
    }

    fn publish(&mut self, links: &Links) {
        let (up, down) = links.wire_bytes();
        let carrying = self.core.carrying();
        let (carrier, why) = links.carrier(carrying);
        let paths = self.core.paths().filter_map(|state| {
            let link = links.of(state.path.id)?;
            Some(PathStats {
                relay: state.relay.map(|relay| relay.to_string()),
                address: link.address(),
                carrier: state.path.carrier,
                carrier_why: state.path.why,
                role: state.role,
                rtt: state.rtt.or_else(|| link.rtt()),
            })
        });
        let paths = paths.collect();
        let elapsed = wzp_socket::clock::now().duration_since(self.began);
        let kbps = |bytes: u64| bytes as f64 * 8.0 / 1_000.0 / elapsed.as_secs_f64().max(0.001);
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = *self.core.counts();
        stats.tier = self.core.tier();
        stats.remotes.clear();
        let core = &mut self.core;
        let remotes: &mut Vec<RemoteStats> = &mut stats.remotes;
        core.remotes(|public, remote| remotes.push(RemoteStats::from_core(public, &remote)));
        *stats = Stats {
            sent: counts.sent,
            repair_sent: counts.repair_sent,
            sent_bytes: counts.sent_bytes,
            received: counts.received,
            repair_received: counts.repair_received,
            received_bytes: counts.received_bytes,
            unopened: counts.unopened,
            duplicates: counts.duplicates,
            wire_kbps_up: kbps(up.saturating_sub(self.wire_before.0)),
            wire_kbps_down: kbps(down.saturating_sub(self.wire_before.1)),
            rtt: links.rtt(carrying),
            level_dbov: self.level_dbov,
            tier: stats.tier,
            carrier,
            carrier_why: why,
            paths,
            elapsed,
            remotes: std::mem::take(&mut stats.remotes),
        };
    }

    pub(super) fn tell(&self, event: Event) {
        self.news.tell(event);
    }
}

/// What the owner of a call is told. One who does not read loses events, but neither the call nor word of its end.
struct News(mpsc::Sender<Event>);

impl News {
    fn tell(&self, event: Event) {
        if self.0.capacity() > 1 {
            let _ = self.0.try_send(event);
        }
    }

    fn end(self, reason: EndReason) {
        let _ = self.0.try_send(Event::Ended { reason });
    }
}

/// What happens to captured sound before it is coded.
struct FrontEnd {
    echo: Option<EchoCanceller>,
    denoiser: Denoiser,
    denoise: bool,
}

impl FrontEnd {
    fn new(processing: Processing) -> Self {
        let echo = processing
            .echo_canceller
            .then(|| EchoCanceller::new(EchoOptions::default()));
        Self {
            echo,
            denoiser: Denoiser::new(),
            denoise: processing.denoise,
        }
    }

    fn render(&mut self, heard: &[f32; FRAME]) {
        if let Some(echo) = &mut self.echo {
            echo.render(heard);
        }
    }

    /// Cleans the frame and returns the probability that there is a voice in it.
    fn capture(&mut self, frame: &mut [f32; FRAME]) -> f32 {
        if let Some(echo) = &mut self.echo {
            echo.capture(frame);
        }
        if self.denoise {
            return self.denoiser.process(frame);
        }
        let mut copy = *frame;
        self.denoiser.process(&mut copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_still_learns_of_the_end() {
        let (events, mut told) = mpsc::channel(4);
        let news = News(events);
        for _ in 0..10 {
            news.tell(Event::SourceEnded);
        }
        news.end(EndReason::Left);
        let mut all = Vec::new();
        while let Ok(event) = told.try_recv() {
            all.push(event);
        }
        let reason = EndReason::Left;
        assert_eq!((all.len(), all.pop()), (4, Some(Event::Ended { reason })));
    }
}
