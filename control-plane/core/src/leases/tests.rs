use super::*;
use crate::{
    mesh::Mesh,
    placement::{Candidate, Rule},
    registry::Offer,
    relay::Place,
    testing::{Seed, at, id, located, room},
};
use wzp_wire::Instant;

struct Cluster {
    nodes: Vec<(RelayId, Place, Option<Offer>, f32)>,
    mesh: Mesh,
}

impl Cluster {
    fn of(names: &[&str]) -> Self {
        let node = |name: &&str| (id(name), located(&format!("eu/{name}")), Some(Offer::Active), 0.1);
        Self {
            nodes: names.iter().map(node).collect(),
            mesh: Mesh::default(),
        }
    }

    fn snapshot(&self) -> Snapshot<'_> {
        let candidate = |(relay, place, offer, load)| {
            let (relay, place): (&'_ RelayId, &'_ Place) = (relay, place);
            let (offer, load): (&Option<Offer>, &f32) = (offer, load);
            Candidate {
                relay,
                place,
                offer: *offer,
                load: *load,
                member_cost: 0.002,
                carried: 0,
                standby: 0,
                failures: 0.0,
                outdated: false,
            }
        };
        let nodes = self.nodes.iter().map(|(r, p, o, l)| candidate((r, p, o, l)));
        Snapshot::new(at(0), nodes.collect(), &self.mesh)
    }
}

fn lease(epoch: u64, seats: &[(&str, bool)]) -> Lease {
    let seat = |(relay, carries): &(&str, bool)| Seat {
        relay: id(relay),
        carries: *carries,
    };
    Lease {
        room: room("r"),
        epoch: Epoch(epoch),
        seats: seats.iter().map(seat).collect(),
    }
}

fn join(current: Option<&Lease>, cluster: &Cluster) -> Decision {
    on_join(
        &room("r"),
        current,
        &[],
        &cluster.snapshot(),
        &Request::default(),
        &mut Seed(1),
    )
    .unwrap()
}

#[test]
fn a_new_room_is_inserted_and_a_deleted_one_goes_on_with_its_epochs() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    let Decision::Write(first, _) = join(None, &cluster) else {
        panic!()
    };
    assert_eq!(
        (first.expected, first.lease.epoch, first.cause),
        (Epoch::NONE, Epoch(1), Cause::Join)
    );
    assert_eq!(first.lease.seats.len(), 2);
    let deleted = on_delete(&first.lease);
    assert_eq!((deleted.expected, deleted.lease.epoch), (Epoch(1), Epoch(2)));
    let Decision::Write(again, _) = join(Some(&deleted.lease), &cluster) else {
        panic!()
    };
    assert_eq!((again.expected, again.lease.epoch), (Epoch(2), Epoch(3)));
    assert!(first.lease.gives_way_to(&again.lease) && !again.lease.gives_way_to(&first.lease));
}

#[test]
fn a_good_lease_is_kept_and_a_drain_is_left_to_the_drain() {
    let mut cluster = Cluster::of(&["a", "b", "c"]);
    let row = lease(4, &[("a", true), ("b", false)]);
    assert!(
        matches!(join(Some(&row), &cluster), Decision::Keep(kept, why) if kept == row && why.rule == Rule::Kept)
    );
    cluster.nodes[0].2 = Some(Offer::Draining);
    assert!(matches!(join(Some(&row), &cluster), Decision::Keep(..)));
}

#[test]
fn a_join_mends_what_was_lost() {
    let cluster = Cluster::of(&["b", "c"]);
    let write = |row: &Lease| match join(Some(row), &cluster) {
        Decision::Write(write, _) => write,
        Decision::Keep(..) => panic!("kept"),
    };
    let promoted = write(&lease(4, &[("a", true), ("b", false)]));
    assert_eq!(promoted.lease, lease(5, &[("b", true), ("c", false)]));
    assert_eq!((promoted.expected, promoted.cause), (Epoch(4), Cause::RelayLost));
    let added = write(&lease(4, &[("b", true)]));
    assert_eq!(
        (added.lease, added.cause),
        (lease(5, &[("b", true), ("c", false)]), Cause::Standby)
    );
    let anew = write(&lease(4, &[("x", true), ("y", false)]));
    assert_eq!(anew.lease.seats.len(), 2);
    let alone = Cluster::of(&["b"]);
    assert!(
        matches!(join(Some(&lease(4, &[("b", true)])), &alone), Decision::Keep(..)),
        "nobody could stand by"
    );
}

#[test]
fn a_lost_relay_gives_way_to_its_standby_and_nobody_else_moves() {
    let cluster = Cluster::of(&["b", "c"]);
    let lost = |row: &Lease| on_lost(row, &id("a"), &cluster.snapshot(), &mut Seed(1)).unwrap();
    let write = lost(&lease(1, &[("a", true), ("b", false)])).unwrap();
    assert_eq!(write.lease, lease(2, &[("b", true), ("c", false)]));
    let write = lost(&lease(1, &[("b", true), ("a", false)])).unwrap();
    assert_eq!(write.lease, lease(2, &[("b", true), ("c", false)]));
    let write = lost(&lease(1, &[("a", true), ("b", true), ("c", false)])).unwrap();
    assert_eq!(write.lease, lease(2, &[("b", true), ("c", false)]));
    assert_eq!(lost(&lease(1, &[("b", true), ("c", false)])), None);
    let nobody = Cluster::of(&[]);
    let row = lease(1, &[("a", true)]);
    assert_eq!(
        on_lost(&row, &id("a"), &nobody.snapshot(), &mut Seed(1)),
        Err(NoRelay)
    );
}

#[test]
fn an_emptied_relay_hands_over_to_a_standby_that_has_room() {
    let mut cluster = Cluster::of(&["a", "b", "c"]);
    let vacate = |cluster: &Cluster, row: &Lease, members| {
        on_vacate(
            row,
            &id("a"),
            members,
            Cause::Drain,
            &cluster.snapshot(),
            &mut Seed(1),
        )
        .map(|write| write.lease)
    };
    let row = lease(1, &[("a", true), ("b", false)]);
    assert_eq!(
        vacate(&cluster, &row, 10),
        Some(lease(2, &[("b", true), ("c", false)]))
    );
    cluster.nodes[1].3 = 0.85;
    let moved = vacate(&cluster, &row, 100).unwrap();
    assert_eq!(
        moved.seats[0].relay,
        id("c"),
        "the standby is too full for a hundred"
    );
    assert_eq!(vacate(&cluster, &lease(1, &[("b", true)]), 1), None);
    cluster.nodes[1].2 = Some(Offer::Draining);
    cluster.nodes[2].2 = Some(Offer::Draining);
    assert_eq!(vacate(&cluster, &row, 10), None, "everybody leaves");
}

#[test]
fn the_highest_epoch_stays() {
    let mut table = Table::default();
    let row = lease(3, &[("a", true), ("b", false)]);
    assert_eq!(table.handle_lease(at(0), &row), Learnt::New);
    assert_eq!(table.handle_lease(at(0), &row), Learnt::Known);
    assert_eq!(
        table.handle_lease(at(0), &lease(2, &[("z", true)])),
        Learnt::Stale
    );
    assert_eq!(table.lease(&room("r")), Some(row));
    assert_eq!(table.handle_members(at(0), &id("a"), &room("r"), 4), Some(0));
    assert_eq!(table.handle_members(at(0), &id("z"), &room("r"), 4), None);
    table.handle_measured(&room("r"), &id("a"), Duration::from_millis(120));
    table.handle_measured(&room("r"), &id("a"), Duration::from_millis(80));
    // Members stay where they are until they move.
    table.handle_lease(at(0), &lease(4, &[("b", true), ("a", true)]));
    assert_eq!(table.members(&room("r")), 4);
    assert_eq!(
        table.far(&room("r")),
        [Far {
            relay: id("a"),
            rtt: Duration::from_millis(120)
        }]
    );
    assert_eq!(table.rooms_of(&id("b")).count(), 1);
    assert_eq!(table.rooms_of(&id("z")).count(), 0);
}

#[test]
fn empty_and_deleted_rooms_are_idle_after_a_while() {
    let mut table = Table::default();
    table.handle_lease(at(0), &lease(1, &[("a", true)]));
    table.handle_members(at(0), &id("a"), &room("r"), 1);
    assert_eq!(table.idle(at(9_000), Duration::ZERO).count(), 0);
    table.handle_members(at(9_000), &id("a"), &room("r"), 0);
    let idle = |table: &Table, now: Instant| table.idle(now, Duration::from_secs(5)).count();
    assert_eq!((idle(&table, at(13_000)), idle(&table, at(14_000))), (0, 1));
    table.handle_lease(at(20_000), &on_delete(&lease(1, &[])).lease);
    assert_eq!((idle(&table, at(24_000)), idle(&table, at(25_000))), (0, 1));
    table.forget(&room("r"));
    table.forget_names();
    assert!(table.is_empty() && table.relays().count() == 0);
}

#[test]
fn rooms_come_in_pages() {
    let mut table = Table::default();
    for name in ["c", "a", "b"] {
        table.handle_lease(
            at(0),
            &Lease {
                room: room(name),
                ..lease(1, &[("a", true)])
            },
        );
    }
    let page = |after: Option<&str>| {
        let after = after.map(room);
        table
            .rooms(after.as_ref())
            .map(|(lease, _)| lease.room.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(page(None), ["a", "b", "c"]);
    assert_eq!(page(Some("a")), ["b", "c"]);
}
