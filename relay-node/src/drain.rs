//! Leaving a cluster: members move to other relays first.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time;
use tracing::{info, warn};
use wzp_relay_core::lifecycle::{DRAIN_TIME, Lifecycle};
use wzp_socket::clock;

use crate::{bulletin::News, cluster::Cluster, relay::Shared};

/// Members have to have moved by then: those who have not are told where to go, before everybody is told goodbye.
const MOVED_WITHIN: Duration = DRAIN_TIME.saturating_sub(Duration::from_millis(500));
/// The control plane begins to move rooms within this, or is not there.
const CONTROL_ACTS_WITHIN: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Says that this relay stops. Where rooms go is decided by the control plane, if there is one.
pub(crate) fn begin(cluster: &Cluster) {
    info!("draining");
    cluster.draining.store(true, Relaxed);
    cluster.bulletin.news(&News::Drain(MOVED_WITHIN));
}

/// Looks after leases, and after members who leave, for as long as the relay runs.
pub(crate) async fn keep(relay: Arc<Shared>) {
    let Some(cluster) = &relay.cluster else { return };
    let mut every = time::interval(LOOK_EVERY);
    let (mut began, mut forgot) = (None, clock::now());
    loop {
        every.tick().await;
        relay.hall.keep_leases();
        let now = clock::now();
        if now.duration_since(forgot) >= FORGET_EVERY {
            forgot = now;
            relay.hall.forget_leases();
        }
        let Lifecycle::Draining { deadline } = relay.lifecycle() else {
            began = None;
            continue;
        };
        let (since, alone) = began.get_or_insert((now, false));
        let is_alone =
            cluster.attached.load(Relaxed) == 0 || now.duration_since(*since) >= CONTROL_ACTS_WITHIN;
        if is_alone && !*alone {
            *alone = true;
            let left = deadline
                .duration_since(now)
                .saturating_sub(DRAIN_TIME - MOVED_WITHIN);
            warn!("no control plane says where members go: they go to the other relays of their rooms");
            relay.hall.drain_alone(left);
        }
        let members = relay.hall.own_member_count();
        relay.set(|state| state.handle_members(now, members));
    }
}

/// The relay goes on after all.
pub(crate) fn undo(relay: &Shared, cluster: &Cluster) {
    cluster.draining.store(false, Relaxed);
    relay.set(Lifecycle::handle_undrain);
    relay.hall.undrain();
}
