use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant::from_micros(1_000_000);

fn relay(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

fn relays(names: &[&str]) -> Vec<RelayId> {
    names.iter().map(|name| relay(name)).collect()
}

fn room() -> RoomName {
    RoomName::parse("room").unwrap()
}

fn lease(epoch: u64, names: &[&str]) -> Lease {
    Lease::of_grant(Epoch(epoch), &relays(names)).unwrap()
}

fn leases() -> Leases {
    Leases::new(relay("a"))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_lease_with_a_seat_is_served_and_one_without_is_left_in_time() {
    let (mut leases, room) = (leases(), room());
    assert_eq!(leases.standing(NOW, &room), Standing::Unknown);
    let decision = leases.handle_lease(NOW, &room, lease(1, &["a", "b"]), Duration::ZERO);
    assert_eq!(decision, Decision::Serve);
    let again = leases.handle_lease(NOW, &room, lease(1, &["a", "b"]), Duration::ZERO);
    assert_eq!(again, Decision::Nothing);
    assert_eq!(leases.partners(&room).collect::<Vec<_>>(), [&relay("b")]);
    let decision = leases.handle_lease(NOW, &room, lease(2, &["b", "c"]), seconds(10));
    assert_eq!(decision, Decision::Leave);
    let until = NOW + seconds(10);
    assert_eq!(leases.standing(NOW, &room), Standing::Leaves { until });
    assert_eq!(leases.forwards_under(NOW, &room), Some(Epoch(2)));
    assert_eq!(
        (leases.poll_timeout(), leases.poll_over(NOW)),
        (Some(until), None)
    );
    assert_eq!(leases.forwards_under(until, &room), None);
    assert_eq!(leases.poll_over(until), Some(room.clone()));
    assert_eq!((leases.poll_timeout(), leases.poll_over(until)), (None, None));
    let old = leases.handle_lease(until, &room, lease(1, &["a", "b"]), Duration::ZERO);
    assert_eq!(
        (old, leases.standing(until, &room)),
        (Decision::Nothing, Standing::Left)
    );
    leases.handle_lease(until, &room, lease(3, &["a"]), Duration::ZERO);
    assert_eq!(leases.standing(until, &room), Standing::Serves);
}

#[test]
fn an_epoch_without_its_lease_fences_until_the_lease_is_there() {
    let (mut leases, room) = (leases(), room());
    assert_eq!(leases.handle_peer_epoch(NOW, &room, Epoch(0)), Decision::Nothing);
    leases.handle_lease(NOW, &room, lease(1, &["a", "b"]), Duration::ZERO);
    assert_eq!(leases.handle_peer_epoch(NOW, &room, Epoch(1)), Decision::Nothing);
    assert_eq!(leases.handle_peer_epoch(NOW, &room, Epoch(2)), Decision::Fence);
    assert_eq!(
        (leases.forwards_under(NOW, &room), leases.lease(&room)),
        (None, None)
    );
    let named = relays(&["a", "c"]);
    let (decision, admitted) = leases.handle_grant(NOW, &room, Epoch(2), &named);
    assert_eq!((decision, admitted), (Decision::Serve, Ok(())));
    assert_eq!(leases.poll_timeout(), None);
    leases.handle_peer_epoch(NOW, &room, Epoch(3));
    assert_eq!(leases.poll_over(NOW + FENCED_TIME), Some(room));
}

#[test]
fn grants_open_what_is_served_and_tell_of_newer_leases() {
    let (mut leases, room) = (leases(), room());
    let mut grant = |epoch, names: &[&str]| leases.handle_grant(NOW, &room, Epoch(epoch), &relays(names));
    assert_eq!(grant(0, &[]), (Decision::Nothing, Err(NotServed::Unknown)));
    assert_eq!(
        grant(1, &["b", "c"]),
        (Decision::Nothing, Err(NotServed::OtherRelays))
    );
    assert_eq!(grant(0, &["a", "b"]), (Decision::Nothing, Err(NotServed::Stale)));
    assert_eq!(grant(4, &["a", "b"]), (Decision::Serve, Ok(())));
    // Drained relays' members show what they have.
    assert_eq!(grant(3, &["b", "c"]), (Decision::Nothing, Ok(())));
    assert_eq!(grant(4, &["a", "b"]), (Decision::Nothing, Ok(())));
    assert_eq!(
        grant(5, &["b", "c"]),
        (Decision::Leave, Err(NotServed::OtherRelays))
    );
    assert_eq!(grant(4, &["a", "b"]), (Decision::Nothing, Err(NotServed::Stale)));
    assert_eq!(grant(6, &["b", "a"]), (Decision::Serve, Ok(())));
}

#[test]
fn a_deleted_room_is_opened_by_newer_grants_only() {
    let (mut leases, room) = (leases(), room());
    leases.handle_lease(NOW, &room, lease(1, &["a"]), Duration::ZERO);
    assert_eq!(leases.handle_revoke(NOW, &room, Epoch(0)), Decision::Nothing);
    assert_eq!(leases.handle_revoke(NOW, &room, Epoch(1)), Decision::Revoke);
    assert_eq!(leases.handle_revoke(NOW, &room, Epoch(1)), Decision::Nothing);
    assert!(
        leases
            .handle_grant(NOW, &room, Epoch(1), &relays(&["a"]))
            .1
            .is_err()
    );
    let again = leases.handle_lease(NOW, &room, lease(1, &["a"]), Duration::ZERO);
    assert_eq!(again, Decision::Nothing);
    assert_eq!(
        leases.handle_grant(NOW, &room, Epoch(2), &relays(&["a"])).1,
        Ok(())
    );
}

#[test]
fn a_drain_without_a_control_plane_can_be_undone() {
    let (mut leases, room) = (leases(), room());
    leases.handle_lease(NOW, &room, lease(1, &["a", "b"]), Duration::ZERO);
    assert_eq!(
        leases.handle_drain_alone(NOW, seconds(10)),
        std::slice::from_ref(&room)
    );
    assert!(matches!(leases.standing(NOW, &room), Standing::Leaves { .. }));
    assert_eq!(
        leases.handle_undrain(NOW + seconds(3)),
        std::slice::from_ref(&room)
    );
    assert_eq!(leases.standing(NOW + seconds(20), &room), Standing::Serves);
    assert_eq!(leases.handle_undrain(NOW), [] as [RoomName; 0]);
}

#[test]
fn rooms_are_remembered_empty_for_as_long_as_grants_are_good() {
    let (mut leases, room) = (leases(), room());
    leases.handle_lease(NOW, &room, lease(1, &["a"]), Duration::ZERO);
    leases.handle_members(NOW, &room, 3);
    assert_eq!(leases.poll_forgotten(NOW + seconds(100_000)), None);
    leases.handle_members(NOW + seconds(5), &room, 0);
    leases.handle_members(NOW + seconds(50), &room, 0);
    assert_eq!(leases.poll_forgotten(NOW + seconds(21_600)), None);
    assert_eq!(leases.poll_forgotten(NOW + seconds(21_605)), Some(room.clone()));
    assert_eq!(leases.standing(NOW, &room), Standing::Unknown);
}

#[test]
fn leases_are_of_1_to_16_relays_carrying_ones_first() {
    let seat = |name: &str, carries| Seat {
        relay: relay(name),
        carries,
    };
    let made = Lease::new(Epoch(1), vec![seat("x", false), seat("y", true)]).unwrap();
    assert_eq!(made.seats()[0].relay, relay("y"));
    assert_eq!(Lease::new(Epoch(1), vec![]), Err(LeaseError::Seats));
    assert_eq!(
        Lease::new(Epoch(0), vec![seat("x", true)]),
        Err(LeaseError::Epoch)
    );
    let twice = vec![seat("x", true), seat("x", false)];
    assert_eq!(Lease::new(Epoch(1), twice), Err(LeaseError::Twice));
}

#[derive(Clone, Debug)]
enum News {
    Lease(u64, Vec<&'static str>, u64),
    Grant(u64, Vec<&'static str>),
    Peer(u64),
    Revoke(u64),
    DrainAlone,
    Undrain,
    Wait(u64),
    Over,
}

fn news() -> impl Strategy<Value = News> {
    let set = || prop::sample::subsequence(vec!["a", "b", "c"], 1..=3).prop_shuffle();
    prop_oneof![
        4 => (1..8_u64, set(), 0..5_u64).prop_map(|(epoch, set, wait)| News::Lease(epoch, set, wait)),
        4 => (0..8_u64, set()).prop_map(|(epoch, set)| News::Grant(epoch, set)),
        2 => (0..8_u64).prop_map(News::Peer),
        1 => (1..8_u64).prop_map(News::Revoke),
        1 => Just(News::DrainAlone),
        1 => Just(News::Undrain),
        2 => (1..4_u64).prop_map(News::Wait),
        1 => Just(News::Over),
    ]
}

proptest! {
    /// In whatever order news come: once a newer epoch was seen, nothing goes under an older one.
    #[test]
    fn nothing_is_forwarded_under_an_epoch_older_than_one_that_was_seen(
        all in prop::collection::vec(news(), 1..40)
    ) {
        let (mut leases, room, mut now, mut seen) = (leases(), room(), NOW, Epoch::NONE);
        for one in all {
            match one {
                News::Lease(epoch, set, wait) => {
                    leases.handle_lease(now, &room, lease(epoch, &set), seconds(wait));
                    seen = seen.max(Epoch(epoch));
                }
                News::Grant(epoch, set) => {
                    let (_, admitted) = leases.handle_grant(now, &room, Epoch(epoch), &relays(&set));
                    seen = seen.max(Epoch(epoch));
                    prop_assert_eq!(admitted.is_ok(), leases.standing(now, &room) == Standing::Serves);
                }
                News::Peer(epoch) => {
                    leases.handle_peer_epoch(now, &room, Epoch(epoch));
                    seen = seen.max(Epoch(epoch));
                }
                News::Revoke(epoch) => {
                    leases.handle_revoke(now, &room, Epoch(epoch));
                    seen = seen.max(Epoch(epoch));
                }
                News::DrainAlone => { leases.handle_drain_alone(now, seconds(2)); }
                News::Undrain => { leases.handle_undrain(now); }
                News::Wait(wait) => now += seconds(wait),
                News::Over => {
                    while leases.poll_over(now).is_some() {}
                    prop_assert!(leases.poll_timeout().is_none_or(|at| at > now));
                }
            }
            if let Some(epoch) = leases.forwards_under(now, &room) {
                prop_assert_eq!(epoch, seen);
                let named = leases.lease(&room).is_some_and(|lease| lease.names(&relay("a")));
                let leaves = matches!(leases.standing(now, &room), Standing::Leaves { .. });
                prop_assert!(named || leaves);
            }
            prop_assert_eq!(leases.seen(&room), seen);
        }
    }
}
