//! Which relays serve a room: a pure function of a [`Snapshot`], with its reasons.
//!
//! Every relay gets a score in milliseconds of RTT, or what is worth as much; the lowest wins. Relays that are full,
//! draining or not listed come after all others, but are never refused when there is nothing else. Among relays about
//! as good as the best, the one with the fewest members (for its size) is taken, and chance decides between equals: a
//! burst of joins is spread, and replicas that know the same do not all choose the same.

mod cascade;
mod explain;
mod score;
mod snapshot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::RelayId;

use crate::leases::{Far, Seat};
use score::Ranking;

pub use explain::{Explanation, Role, Rule, Scored, Terms};
pub use snapshot::{Candidate, Snapshot};

/// What a client measured to one relay before it asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// To whom.
    pub relay: RelayId,
    /// There and back.
    pub rtt: Duration,
    /// Of the probes, 0 to 1,000.
    pub loss_permille: u16,
}

/// What is known of the client that asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// At most [`Request::MAX_MEASUREMENTS`] count.
    pub measurements: Vec<Measurement>,
    /// Where it says it is, or its address does; empty: not known.
    pub region: Box<str>,
}

impl Request {
    /// What is beyond is not looked at.
    pub const MAX_MEASUREMENTS: usize = 16;

    /// Of somebody of whom the region is known at most.
    pub fn in_region(region: &str) -> Self {
        Self {
            measurements: Vec::new(),
            region: region.into(),
        }
    }
}

/// There is no relay that could serve. Nobody is at fault but whoever runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no relay can serve")]
pub struct NoRelay;

/// The choice, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The carrying ones first.
    pub seats: Vec<Seat>,
    /// What decided.
    pub explanation: Explanation,
}

/// Chooses a relay that carries a new room, and one that stands by.
///
/// # Errors
/// [`NoRelay`] only if the snapshot is empty.
pub fn place(snapshot: &Snapshot<'_>, request: &Request, rng: &mut impl Rng) -> Result<Placement, NoRelay> {
    let ranking = Ranking::new(snapshot, request);
    let (carrier, near_equals) = ranking.carrier(|_| true, rng).ok_or(NoRelay)?;
    let mut chosen = vec![(carrier, Role::Carries)];
    chosen.extend(ranking.standby(&[carrier], rng).map(|at| (at, Role::Standby)));
    let rule = match ranking.rank(carrier) {
        0 => ranking.basis,
        _ => Rule::LastResort,
    };
    let explanation = ranking.explain(rule, near_equals, &chosen);
    Ok(Placement {
        seats: ranking.seats(&chosen),
        explanation,
    })
}

/// Fills up what is left of a room's set: without a carrying relay the best standby carries (if it is better than
/// the last resort), without a standby another one stands by.
///
/// # Errors
/// [`NoRelay`] if nothing is left, and nothing else can serve.
pub fn refill(
    snapshot: &Snapshot<'_>,
    left: &[Seat],
    request: &Request,
    rng: &mut impl Rng,
) -> Result<Placement, NoRelay> {
    let ranking = Ranking::new(snapshot, request);
    let known = |seat: &Seat| Some((snapshot.position(&seat.relay)?, seat.carries));
    // Relays that were not heard of yet keep their seats.
    let unheard = left
        .iter()
        .filter(|seat| snapshot.position(&seat.relay).is_none());
    let unheard: Vec<_> = unheard.cloned().collect();
    let has = |carries: bool| unheard.iter().any(|seat| seat.carries == carries);
    let left: Vec<_> = left.iter().filter_map(known).collect();
    let of = |carries| {
        left.iter()
            .filter(move |seat| seat.1 == carries)
            .map(|seat| seat.0)
    };
    let mut carriers: Vec<_> = of(true).collect();
    let mut standbys: Vec<_> = of(false).collect();
    let (mut rule, mut near_equals) = (Rule::StandbyAdded, carriers.len());
    if carriers.is_empty() && !has(true) {
        let promoted = standbys.iter().copied().min_by(|a, b| ranking.compare(*a, *b));
        let carrier = match promoted.filter(|at| ranking.rank(*at) == 0) {
            Some(standby) => {
                (rule, near_equals) = (Rule::Promoted, 1);
                standby
            }
            None => {
                let (best, equals) = ranking.carrier(|_| true, rng).ok_or(NoRelay)?;
                (rule, near_equals) = (ranking.basis, equals);
                best
            }
        };
        standbys.retain(|at| *at != carrier);
        carriers.push(carrier);
    }
    standbys.retain(|at| ranking.rank(*at) <= score::FULL);
    if standbys.is_empty() && !has(false) {
        standbys.extend(ranking.standby(&carriers, rng));
    }
    let carrying = carriers.into_iter().map(|at| (at, Role::Carries));
    let chosen: Vec<_> = carrying
        .chain(standbys.into_iter().map(|at| (at, Role::Standby)))
        .collect();
    let explanation = ranking.explain(rule, near_equals, &chosen);
    let mut seats = ranking.seats(&chosen);
    seats.extend(unheard);
    seats.sort_by_key(|seat| !seat.carries);
    Ok(Placement { seats, explanation })
}

/// Another carrying relay for a room, if with it the way between this client and the farthest members gets shorter by a
/// quarter and 20 ms at least. `far` is how far members are from the relays that carry now.
pub fn cascade(
    snapshot: &Snapshot<'_>,
    seats: &[Seat],
    far: &[Far],
    request: &Request,
    rng: &mut impl Rng,
) -> Option<Placement> {
    let ranking = Ranking::new(snapshot, request);
    let added = cascade::second(snapshot, &ranking, seats, far)?;
    let carrying = seats.iter().filter(|seat| seat.carries);
    let carriers: Vec<_> = carrying
        .filter_map(|seat| snapshot.position(&seat.relay))
        .chain([added])
        .collect();
    let left = seats
        .iter()
        .filter(|seat| !seat.carries)
        .filter_map(|seat| snapshot.position(&seat.relay));
    let standby = left
        .filter(|at| *at != added)
        .min_by(|a, b| ranking.compare(*a, *b));
    let standby = standby.or_else(|| ranking.standby(&carriers, rng));
    let carrying = carriers.into_iter().map(|at| (at, Role::Carries));
    let chosen: Vec<_> = carrying.chain(standby.map(|at| (at, Role::Standby))).collect();
    let explanation = ranking.explain(Rule::Cascade, 1, &chosen);
    Some(Placement {
        seats: ranking.seats(&chosen),
        explanation,
    })
}

/// Why a room that is served well stays where it is.
pub fn keep(snapshot: &Snapshot<'_>, seats: &[Seat], request: &Request) -> Explanation {
    let ranking = Ranking::new(snapshot, request);
    let role = |carries| if carries { Role::Carries } else { Role::Standby };
    let chosen = seats
        .iter()
        .filter_map(|seat| Some((snapshot.position(&seat.relay)?, role(seat.carries))));
    ranking.explain(Rule::Kept, 0, &chosen.collect::<Vec<_>>())
}

/// Sorts the seats of a room as this client should prefer them: carrying ones first, the best first.
pub fn order_for(snapshot: &Snapshot<'_>, request: &Request, seats: &mut [Seat]) {
    let ranking = Ranking::new(snapshot, request);
    seats.sort_by(|a, b| {
        let [at, bt] = [a, b].map(|seat| snapshot.position(&seat.relay));
        let by_score = match (at, bt) {
            (Some(a), Some(b)) => ranking.compare_way(a, b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        b.carries.cmp(&a.carries).then(by_score)
    });
}
