use proptest::prelude::*;

use super::*;
use crate::{
    load::Duty,
    mesh::Mesh,
    registry::Offer,
    relay::Place,
    testing::{Seed, at, id, located, ms, probe},
};

/// Relays that a snapshot can borrow.
#[derive(Clone, Debug)]
struct Node {
    relay: RelayId,
    place: Place,
    offer: Option<Offer>,
    load: f32,
    failures: f32,
    outdated: bool,
    carried: u32,
}

fn node(name: &str, at: &str) -> Node {
    Node {
        relay: id(name),
        place: located(at),
        offer: Some(Offer::Active),
        load: 0.1,
        failures: 0.0,
        outdated: false,
        carried: 0,
    }
}

fn snapshot<'a>(nodes: &'a [Node], mesh: &'a Mesh) -> Snapshot<'a> {
    let candidate = |node: &'a Node| Candidate {
        relay: &node.relay,
        place: &node.place,
        offer: node.offer,
        load: node.load,
        member_cost: 0.002,
        carried: node.carried,
        standby: 0,
        failures: node.failures,
        outdated: node.outdated,
    };
    Snapshot::new(at(10_000), nodes.iter().map(candidate).collect(), mesh)
}

fn measured(ways: &[(&str, u64, u16)]) -> Request {
    let way = |(relay, rtt, loss): &(&str, u64, u16)| Measurement {
        relay: id(relay),
        rtt: ms(*rtt),
        loss_permille: *loss,
    };
    Request {
        measurements: ways.iter().map(way).collect(),
        region: Box::default(),
    }
}

fn chosen(placement: &Placement) -> (&str, Option<&str>) {
    let of = |carries| {
        placement
            .seats
            .iter()
            .find(|seat| seat.carries == carries)
            .map(|seat| seat.relay.as_str())
    };
    (of(true).unwrap(), of(false))
}

fn place_once(nodes: &[Node], request: &Request) -> Placement {
    place(&snapshot(nodes, &Mesh::default()), request, &mut Seed(1)).unwrap()
}

#[test]
fn what_the_client_measured_decides_and_loss_counts_as_distance() {
    let nodes = [node("a", "eu"), node("b", "eu"), node("c", "us")];
    let near_c = place_once(&nodes, &measured(&[("a", 80, 0), ("b", 90, 0), ("c", 20, 0)]));
    assert_eq!(chosen(&near_c).0, "c");
    assert_eq!(near_c.explanation.rule, Rule::Measured);
    let lossy_c = place_once(&nodes, &measured(&[("a", 80, 0), ("b", 95, 0), ("c", 20, 80)]));
    assert_eq!(chosen(&lossy_c).0, "a");
}

#[test]
fn a_client_that_measured_nothing_is_placed_by_region_then_spread() {
    let mut nodes = [node("a", "eu"), node("b", "us"), node("c", "us")];
    let by_region = place_once(&nodes, &Request::in_region("us"));
    assert!(["b", "c"].contains(&chosen(&by_region).0));
    assert_eq!(
        (by_region.explanation.rule, by_region.explanation.near_equals),
        (Rule::Region, 2)
    );
    nodes[1].carried = 5;
    nodes[2].carried = 6;
    let spread = place_once(&nodes, &Request::default());
    assert_eq!((chosen(&spread).0, spread.explanation.rule), ("a", Rule::Spread));
}

#[test]
fn failures_load_and_old_versions_weigh_against_near_relays() {
    let asked = measured(&[("a", 20, 0), ("b", 28, 0)]);
    let weighed = |change: fn(&mut Node)| {
        let mut nodes = [node("a", "eu"), node("b", "eu")];
        change(&mut nodes[0]);
        chosen(&place_once(&nodes, &asked)).0.to_owned()
    };
    assert_eq!(weighed(|_| ()), "a");
    assert_eq!(weighed(|a| a.failures = 1.0), "b");
    assert_eq!(weighed(|a| a.load = 0.8), "b");
    assert_eq!(weighed(|a| a.offer = Some(Offer::Avoid)), "b");
    let asked = measured(&[("a", 20, 0), ("b", 20, 0)]);
    let mut nodes = [node("a", "eu"), node("b", "eu")];
    nodes[0].outdated = true;
    assert_eq!(chosen(&place_once(&nodes, &asked)).0, "b");
}

#[test]
fn the_standby_is_on_another_zone_then_on_another_machine() {
    let zones = [
        node("a", "eu/1/x"),
        node("b", "eu/1/y"),
        node("c", "eu/1/x"),
        node("d", "eu/2/z"),
    ];
    let asked = measured(&[("a", 10, 0), ("b", 20, 0), ("c", 20, 0), ("d", 70, 0)]);
    assert_eq!(chosen(&place_once(&zones, &asked)), ("a", Some("d")));
    assert_eq!(chosen(&place_once(&zones[..3], &asked)), ("a", Some("b")));
    assert_eq!(
        chosen(&place_once(&[zones[0].clone(), zones[2].clone()], &asked)),
        ("a", Some("c"))
    );
    assert_eq!(chosen(&place_once(&zones[..1], &asked)), ("a", None));
}

#[test]
fn nobody_is_refused_while_any_relay_is_attached() {
    let asked = Request::default();
    let mut one = [node("a", "eu")];
    for (offer, load) in [
        (Some(Offer::Active), 2.0),
        (Some(Offer::Draining), 0.1),
        (None, 0.1),
    ] {
        one[0].offer = offer;
        one[0].load = load;
        let placement = place_once(&one, &asked);
        assert_eq!(
            (chosen(&placement).0, placement.explanation.rule),
            ("a", Rule::LastResort)
        );
    }
    assert_eq!(
        place(&snapshot(&[], &Mesh::default()), &asked, &mut Seed(1)),
        Err(NoRelay)
    );
}

/// Joins rooms of `size` members one after another, in turns; returns the members carried by each relay.
fn storm(relays: usize, rooms: usize, size: u32, interleaved: bool, seed: u64) -> Vec<u32> {
    let nodes: Vec<_> = (0..relays).map(|nth| node(&format!("r{nth}"), "")).collect();
    let mesh = Mesh::default();
    let mut snapshot = snapshot(&nodes, &mesh);
    let mut rng = Seed(seed);
    let mut homes: Vec<Option<Vec<Seat>>> = vec![None; rooms];
    let joins = (0..rooms * size as usize).map(|nth| {
        if interleaved {
            nth % rooms
        } else {
            nth / size as usize
        }
    });
    for room in joins.collect::<Vec<_>>() {
        let seats = homes[room]
            .get_or_insert_with(|| place(&snapshot, &Request::default(), &mut rng).unwrap().seats)
            .clone();
        for seat in seats {
            snapshot.assign(
                &seat.relay,
                if seat.carries { Duty::Carry } else { Duty::Standby },
                1,
            );
        }
    }
    snapshot
        .relays()
        .iter()
        .map(|candidate| candidate.carried)
        .collect()
}

#[test]
fn a_hundred_joins_are_spread_over_ten_relays() {
    for seed in 0..50 {
        for (rooms, size, interleaved) in [(100, 1, false), (50, 2, true), (20, 5, false), (20, 5, true)] {
            let members = storm(10, rooms, size, interleaved, seed);
            let (most, mean) = (members.iter().max().unwrap(), 10.0);
            assert!(
                f64::from(*most) / mean < 1.3,
                "seed {seed}, {rooms} rooms: {members:?}"
            );
        }
    }
}

fn told(mesh: &mut Mesh, a: &str, b: &str, rtt: u64) {
    mesh.handle_probe(at(9_000), (&id(a), &located("")), &located(""), &probe(b, rtt));
}

#[test]
fn a_second_relay_carries_only_when_it_shortens_the_longest_way_enough() {
    let nodes = [node("a", "eu"), node("b", "us"), node("c", "eu")];
    let seats = [
        Seat {
            relay: id("a"),
            carries: true,
        },
        Seat {
            relay: id("c"),
            carries: false,
        },
    ];
    let added = |between: u64, far_ms: u64, way_a: u64| {
        let mut mesh = Mesh::default();
        told(&mut mesh, "a", "b", between);
        let snapshot = snapshot(&nodes, &mesh);
        let far = [Far {
            relay: id("a"),
            rtt: ms(far_ms),
        }];
        let asked = measured(&[("a", way_a, 0), ("b", 20, 0)]);
        let placement = cascade(&snapshot, &seats, &far, &asked, &mut Seed(1))?;
        Some(
            placement
                .seats
                .iter()
                .map(|seat| (seat.relay.to_string(), seat.carries))
                .collect::<Vec<_>>(),
        )
    };
    let both = ["a", "b"].map(|relay| (relay.to_owned(), true));
    let both = [both.to_vec(), vec![("c".to_owned(), false)]].concat();
    assert_eq!(added(90, 20, 250), Some(both), "270 ms become 130 ms");
    assert_eq!(added(90, 20, 120), None, "140 ms would become 130 ms");
    assert_eq!(
        added(10, 5, 60),
        None,
        "65 ms would become 35 ms: less than 20 ms one way"
    );
    assert_eq!(
        added(90, 700, 250),
        None,
        "950 ms would become 810 ms: less than a quarter"
    );
}

#[test]
fn what_is_left_of_a_set_is_filled_up() {
    let nodes = [node("a", "eu/1"), node("b", "eu/2"), node("c", "eu/3")];
    let mesh = Mesh::default();
    let whole = snapshot(&nodes, &mesh);
    let seat = |relay: &str, carries| Seat {
        relay: id(relay),
        carries,
    };
    let fill = |left: &[Seat]| {
        let placement = refill(&whole.without(&id("a")), left, &Request::default(), &mut Seed(3)).unwrap();
        (placement.seats, placement.explanation.rule)
    };
    assert_eq!(
        fill(&[seat("b", false)]),
        (vec![seat("b", true), seat("c", false)], Rule::Promoted)
    );
    assert_eq!(
        fill(&[seat("b", true)]),
        (vec![seat("b", true), seat("c", false)], Rule::StandbyAdded)
    );
    let expected = [id("unheard")];
    let waiting = whole.without(&id("a")).with_expected(expected.iter());
    let placement = refill(
        &waiting,
        &[seat("unheard", true)],
        &Request::default(),
        &mut Seed(3),
    )
    .unwrap();
    assert_eq!(placement.seats[0], seat("unheard", true));
    assert_eq!(placement.seats.len(), 2);
}

#[test]
fn seats_are_ordered_for_each_client() {
    let nodes = [node("a", "eu"), node("b", "us"), node("c", "eu")];
    let mesh = Mesh::default();
    let mut seats = [("c", false), ("a", true), ("b", true)].map(|(r, carries)| Seat {
        relay: id(r),
        carries,
    });
    order_for(
        &snapshot(&nodes, &mesh),
        &measured(&[("a", 90, 0), ("b", 20, 0), ("c", 5, 0)]),
        &mut seats,
    );
    assert_eq!(seats.map(|seat| seat.relay.to_string()), ["b", "a", "c"]);
}

#[test]
fn the_explanation_reads_and_parses() {
    let mut nodes = [node("eu-1", "eu/1"), node("eu-2", "eu/2"), node("us-1", "us/1")];
    nodes[1].failures = 0.5;
    nodes[2].load = 0.95;
    let placement = place_once(
        &nodes,
        &measured(&[("eu-1", 20, 0), ("eu-2", 24, 10), ("us-1", 110, 0)]),
    );
    let text = placement.explanation.to_string();
    assert_eq!(text, include_str!("tests/explanation.txt"), "\n{text}");
    let json = serde_json::to_string_pretty(&placement.explanation).unwrap() + "\n";
    assert_eq!(json, include_str!("tests/explanation.json"), "\n{json}");
}

fn any_node(nth: usize) -> impl Strategy<Value = Node> {
    let offer = prop_oneof![
        4 => Just(Some(Offer::Active)),
        1 => Just(Some(Offer::Avoid)),
        1 => Just(Some(Offer::Draining)),
        1 => Just(None),
    ];
    (offer, 0.0..1.2f32, 0..3usize, 0..4usize, 0..3usize, 0..3u32).prop_map(
        move |(offer, load, region, zone, machine, failures)| Node {
            relay: id(&format!("r{nth}")),
            place: located(&format!("{region}/{zone}/{machine}")),
            offer,
            load,
            failures: failures as f32,
            outdated: false,
            carried: 0,
        },
    )
}

fn any_nodes() -> impl Strategy<Value = Vec<Node>> {
    (1..20usize).prop_flat_map(|count| (0..count).map(any_node).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn every_placement_keeps_the_rules(nodes in any_nodes(), ways in prop::collection::vec((0..20usize, 1..300u64), 0..16), seed: u64) {
        let mesh = Mesh::default();
        let snapshot = snapshot(&nodes, &mesh);
        let names: Vec<_> = ways.iter().map(|(nth, rtt)| (format!("r{nth}"), *rtt)).collect();
        let ways: Vec<_> = names.iter().map(|(name, rtt)| (name.as_str(), *rtt, 0)).collect();
        let request = measured(&ways);
        let placement = place(&snapshot, &request, &mut Seed(seed)).unwrap();
        prop_assert_eq!(&placement, &place(&snapshot, &request, &mut Seed(seed)).unwrap(), "by the seed alone");

        let of = |relay: &RelayId| snapshot.relay(relay).unwrap();
        let carrier = of(&placement.seats[0].relay);
        let has_room = |candidate: &&Candidate<'_>| candidate.has_room_for(1);
        if snapshot.relays().iter().any(|candidate| has_room(&candidate)) {
            prop_assert!(carrier.has_room_for(1), "over capacity with room elsewhere");
        }
        if let Some(standby) = placement.seats.get(1).map(|seat| of(&seat.relay)) {
            prop_assert!(standby.relay != carrier.relay && standby.is_of_use());
            let others = || snapshot.relays().iter().filter(has_room).filter(|other| other.relay != carrier.relay);
            if others().any(|other| !other.place.shares_zone(carrier.place) && !other.place.shares_node(carrier.place)) {
                prop_assert!(!standby.place.shares_zone(carrier.place) && !standby.place.shares_node(carrier.place));
            }
            if others().any(|other| !other.place.shares_node(carrier.place)) {
                prop_assert!(!standby.place.shares_node(carrier.place));
            }
        }
        prop_assert!(placement.explanation.candidates.len() <= Explanation::MAX_CANDIDATES);
        prop_assert_eq!(&placement.explanation.candidates[0].relay, carrier.relay);
    }
}
