use proptest::prelude::*;

use super::*;
use crate::testing::{at, id, located, probe};

fn relays(count: usize, regions: usize) -> Vec<(RelayId, Place)> {
    let regions = regions.max(1);
    (0..count)
        .map(|nth| {
            (
                id(&format!("relay-{nth}")),
                located(&format!("region-{}", nth % regions)),
            )
        })
        .collect()
}

fn planned(relays: &[(RelayId, Place)], mesh: &Mesh, unix_ms: u64) -> Plan {
    plan(
        &relays.iter().map(|(id, place)| (id, place)).collect::<Vec<_>>(),
        mesh,
        unix_ms,
    )
}

fn pairs(plan: &Plan) -> impl Iterator<Item = (&RelayId, &RelayId)> {
    plan.targets
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_plan_is_small_and_covers_everybody(count in 0..200usize, regions in 1..8usize, unix_ms in 0..u64::MAX / 2) {
        let relays = relays(count, regions);
        let plan = planned(&relays, &Mesh::default(), unix_ms);
        prop_assert_eq!(&plan, &planned(&relays.iter().rev().cloned().collect::<Vec<_>>(), &Mesh::default(), unix_ms));
        prop_assert!(pairs(&plan).all(|(from, to)| from != to));
        prop_assert!(pairs(&plan).count() <= count * (NEAREST + OTHERS) + regions * regions);
        for (relay, _) in &relays {
            let observers = pairs(&plan).filter(|(_, to)| *to == relay).count();
            prop_assert!(observers >= 3.min(count - 1), "{} is seen by {}", relay, observers);
        }
        let region = |relay: &RelayId| relays.iter().find(|(id, _)| id == relay).map(|(_, place)| place.region.clone());
        let seen: BTreeSet<_> = pairs(&plan).flat_map(|(a, b)| [(region(a), region(b)), (region(b), region(a))]).collect();
        let of: BTreeSet<_> = relays.iter().map(|(_, place)| Some(place.region.clone())).collect();
        for a in &of {
            prop_assert!(of.iter().all(|b| a == b || seen.contains(&(a.clone(), b.clone()))));
        }
    }

    #[test]
    fn within_a_minute_every_pair_of_fifty_is_measured(count in 2..=50usize, start in 0..1_000_000u64) {
        let relays = relays(count, 3);
        let mut measured = BTreeSet::new();
        // One round less than fit: the first and the last one are cut by the minute's ends.
        for round in 0..5 {
            let plan = planned(&relays, &Mesh::default(), (start + round) * ROUND.as_millis() as u64);
            measured.extend(pairs(&plan).map(|(a, b)| (a.clone().min(b.clone()), a.clone().max(b.clone()))));
        }
        prop_assert_eq!(measured.len(), count * (count - 1) / 2);
    }
}

#[test]
fn the_nearest_are_always_probed() {
    let relays = relays(40, 4);
    let mut mesh = Mesh::default();
    let (from, place) = &relays[0];
    for (nth, (to, there)) in relays.iter().enumerate().skip(1) {
        mesh.handle_probe(
            at(0),
            (from, place),
            there,
            &probe(to.as_str(), 1_000 - nth as u64),
        );
    }
    for round in 0..7 {
        let plan = planned(&relays, &mesh, round * 10_000);
        let targets = &plan.targets[from];
        assert!(
            [37, 38, 39].iter().all(|nth| targets.contains(&relays[*nth].0)),
            "{targets:?}"
        );
    }
}

#[test]
fn the_estimate_of_a_pair_that_is_never_probed_is_its_regions() {
    let relays = relays(400, 4);
    let mut mesh = Mesh::default();
    let place_of = |relay: &RelayId| &relays.iter().find(|(id, _)| id == relay).unwrap().1;
    let plan = planned(&relays, &mesh, 0);
    for (from, to) in pairs(&plan).filter(|(from, to)| place_of(from) != place_of(to)) {
        mesh.handle_probe(
            at(0),
            (from, place_of(from)),
            place_of(to),
            &probe(to.as_str(), 80),
        );
    }
    for (a, place_a) in relays.iter().take(20) {
        for (b, place_b) in relays.iter().filter(|(_, place)| place != place_a) {
            let estimate = mesh.estimate(at(0), (a, place_a), (b, place_b)).unwrap();
            assert_eq!(estimate.rtt.as_millis(), 80);
        }
    }
}
