//! What every call has in common: files and identity, connect, join, events, the second hand, and the end.

mod remotes;

use std::{pin::pin, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use wzp_identity::Fingerprint;
use wzp_sdk::{
    Builder, Call, Client, EndReason, Event as Happened, JoinOptions, PathRole, Processing, Reason, RoomName,
    SenderId, Stats,
    audio::{Sink, Source},
};

use self::remotes::Remotes;
use crate::{
    args::{Admission, Home, Link},
    exit::{Exit, Failure},
    identity::Kept,
    report::{Event, Notice, Report, Second, Summary},
};

/// A relay that is not there is told about within this time, name lookup included.
const CONNECT: Duration = Duration::from_millis(4_900);
/// How often the figures are looked at; they are told once a second.
const TICK: Duration = Duration::from_millis(200);
/// Longer than any call.
const ENDLESS: Duration = Duration::from_secs(u32::MAX as u64);
const SECOND: Duration = Duration::from_secs(1);
/// How long the relay may take to hear that we leave.
const LEAVE: Duration = Duration::from_secs(1);

/// Ctrl-C and SIGTERM.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From now on both end the call instead of the program.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new() -> Result<Self, Failure> {
        let failed = |e| Failure::failed(format!("signals cannot be caught: {e}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Resolves when the user wants the end. Cancel-safe.
    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a call sends, hears and asks of the SDK.
pub(crate) struct Ends {
    pub(crate) source: Box<dyn Source>,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) processing: Processing,
    pub(crate) echo: bool,
}

/// Why [`Session::run`] returned.
#[derive(Debug)]
pub(crate) enum End {
    /// The time is over.
    Time,
    /// There is nothing more to send.
    SourceEnded,
    /// The user wants the end.
    Stopped,
    /// The caller wants the end.
    Enough,
    /// The call broke.
    Broken(Failure),
}

/// What a caller thinks after each second, or of what it was alarmed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Enough,
}

/// A call in its room.
pub(crate) struct Session {
    client: Client,
    call: Call,
    room: RoomName,
    own: Fingerprint,
    before: Stats,
    remotes: Remotes,
}

impl Session {
    /// Connects and joins.
    ///
    /// # Errors
    /// [`Failure`] with the exit code of what went wrong.
    pub(crate) async fn open(
        link: Link,
        room: RoomName,
        ends: Ends,
        report: &Report,
        stop: &mut Stop,
    ) -> Result<Self, Failure> {
        let tier = link.tier;
        let (client, own) = tokio::select! {
            biased;
            () = stop.wanted() => return Err(Failure::failed("stopped before the call began")),
            connected = connect(link, report) => connected?,
        };
        let Ends {
            source,
            sink,
            processing,
            echo,
        } = ends;
        let options = JoinOptions {
            room: room.clone(),
            tier,
            echo,
            source,
            sink,
            processing,
        };
        let call = tokio::select! {
            biased;
            () = stop.wanted() => return Err(Failure::failed("stopped before the call began")),
            joined = client.join(options) => joined?,
        };
        let before = call.stats();
        let (relay, address) = carrying(&client, &before);
        report.event(&Event::Connected {
            room: room.as_str(),
            fingerprint: own.to_string(),
            sender: call.sender().get(),
            relay: &relay,
            address,
            carrier: before.carrier.name(),
            members: call.members_at_join(),
        });
        Ok(Self {
            client,
            call,
            room,
            own,
            before,
            remotes: Remotes::default(),
        })
    }

    /// Who we are in the room.
    pub(crate) fn own(&self) -> (SenderId, Fingerprint) {
        (self.call.sender(), self.own)
    }

    /// Lets the call go on until `time` is over, and tells what happens; `each_second` sees the figures and our sender id, and `alarm` may
    /// end it at any moment.
    pub(crate) async fn run(
        &mut self,
        time: Option<Duration>,
        report: &Report,
        stop: &mut Stop,
        alarm: impl Future<Output = Go>,
        mut each_second: impl FnMut(&Second, &Stats, SenderId) -> Go,
    ) -> End {
        let start = Instant::now();
        // Whoever sets no time waits for another end.
        let mut over = pin!(sleep_until(start + time.unwrap_or(ENDLESS)));
        let (mut alarm, mut quiet) = (pin!(alarm), true);
        let mut ticks = interval_at(start + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_second = start + SECOND;
        loop {
            tokio::select! {
                biased;
                () = stop.wanted() => return End::Stopped,
                happened = self.call.event() => match self.handle(happened, report) {
                    Some(end) => return end,
                    None => continue,
                },
                go = &mut alarm, if quiet => match go {
                    Go::Enough => return End::Enough,
                    Go::On => quiet = false,
                },
                now = ticks.tick() => {
                    let stats = self.call.stats();
                    self.remotes.note(&stats);
                    if now < next_second {
                        continue;
                    }
                    next_second += SECOND;
                    if self.second(stats, report, &mut each_second) == Go::Enough {
                        return End::Enough;
                    }
                }
                () = &mut over => return End::Time,
            }
        }
    }

    fn second(
        &mut self,
        stats: Stats,
        report: &Report,
        each_second: &mut impl FnMut(&Second, &Stats, SenderId) -> Go,
    ) -> Go {
        let second = Second::between(&self.before, &stats);
        report.second(&second);
        let go = each_second(&second, &stats, self.call.sender());
        self.before = stats;
        go
    }

    /// Leaves the room and says what it came to.
    pub(crate) async fn close(mut self, report: &Report) -> Stats {
        let last = self.call.stats();
        self.remotes.note(&last);
        let stats = timeout(LEAVE, self.call.leave()).await.unwrap_or(last);
        self.client.close().await;
        let stats = self.remotes.complete(stats);
        report.event(&Event::Summary(&Summary::new(
            &stats,
            self.room.as_str(),
            self.own.to_string(),
        )));
        stats
    }

    fn address_of(&self, relay: &str) -> String {
        let stats = self.call.stats();
        let path = stats
            .paths
            .iter()
            .find(|path| path.relay.as_deref() == Some(relay));
        path.map_or_else(String::new, |path| path.address.to_string())
    }

    fn handle(&self, happened: Option<Happened>, report: &Report) -> Option<End> {
        let Some(happened) = happened else {
            return Some(End::Broken(Failure::failed("the call ended")));
        };
        match happened {
            Happened::Path {
                kind,
                carrier,
                why,
                relay: of,
                cause,
                both,
                standby,
            } => {
                let (relay, address) = match &of {
                    Some(relay) => (relay.clone(), self.address_of(relay)),
                    None => carrying(&self.client, &self.call.stats()),
                };
                report.event(&Event::Path {
                    kind,
                    relay: &relay,
                    address,
                    carrier: carrier.name(),
                    why: why.name(),
                    cause: of.as_ref().map(|_| cause.name()),
                    both: of.as_ref().map(|_| both),
                    standby: standby.as_deref(),
                });
            }
            Happened::MemberJoined { fingerprint, sender } => {
                report.event(&Event::Member {
                    fingerprint: fingerprint.to_string(),
                    sender: sender.get(),
                    joined: Some(true),
                    left: None,
                });
            }
            Happened::MemberLeft { fingerprint, sender } => {
                report.event(&Event::Member {
                    fingerprint: fingerprint.to_string(),
                    sender: sender.get(),
                    joined: None,
                    left: Some(true),
                });
            }
            Happened::Tier { from, to, why } => {
                report.event(&Event::Tier {
                    from: from.name(),
                    to: to.name(),
                    why,
                });
            }
            Happened::SourceEnded => return Some(End::SourceEnded),
            Happened::Ended { reason } => {
                return Some(ended(self.client.relay().map(|relay| &*relay.name), reason));
            }
            other => {
                let relay = self.client.relay().map_or("", |relay| &relay.name);
                if let Some(notice) = Notice::of(other, relay) {
                    report.notice(notice);
                }
            }
        }
        None
    }
}

/// The relay that carries and its address: as it was named on the command line, or by its name in the cluster.
fn carrying(client: &Client, stats: &Stats) -> (String, String) {
    if let Some(relay) = client.relay() {
        return (relay.name.clone(), relay.address.to_string());
    }
    let carries = stats.paths.iter().find(|path| path.role == PathRole::Carries);
    carries.map_or_else(Default::default, |path| {
        (path.relay.clone().unwrap_or_default(), path.address.to_string())
    })
}

fn ended(relay: Option<&str>, reason: EndReason) -> End {
    let (exit, text) = match reason {
        EndReason::Left => return End::Stopped,
        EndReason::Refused {
            reason: Reason::ShuttingDown,
            text,
        } => (Exit::Failed, format!("the relay ended the call: {text}")),
        EndReason::Refused { text, .. } => (Exit::Refused, format!("the relay ended the call: {text}")),
        EndReason::RelayLost => (
            Exit::Failed,
            "the relay went away in the middle of the call".into(),
        ),
        EndReason::RelaySilent { after } => {
            let secs = after.as_secs();
            let text = match relay {
                Some(relay) => {
                    format!(
                        "relay {relay} has not answered for {secs} s: it was killed, or the network is gone"
                    )
                }
                None => format!("no relay of the room has answered for {secs} s: the network is gone"),
            };
            (Exit::Failed, text)
        }
        _ => (Exit::Failed, "the call ended".into()),
    };
    End::Broken(Failure { exit, text })
}

async fn connect(link: Link, report: &Report) -> Result<(Client, Fingerprint), Failure> {
    // Standard input may keep us waiting, and Ctrl-C must not.
    let identity = spawn_blocking(move || link.identity.identity()).await;
    let (identity, kept) = identity.map_err(|e| Failure::failed(e.to_string()))??;
    if kept == Kept::No {
        report.notice(Notice::Identity);
    }
    let own = identity.fingerprint();
    let builder = Client::builder().identity(identity).carrier(link.carrier);
    let (name, builder) = at_home(builder, link.home);
    report.progress(&format!("connecting to {name}"));
    let client = timeout(CONNECT, builder.connect()).await.map_err(|_| Failure {
        exit: Exit::Unreachable,
        text: format!("{name} does not answer, tried for 5 s: is it running, and does UDP get there?"),
    })??;
    if let Some(known) = client.relay().filter(|relay| relay.first_visit) {
        report.notice(Notice::FirstVisit {
            relay: known.name.clone(),
            certificate: known.certificate.to_string(),
        });
    }
    Ok((client, own))
}

/// What to call it, and how to get there.
fn at_home(builder: Builder, home: Home) -> (String, Builder) {
    match home {
        Home::Relay {
            relay,
            trust,
            admission,
        } => {
            let builder = builder.relay(relay.as_str()).trust(trust);
            let builder = match admission {
                Admission::Open => builder,
                Admission::Secret(secret) => builder.secret(secret),
                Admission::Grant(grant) => builder.grant(grant),
            };
            (format!("relay {relay}"), builder)
        }
        Home::Cluster(cluster) => {
            let mut builder = builder.control(&cluster.control);
            if let Some(key) = cluster.api_key {
                builder = builder.bearer(key);
            }
            if let Some(region) = cluster.region {
                builder = builder.region(region);
            }
            (format!("control plane {}", cluster.control), builder)
        }
    }
}
