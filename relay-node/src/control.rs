//! The door to the control plane: one gRPC stream to every replica of it that the name resolves to.
//!
//! What replicas say is parsed here and carried out by the hall; what they have to know is on the bulletin. Nothing here
//! is needed for calls to go on: without a control plane the relay serves under the leases it knows.

mod commands;
mod dial;
mod enroll;
mod events;
mod probing;
mod stream;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time,
};
use tracing::warn;
use wzp_relay_core::meter::Done;
use wzp_socket::clock;

use crate::{cluster::Cluster, metrics::cpu_time, outbound::Caller, relay::Shared};
use dial::Dial;

/// How often the name is looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// The same while it cannot be looked up.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Enrolls the relay and keeps it attached, for as long as it runs.
pub(crate) async fn run(relay: Arc<Shared>, caller: Arc<Caller>) {
    let Some(cluster) = relay.cluster.clone() else {
        return;
    };
    let dial = Arc::new(Dial::new(&cluster));
    let enrolled = enroll::first(&relay, &cluster, &dial).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(enroll::keep_renewing(
        Arc::clone(&relay),
        Arc::clone(&cluster),
        Arc::clone(&dial),
        enrolled,
    ));
    tasks.spawn(measure(Arc::clone(&relay), Arc::clone(&cluster)));
    tasks.spawn(probing::run(Arc::clone(&relay), Arc::clone(&caller)));
    let mut streams: BTreeMap<SocketAddr, Attached> = BTreeMap::new();
    loop {
        let wait = match dial.addresses().await {
            Ok(addresses) => {
                streams.retain(|_, stream| !stream.task.is_finished());
                for (address, stream) in &streams {
                    stream.is_named.send_replace(addresses.contains(address));
                }
                for address in addresses {
                    streams.entry(address).or_insert_with(|| {
                        let (said, is_named) = watch::channel(true);
                        let (relay, caller) = (Arc::clone(&relay), Arc::clone(&caller));
                        let kept = stream::keep_attached(relay, caller, Arc::clone(&dial), address, is_named);
                        Attached {
                            task: tokio::spawn(kept),
                            is_named: said,
                        }
                    });
                }
                LOOK_UP_EVERY
            }
            Err(error) => {
                warn!(%error, control = %cluster.config.control, "cannot look up the control plane");
                LOOK_UP_AGAIN
            }
        };
        time::sleep(wait).await;
    }
}

/// A stream, or the attempts to have one; it ends with the relay.
struct Attached {
    task: JoinHandle<()>,
    /// A replica whose address the name has no more is left when its stream ends.
    is_named: watch::Sender<bool>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Averages of what the relay does.
async fn measure(relay: Arc<Shared>, cluster: Arc<Cluster>) {
    let mut every = time::interval(MEASURE_EVERY);
    loop {
        every.tick().await;
        let (bytes, packets) = relay.metrics.sent();
        let done = Done {
            bytes,
            packets,
            cpu: cpu_time(),
        };
        cluster.meter().handle_sample(clock::now(), done);
    }
}
