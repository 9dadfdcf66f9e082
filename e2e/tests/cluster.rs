//! Calls in a cluster of real processes: relays die and stop, the control plane goes and comes back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use wzp_e2e::{
    PATIENCE,
    cluster::Cluster,
    member::{Guest, Member},
    until,
};
use wzp_sdk::{Client, PathRole, Stats};

const TONES: [f32; 2] = [440.0, 660.0];
/// What may be missed of a relay that is killed, on a machine that does other things as well.
const GAP_MS: u64 = 1_000;
/// What may be missed of a relay that moves its members first: less than it takes to see that one is dead.
const MOVE_GAP_MS: u64 = 300;

async fn join(cluster: &Cluster, hertz: f32) -> Member {
    let client = Client::builder().control(&cluster.url).connect().await.unwrap();
    Guest::saying(hertz).join_with(client).await.unwrap()
}

/// Two members who hear each other over one relay while another stands by.
async fn talking(cluster: &Cluster) -> [Member; 2] {
    let members = [join(cluster, TONES[0]).await, join(cluster, TONES[1]).await];
    hear_each_other(&members).await;
    for member in &members {
        let both = |stats: &Stats| named(stats, PathRole::Standby).is_some();
        member.stats(PATIENCE, "a standby", both).await;
    }
    members
}

async fn hear_each_other(members: &[Member; 2]) {
    members[0].hears(TONES[1]).await;
    members[1].hears(TONES[0]).await;
}

fn named(stats: &Stats, role: PathRole) -> Option<String> {
    let path = stats.paths.iter().find(|path| path.role == role)?;
    path.relay.clone()
}

/// Waits until another relay than `old` carries and a further one stands by.
async fn moved(members: &[Member; 2], old: &str) {
    for member in members {
        let moved = |stats: &Stats| {
            let carries = named(stats, PathRole::Carries);
            let stands_by = named(stats, PathRole::Standby);
            carries.is_some_and(|name| name != old) && stands_by.is_some_and(|name| name != old)
        };
        member
            .stats(PATIENCE, "another relay and a new standby", moved)
            .await;
    }
}

fn assert_gaps(members: &[Member; 2], longest_ms: u64) {
    for member in members {
        let stats = member.call.stats();
        let short = |remote: &wzp_sdk::RemoteStats| remote.longest_gap_ms <= longest_ms;
        assert!(stats.remotes.iter().all(short), "{:?}", stats.remotes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_carrier_is_hardly_missed_and_replaced() {
    let mut cluster = Cluster::start(3).await;
    let members = talking(&cluster).await;
    let carrier = named(&members[0].call.stats(), PathRole::Carries).unwrap();
    cluster.relay(&carrier).kill();
    moved(&members, &carrier).await;
    hear_each_other(&members).await;
    assert_gaps(&members, GAP_MS);
    until("the relay off the list", || {
        (!cluster.listed().contains(&carrier)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_that_is_told_to_stop_moves_its_members_first() {
    let mut cluster = Cluster::start(3).await;
    let members = talking(&cluster).await;
    let carrier = named(&members[0].call.stats(), PathRole::Carries).unwrap();
    cluster.relay(&carrier).signal("TERM");
    moved(&members, &carrier).await;
    let (status, _) = cluster.relay(&carrier).wait();
    assert!(status.success(), "{status}");
    hear_each_other(&members).await;
    assert_gaps(&members, MOVE_GAP_MS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_control_plane_calls_go_on_and_relays_still_stop_without_a_gap() {
    let mut cluster = Cluster::start(3).await;
    let members = talking(&cluster).await;
    cluster.control.kill();
    cluster.control.wait();
    let carrier = named(&members[0].call.stats(), PathRole::Carries).unwrap();
    cluster.relay(&carrier).signal("TERM");
    for member in &members {
        // Nobody gives the room a new standby now.
        let left = |stats: &Stats| named(stats, PathRole::Carries).is_some_and(|name| name != carrier);
        member.stats(PATIENCE, "the other relay", left).await;
    }
    let (status, _) = cluster.relay(&carrier).wait();
    assert!(status.success(), "{status}");
    hear_each_other(&members).await;
    assert_gaps(&members, MOVE_GAP_MS);
    cluster.restart_control();
    until("both relays back on the list", || {
        (cluster.listed().len() == 2).then_some(())
    })
    .await;
    let third = join(&cluster, 990.0).await;
    third.hears(TONES[0]).await;
    members[0].hears(990.0).await;
}
