//! Which of the listed relays are worth a look, and how far they are: a QUIC handshake with each, over the one socket.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use wzp_socket::client::Socket;

use super::{Listed, api::Measurement};
use crate::{CertificateHash, trust::Verifier};

/// All relays together have this much time; those that take longer are too far, or not there.
const BUDGET: Duration = Duration::from_millis(300);
/// Once so many were measured, the others have as much time again as these took.
const ENOUGH: usize = 3;
const MOST: usize = 8;
const OF_OUR_REGION: usize = 4;

/// Whom to measure: some of our own region, and one of each other, so that we learn where we are. Chance decides among
/// equals, so that a thousand clients do not all ask the same ones.
pub(super) fn candidates(mut listed: Vec<Listed>, region: Option<&str>) -> Vec<Listed> {
    shuffle(&mut listed);
    // The busy and the leaving only where there is nobody else.
    listed.sort_by_key(|relay| {
        let state = match relay.state.as_str() {
            "active" | "" => 0,
            "avoid" => 1,
            _ => 2,
        };
        (state, relay.load == "high")
    });
    let (near, far): (Vec<_>, Vec<_>) = listed
        .into_iter()
        .partition(|relay| region == Some(relay.region.as_str()));
    let mut seen = BTreeSet::new();
    let (first, more): (Vec<_>, Vec<_>) = far
        .into_iter()
        .partition(|relay| seen.insert(relay.region.clone()));
    let mut near = near.into_iter();
    let mut chosen: Vec<Listed> = near.by_ref().take(OF_OUR_REGION).collect();
    chosen.extend(first.into_iter().chain(near).chain(more));
    chosen.truncate(MOST);
    chosen
}

/// What can be measured within the budget, nearest first; nothing where UDP does not get through.
pub(super) async fn measure(socket: &Socket, candidates: Vec<Listed>) -> Vec<Measurement> {
    let began = Instant::now();
    let deadline = began + BUDGET;
    let mut running = JoinSet::new();
    for relay in candidates {
        let endpoint = socket.endpoint().clone();
        running.spawn(async move {
            let hashes = relay
                .certificates
                .iter()
                .copied()
                .map(CertificateHash::from_bytes);
            let config = Verifier::new(Some(hashes.collect())).client_config().ok()?;
            let address = *relay.addresses.first()?;
            let dialled = Instant::now();
            let connecting = endpoint.connect_with(config, address, "wzp").ok()?;
            let connection = timeout_at(deadline, connecting).await.ok()?.ok()?;
            // The handshake is one round trip and the work of two; QUIC's own estimate has the round trip alone.
            let rtt = connection.rtt().min(dialled.elapsed());
            connection.close(0_u32.into(), b"");
            Some(Measurement {
                relay: relay.id,
                rtt_ms: rtt.as_secs_f64() * 1_000.0,
                loss: 0.0,
            })
        });
    }
    let (mut measured, mut stop) = (Vec::new(), deadline);
    while let Ok(Some(done)) = timeout_at(stop, running.join_next()).await {
        measured.extend(done.ok().flatten());
        if measured.len() == ENOUGH {
            // The others are farther, or not there.
            stop = stop.min(Instant::now() + began.elapsed());
        }
    }
    measured.sort_by(|a, b| a.rtt_ms.total_cmp(&b.rtt_ms));
    measured
}

fn shuffle(listed: &mut [Listed]) {
    for end in (1..listed.len()).rev() {
        let mut bytes = [0; 8];
        if getrandom::fill(&mut bytes).is_err() {
            return;
        }
        let other = (u64::from_ne_bytes(bytes) % (end as u64 + 1)) as usize;
        listed.swap(end, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(id: &str, region: &str, state: &str) -> Listed {
        Listed {
            id: id.into(),
            region: region.into(),
            state: state.into(),
            load: "low".into(),
            addresses: vec![([127, 0, 0, 1], 1).into()],
            certificates: vec![[0; 32]],
        }
    }

    #[test]
    fn our_region_is_measured_first_and_every_other_once() {
        let mut all: Vec<_> = (0..20)
            .map(|i| relay(&format!("near-{i}"), "eu", "active"))
            .collect();
        all.extend((0..20).map(|i| relay(&format!("far-{i}"), "us", "active")));
        all.push(relay("farther", "ap", "active"));
        let chosen = candidates(all, Some("eu"));
        let of = |region| chosen.iter().filter(|relay| relay.region == region).count();
        assert_eq!((chosen.len(), of("us"), of("ap")), (MOST, 1, 1));
        assert!(chosen[..OF_OUR_REGION].iter().all(|relay| relay.region == "eu"));
    }

    #[test]
    fn who_is_leaving_is_asked_last() {
        let all = vec![
            relay("a", "eu", "draining"),
            relay("b", "eu", "avoid"),
            relay("c", "eu", "active"),
        ];
        let ids: Vec<_> = candidates(all, None).into_iter().map(|relay| relay.id).collect();
        assert_eq!(ids, ["c", "b", "a"]);
    }

    #[test]
    fn few_or_none_are_no_trouble() {
        assert!(candidates(Vec::new(), Some("eu")).is_empty());
        assert_eq!(candidates(vec![relay("a", "us", "active")], Some("eu")).len(), 1);
    }
}
