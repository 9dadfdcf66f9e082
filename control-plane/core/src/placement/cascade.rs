//! Whether a second carrying relay brings far members closer to each other.

use super::{Snapshot, score::Ranking};
use crate::leases::{Far, Seat};

/// No more carrying relays than that: each pair of them has a trunk.
const MOST: usize = 4;
/// What must be gained at least: of the way there and back, and in ms one way.
const GAIN: (f32, f32) = (0.25, 20.0);

/// The relay that, if it carried too, would shorten the longest way between the client and the members most.
pub(super) fn second(
    snapshot: &Snapshot<'_>,
    ranking: &Ranking<'_, '_>,
    seats: &[Seat],
    far: &[Far],
) -> Option<usize> {
    let carriers: Vec<_> = seats
        .iter()
        .filter(|seat| seat.carries)
        .map(|seat| snapshot.position(&seat.relay))
        .collect::<Option<_>>()?;
    if carriers.is_empty() || carriers.len() >= MOST {
        return None;
    }
    let members: Vec<_> = far
        .iter()
        .filter_map(|far| Some((snapshot.position(&far.relay)?, far.rtt.as_secs_f32() * 1_000.0)))
        .filter(|(at, _)| carriers.contains(at))
        .collect();
    let longest = |through: usize| {
        let ways = members
            .iter()
            .map(|(at, rtt)| Some(ranking.way_ms(through) + between(snapshot, through, *at)? + rtt));
        ways.collect::<Option<Vec<_>>>()?
            .into_iter()
            .max_by(f32::total_cmp)
    };
    let now = carriers
        .iter()
        .filter_map(|at| longest(*at))
        .min_by(f32::total_cmp)?;
    let better = |way: f32| now - way >= now * GAIN.0 && (now - way) / 2.0 >= GAIN.1;
    (0..snapshot.relays().len())
        .filter(|at| ranking.rank(*at) == 0 && !carriers.contains(at))
        .filter_map(|at| Some((at, longest(at).filter(|way| better(*way))?)))
        .min_by(|(a, way_a), (b, way_b)| way_a.total_cmp(way_b).then(ranking.compare(*a, *b)))
        .map(|(at, _)| at)
}

fn between(snapshot: &Snapshot<'_>, a: usize, b: usize) -> Option<f32> {
    let of = |at: usize| {
        snapshot
            .relays()
            .get(at)
            .map(|candidate| (candidate.relay, candidate.place))
    };
    let estimate = snapshot.mesh().estimate(snapshot.now(), of(a)?, of(b)?)?;
    Some(estimate.rtt.as_secs_f32() * 1_000.0)
}
