//! One stream to one replica.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{info, warn};
use wzp_proto::control::{
    self as proto, RelayCommand, RelayEvent, relay_command, relay_control_client::RelayControlClient,
    relay_event::Kind,
};
use wzp_relay_core::backoff::Backoff;

use super::{
    commands::{self, Check},
    dial::Dial,
    events, probing,
};
use crate::{
    bulletin::{News, Waiting},
    cluster::Cluster,
    outbound::Caller,
    random::{SystemRng, random},
    relay::Shared,
};

const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// A replica that takes nothing for so long is left.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Whoever was rejected comes back no sooner.
const REJECTED_PAUSE: Duration = Duration::from_secs(5);
/// Messages under way to a replica.
const OUTBOUND: usize = 64;

/// Why there is no stream, or no longer one.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Dial(#[from] super::dial::DialError),
    #[error("refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error("rejected ({reason}): {text}")]
    Rejected { reason: &'static str, text: String },
    #[error("the replica says nothing")]
    Silent,
    #[error("the replica has ended the stream")]
    Over,
    #[error("this relay introduces itself anew")]
    Reintroduce,
}

/// Keeps attached to the replica at `address`.
pub(super) async fn keep_attached(
    relay: Arc<Shared>,
    caller: Arc<Caller>,
    dial: Arc<Dial>,
    address: SocketAddr,
    is_named: watch::Receiver<bool>,
) {
    let Some(cluster) = relay.cluster.clone() else {
        return;
    };
    let mut backoff = Backoff::default();
    let mut said = String::new();
    while *is_named.borrow() {
        let mut stream = Stream {
            relay: &relay,
            cluster: &cluster,
            caller: &caller,
            id: next_id(),
            sent: 0,
        };
        let (end, was_attached) = stream.run(&dial, address).await;
        if was_attached {
            backoff.reset();
            said.clear();
        }
        let text = end.to_string();
        if !matches!(end, End::Reintroduce) && text != said {
            warn!(replica = %address, error = %text, "not attached to the control plane");
            said = text;
        }
        let pause = backoff.next(&mut SystemRng);
        time::sleep(match end {
            End::Rejected { .. } => pause.max(REJECTED_PAUSE),
            End::Reintroduce => Duration::ZERO,
            _ => pause,
        })
        .await;
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

struct Stream<'a> {
    relay: &'a Arc<Shared>,
    cluster: &'a Arc<Cluster>,
    caller: &'a Arc<Caller>,
    id: u64,
    /// The number of the last event.
    sent: u64,
}

type Outbound = mpsc::Sender<RelayEvent>;

impl Stream<'_> {
    /// The end of it, and whether the relay was attached before.
    async fn run(&mut self, dial: &Dial, address: SocketAddr) -> (End, bool) {
        let opened = self.open(dial, address).await;
        let (inbound, outbound, heartbeat) = match opened {
            Ok(opened) => opened,
            Err(end) => {
                let rejected = matches!(end, End::Rejected { .. });
                let result = if rejected { "rejected" } else { "unreachable" };
                self.relay.metrics.control_attempt(result);
                return (end, false);
            }
        };
        info!(replica = %address, "attached to the control plane");
        self.relay.metrics.control_attempt("attached");
        events::attached(self.relay, self.cluster, 1);
        // Also when this future is dropped: nobody may count as attached who is not.
        let _guard = Guard(self.relay, self.cluster, self.id);
        let end = self.attached(inbound, &outbound, heartbeat).await;
        (end, true)
    }

    async fn open(
        &mut self,
        dial: &Dial,
        address: SocketAddr,
    ) -> Result<(Streaming<RelayCommand>, Outbound, Duration), End> {
        let line = dial.connect(address).await?;
        if let Some(local) = line.local {
            self.cluster.handle_local_address(local);
        }
        let (outbound, events) = mpsc::channel(OUTBOUND);
        self.send(&outbound, events::hello(self.relay, self.cluster))
            .await?;
        let mut client = RelayControlClient::new(line.channel).max_decoding_message_size(16 << 20);
        let opening = async {
            let mut inbound = client.attach(ReceiverStream::new(events)).await?.into_inner();
            match inbound.message().await?.and_then(|command| command.kind) {
                Some(relay_command::Kind::Welcome(welcome)) => Ok((inbound, welcome)),
                Some(relay_command::Kind::Rejected(rejected)) => Err(rejection(&rejected)),
                _ => Err(End::Over),
            }
        };
        let (inbound, welcome) = time::timeout(WELCOME_WITHIN, opening)
            .await
            .map_err(|_| End::Silent)??;
        let heartbeat = match welcome.heartbeat_ms {
            0 => HEARTBEAT,
            ms => Duration::from_millis(u64::from(ms).clamp(100, 60_000)),
        };
        Ok((inbound, outbound, heartbeat))
    }

    async fn attached(
        &mut self,
        mut inbound: Streaming<RelayCommand>,
        outbound: &Outbound,
        heartbeat: Duration,
    ) -> End {
        let rooms = self.relay.hall.lease_rooms().into_iter().collect();
        let feed = self.cluster.bulletin.subscribe(rooms);
        if let Err(end) = self.introduce(outbound, feed.take()).await {
            return end;
        }
        let (report, mut reports) = mpsc::channel(OUTBOUND);
        let (mut beat, mut probes) = (time::Instant::now(), time::Instant::now());
        loop {
            let done = select! {
                command = inbound.message() => match command {
                    Ok(Some(command)) => self.handle(command, outbound, &report).await,
                    Ok(None) => Err(End::Over),
                    Err(status) => Err(status.into()),
                },
                waiting = feed.next() => self.tell(outbound, waiting).await,
                Some(event) = reports.recv() => self.send(outbound, event).await,
                () = time::sleep_until(beat) => {
                    beat = time::Instant::now() + jittered(heartbeat);
                    let event = events::heartbeat(self.relay, self.cluster);
                    self.send(outbound, event).await
                }
                () = time::sleep_until(probes) => {
                    let every = self.cluster.plan().every.max(Duration::from_secs(1));
                    probes = time::Instant::now() + every;
                    match probing::report(self.cluster) {
                        Some(event) => self.send(outbound, event).await,
                        None => Ok(()),
                    }
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Everything that the replica may have forgotten, or never heard.
    async fn introduce(&mut self, outbound: &Outbound, everything: Waiting) -> Result<(), End> {
        self.send(outbound, events::heartbeat(self.relay, self.cluster))
            .await?;
        self.tell(outbound, everything).await?;
        self.send(outbound, Kind::Synced(proto::Synced {})).await
    }

    async fn tell(&mut self, outbound: &Outbound, waiting: Waiting) -> Result<(), End> {
        for room in &waiting.rooms {
            let event = events::room(self.relay, room);
            self.send(outbound, event).await?;
        }
        for person in &waiting.people {
            let event = events::presence(self.cluster, person);
            self.send(outbound, event).await?;
        }
        for news in waiting.news {
            let event = match news {
                News::PeerDown { relay, boot, silent } => events::peer_down(&relay, boot, silent),
                News::Drain(deadline) => events::drain_request(deadline),
                News::Reintroduce => return Err(End::Reintroduce),
            };
            self.send(outbound, event).await?;
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        command: RelayCommand,
        outbound: &Outbound,
        report: &mpsc::Sender<Kind>,
    ) -> Result<(), End> {
        let error = match command.kind {
            Some(relay_command::Kind::Rejected(rejected)) => return Err(rejection(&rejected)),
            Some(kind) => match commands::handle(self.relay, self.cluster, self.id, kind) {
                Ok(Some(check)) => {
                    tokio::spawn(try_addresses(Arc::clone(self.caller), check, report.clone()));
                    String::new()
                }
                Ok(None) => String::new(),
                Err(unheard) => unheard.to_string(),
            },
            // From a version that is ahead of us by one.
            None => "this relay does not know this command".to_owned(),
        };
        self.send(outbound, events::ack(command.seq, error)).await
    }

    async fn send(&mut self, outbound: &Outbound, kind: Kind) -> Result<(), End> {
        self.sent += 1;
        let event = RelayEvent {
            seq: self.sent,
            kind: Some(kind),
        };
        let sent = time::timeout(TAKEN_WITHIN, outbound.send(event)).await;
        sent.map_err(|_| End::Silent)?.map_err(|_| End::Over)
    }
}

struct Guard<'a>(&'a Shared, &'a Cluster, u64);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Self(relay, cluster, stream) = self;
        cluster.detached(*stream);
        events::attached(relay, cluster, -1);
    }
}

fn rejection(rejected: &proto::Rejected) -> End {
    End::Rejected {
        reason: rejected.reason().as_str_name(),
        text: rejected
            .text
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect(),
    }
}

/// A fifth more or less.
fn jittered(every: Duration) -> Duration {
    let [random] = random::<1>();
    every.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}

async fn try_addresses(caller: Arc<Caller>, check: Check, report: mpsc::Sender<Kind>) {
    for address in check.addresses {
        let outcome = caller.check(address, check.certificates.clone()).await;
        let event = Kind::AddressReport(proto::AddressReport {
            relay_id: check.relay.to_string(),
            address: Some(events::address(address, proto::AddressSource::Unspecified)),
            reachable: outcome.is_ok(),
            why_not: outcome.err().map(|error| error.to_string()).unwrap_or_default(),
        });
        if report.send(event).await.is_err() {
            return;
        }
    }
}
