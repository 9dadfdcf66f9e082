use super::*;
use crate::{
    leases::Seat,
    mesh::Mesh,
    placement::Candidate,
    registry::Offer,
    relay::Place,
    testing::{Seed, at, id, located, ms, room},
};
use wzp_wire::Epoch;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn nodes() -> Vec<(RelayId, Place)> {
    NAMES
        .iter()
        .map(|name| (id(name), located(&format!("eu/{name}"))))
        .collect()
}

fn snapshot<'a>(nodes: &'a [(RelayId, Place)], mesh: &'a Mesh, offer: Offer) -> Snapshot<'a> {
    let candidate = |(relay, place): &'a (RelayId, Place)| Candidate {
        relay,
        place,
        offer: Some(offer),
        load: 0.0,
        member_cost: 0.002,
        carried: 0,
        standby: 0,
        failures: 0.0,
        outdated: false,
    };
    Snapshot::new(at(0), nodes.iter().map(candidate).collect(), mesh)
}

fn rooms(count: u32, members: u32) -> impl Iterator<Item = (Lease, u32)> {
    let seat = |relay, carries| Seat {
        relay: id(relay),
        carries,
    };
    (0..count).map(move |nth| {
        let standby = NAMES[1 + nth as usize % 3];
        let seats = vec![seat("a", true), seat(standby, false)];
        (
            Lease {
                room: room(&format!("room-{nth:03}")),
                epoch: Epoch(7),
                seats,
            },
            members,
        )
    })
}

fn planned(count: u32, members: u32) -> Plan {
    let (nodes, mesh) = (nodes(), Mesh::default());
    plan(
        &id("a"),
        rooms(count, members),
        snapshot(&nodes, &mesh, Offer::Active),
        DEADLINE,
        &mut Seed(1),
    )
}

#[test]
fn two_hundred_members_leave_evenly_and_in_time() {
    let plan = planned(40, 5);
    assert_eq!((plan.steps.len(), plan.stuck.len()), (40, 0));
    for step in &plan.steps {
        assert_eq!(
            (step.write.expected, step.write.lease.epoch),
            (Epoch(7), Epoch(8))
        );
        assert!(!step.write.lease.seats_relay(&id("a")));
        assert_eq!(step.write.lease.seats.len(), 2);
        assert!(step.after + step.spread <= ms(2_000), "{step:?}");
    }
    assert_eq!(plan.eta, ms(3_500));
    let targets: Vec<_> = plan.targets().into_values().collect();
    assert_eq!(targets.iter().sum::<u32>(), 200);
    assert!(
        targets.iter().all(|members| (60..=75).contains(members)),
        "{targets:?}"
    );
}

#[test]
fn the_spread_is_bounded_and_short_deadlines_are_kept() {
    assert_eq!(
        [0, 49, 200, 100_000].map(spread),
        [ms(500), ms(500), ms(2_000), ms(6_000)]
    );
    let (nodes, mesh) = (nodes(), Mesh::default());
    let snapshot = snapshot(&nodes, &mesh, Offer::Active);
    let hasty = plan(&id("a"), rooms(300, 1), snapshot, ms(3_000), &mut Seed(1));
    assert!(
        hasty
            .steps
            .iter()
            .all(|step| step.after + step.spread <= ms(1_800))
    );
    assert_eq!(planned(0, 0).eta, Duration::ZERO);
}

#[test]
fn rooms_with_nowhere_to_go_are_told() {
    let (nodes, mesh) = (nodes(), Mesh::default());
    let plan = plan(
        &id("a"),
        rooms(3, 1),
        snapshot(&nodes, &mesh, Offer::Draining),
        DEADLINE,
        &mut Seed(1),
    );
    assert_eq!((plan.steps.len(), plan.stuck.len()), (0, 3));
}

#[test]
fn a_drain_goes_room_by_room_and_can_be_undone() {
    let mut drain = Drain::new(at(1_000), planned(40, 5));
    assert!(drain.poll_step(at(1_000)).is_some());
    let mut ordered = 1;
    while drain.poll_timeout() <= at(2_000) {
        while let Some(step) = drain.poll_step(drain.poll_timeout()) {
            ordered += 1;
            drain.handle_members(&step.write.lease.room, 0);
        }
    }
    let progress = drain.progress(at(2_000));
    assert_eq!(
        (progress.rooms, progress.rooms_ordered, progress.rooms_done),
        (40, ordered, ordered - 1)
    );
    assert_eq!(progress.members_left, 200 - 5 * (ordered as u32 - 1));
    assert_eq!(progress.eta_ms, 2_500);
    assert!(!drain.is_over(at(2_000)) && drain.is_over(at(11_000)));
    assert_eq!(drain.undo(), 40 - ordered);
}

#[test]
fn a_room_that_changed_meanwhile_is_planned_again() {
    let drain = Drain::new(at(0), planned(2, 5));
    let (nodes, mesh) = (nodes(), Mesh::default());
    let snapshot = snapshot(&nodes, &mesh, Offer::Active);
    let (mut row, _) = rooms(1, 5).next().unwrap();
    row.epoch = Epoch(9);
    let step = drain.handle_conflict(&row, &snapshot, &mut Seed(1)).unwrap();
    assert_eq!((step.write.expected, step.members), (Epoch(9), 5));
    row.seats.remove(0);
    assert_eq!(drain.handle_conflict(&row, &snapshot, &mut Seed(1)), None);
}
