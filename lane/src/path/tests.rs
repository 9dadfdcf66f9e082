use super::*;

const PING_BYTES: usize = 75;

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

fn address(n: u8) -> Address {
    Address::new(format!("192.0.2.{n}:4433").parse().unwrap(), None)
}

fn newest(from: Address) -> Received {
    Received {
        from,
        newest: true,
        content: Content::Settled,
        bytes: 150,
    }
}

fn following() -> Tracker {
    Tracker::new(Roaming::Follow, address(1))
}

/// All PINGs due now, with the nonces `first`, `first + 1`, ….
fn pings(tracker: &mut Tracker, now: Instant, first: u64) -> Vec<PingTo> {
    (first..)
        .map_while(|n| tracker.poll_ping(now, n.to_be_bytes(), PING_BYTES))
        .collect()
}

fn nonce_to(pings: &[PingTo], to: Address) -> [u8; 8] {
    pings.iter().find(|ping| ping.to == to).unwrap().nonce
}

#[test]
fn moves_when_the_new_address_answers() {
    let mut tracker = following();
    assert_eq!(tracker.handle_packet(at(0), &newest(address(2))), None);
    let sent = pings(&mut tracker, at(0), 100);
    assert_eq!(
        sent.iter().map(|ping| ping.to).collect::<Vec<_>>(),
        [address(2), address(1)]
    );
    assert_eq!(tracker.trusted(), Some(address(1)));

    let moved = tracker.handle_pong(at(40), address(2), nonce_to(&sent, address(2)));
    assert_eq!(moved, Some(address(2)));
    assert_eq!(tracker.trusted(), Some(address(2)));
    assert!(tracker.is_settled());
    assert_eq!(tracker.poll_timeout(), None);
}

#[test]
fn a_relayed_ping_proves_nothing() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(66)));
    let sent = pings(&mut tracker, at(0), 100);
    let nonce = nonce_to(&sent, address(66));
    // The attacker passes the PING on to the real peer, who answers from its own address.
    assert_eq!(tracker.handle_pong(at(40), address(1), nonce), None);
    assert_eq!(tracker.handle_pong(at(40), address(67), nonce), None);
    assert_eq!(tracker.trusted(), Some(address(1)));
}

#[test]
fn the_pong_to_the_trusted_address_does_not_prove_the_candidate() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    let sent = pings(&mut tracker, at(0), 100);
    assert_eq!(
        tracker.handle_pong(at(40), address(2), nonce_to(&sent, address(1))),
        None
    );
    assert_eq!(tracker.handle_pong(at(40), address(2), [0; 8]), None);
}

#[test]
fn a_spoofed_source_that_never_answers_moves_nothing() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(66)));
    let sent = pings(&mut tracker, at(0), 100);
    let nonce = nonce_to(&sent, address(66));
    assert_eq!(
        tracker.handle_pong(at(3_000), address(66), nonce),
        None,
        "3 s are over"
    );
    assert_eq!(tracker.trusted(), Some(address(1)));
    assert!(tracker.is_settled());
}

#[test]
fn a_satellite_link_has_three_seconds() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    let nonce = nonce_to(&pings(&mut tracker, at(0), 100), address(2));
    assert_eq!(
        tracker.handle_pong(at(2_999), address(2), nonce),
        Some(address(2))
    );
}

#[test]
fn probes_pongs_and_old_packets_never_move() {
    let mut tracker = following();
    for packet in [
        Received {
            content: Content::Probe,
            ..newest(address(2))
        },
        Received {
            newest: false,
            ..newest(address(2))
        },
        Received {
            newest: false,
            content: Content::Probe,
            ..newest(address(2))
        },
    ] {
        assert_eq!(tracker.handle_packet(at(0), &packet), None);
        assert!(tracker.is_settled());
        assert!(pings(&mut tracker, at(0), 100).is_empty());
    }
}

#[test]
fn the_lane_of_a_relay_never_follows() {
    let mut tracker = Tracker::new(Roaming::Fixed, address(1));
    tracker.handle_packet(at(0), &newest(address(2)));
    assert!(tracker.is_settled());
    assert_eq!(tracker.poll_copy(at(0), 100), None);
    assert_eq!(tracker.trusted(), Some(address(1)));
}

#[test]
fn a_newer_packet_from_the_trusted_address_ends_the_attempt() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(66)));
    let nonce = nonce_to(&pings(&mut tracker, at(0), 100), address(66));
    tracker.handle_packet(at(20), &newest(address(1)));
    assert_eq!(tracker.poll_copy(at(20), 10), None);
    assert_eq!(tracker.handle_pong(at(40), address(66), nonce), None);
}

#[test]
fn after_a_race_was_won_on_the_path_the_next_original_moves_back_at_once() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(66)));
    let nonce = nonce_to(&pings(&mut tracker, at(0), 100), address(66));
    assert_eq!(tracker.handle_pong(at(40), address(66), nonce), Some(address(66)));
    let late = Received {
        newest: false,
        ..newest(address(1))
    };
    assert_eq!(
        tracker.handle_packet(at(50), &late),
        None,
        "an older packet proves nothing"
    );
    let probe = Received {
        content: Content::Probe,
        ..newest(address(1))
    };
    assert_eq!(tracker.handle_packet(at(50), &probe), None);
    assert_eq!(
        tracker.handle_packet(at(60), &newest(address(1))),
        Some(address(1))
    );
    assert!(tracker.is_settled());
}

#[test]
fn long_after_a_move_the_old_address_needs_a_new_proof() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    let nonce = nonce_to(&pings(&mut tracker, at(0), 100), address(2));
    tracker.handle_pong(at(40), address(2), nonce);
    assert_eq!(tracker.handle_packet(at(10_041), &newest(address(1))), None);
    assert_eq!(tracker.trusted(), Some(address(2)));
    assert!(!tracker.is_settled());
}

#[test]
fn media_goes_to_both_for_half_a_second_and_never_over_three_times_the_input() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    pings(&mut tracker, at(0), 100);
    let copies = (0..100)
        .filter(|_| tracker.poll_copy(at(10), 100) == Some(address(2)))
        .count();
    assert_eq!(copies, (3 * 150 - PING_BYTES) / 100);
    tracker.handle_packet(at(490), &newest(address(2)));
    assert_eq!(tracker.poll_copy(at(499), 100), Some(address(2)));
    assert_eq!(
        tracker.poll_copy(at(500), 100),
        None,
        "half a second is over, packets or not"
    );
}

#[test]
fn pings_and_pongs_count_against_the_limit_too() {
    let mut tracker = following();
    tracker.handle_packet(
        at(0),
        &Received {
            bytes: 50,
            ..newest(address(2))
        },
    );
    assert_eq!(pings(&mut tracker, at(0), 100).len(), 2);
    assert!(tracker.charge(&address(2), 75));
    assert!(!tracker.charge(&address(2), 1));
    assert!(
        tracker.charge(&address(1), 10_000),
        "the trusted address has no limit"
    );
    let later = pings(&mut tracker, at(100), 200);
    assert_eq!(later.iter().map(|ping| ping.to).collect::<Vec<_>>(), [address(1)]);
}

#[test]
fn two_candidates_at_a_time_and_five_in_ten_seconds() {
    let mut tracker = following();
    for n in 2..=4 {
        tracker.handle_packet(at(0), &newest(address(n)));
    }
    let tos: Vec<_> = pings(&mut tracker, at(0), 100)
        .iter()
        .map(|ping| ping.to)
        .collect();
    assert!(tos.contains(&address(2)) && tos.contains(&address(3)) && !tos.contains(&address(4)));

    for n in 5..=6 {
        tracker.handle_packet(at(3_000), &newest(address(n)));
    }
    tracker.handle_packet(at(6_000), &newest(address(7)));
    tracker.handle_packet(at(6_000), &newest(address(8)));
    let tos: Vec<_> = pings(&mut tracker, at(6_000), 200)
        .iter()
        .map(|ping| ping.to)
        .collect();
    assert!(tos.contains(&address(7)) && !tos.contains(&address(8)));

    tracker.handle_packet(at(10_000), &newest(address(9)));
    assert!(
        pings(&mut tracker, at(10_000), 300)
            .iter()
            .any(|ping| ping.to == address(9))
    );
}

#[test]
fn a_candidate_that_showed_up_later_can_still_win() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    tracker.handle_packet(at(10), &newest(address(3)));
    let sent = pings(&mut tracker, at(10), 100);
    let (two, three) = (nonce_to(&sent, address(2)), nonce_to(&sent, address(3)));
    assert_eq!(tracker.handle_pong(at(50), address(2), two), Some(address(2)));
    assert_eq!(tracker.handle_pong(at(60), address(3), three), Some(address(3)));

    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    tracker.handle_packet(at(10), &newest(address(3)));
    let sent = pings(&mut tracker, at(10), 100);
    let (two, three) = (nonce_to(&sent, address(2)), nonce_to(&sent, address(3)));
    assert_eq!(tracker.handle_pong(at(50), address(3), three), Some(address(3)));
    assert_eq!(
        tracker.handle_pong(at(60), address(2), two),
        None,
        "the peer is past that address"
    );
}

#[test]
fn a_direct_lane_has_no_address_before_its_first_pong() {
    let mut tracker = Tracker::unproven(Roaming::Follow);
    tracker.handle_packet(at(0), &newest(address(2)));
    assert_eq!((tracker.trusted(), tracker.poll_copy(at(0), 10)), (None, None));
    let sent = pings(&mut tracker, at(0), 100);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        tracker.handle_pong(at(40), address(2), nonce_to(&sent, address(2))),
        Some(address(2))
    );
}

#[test]
fn pings_repeat_on_the_timeouts_it_announces() {
    let mut tracker = following();
    tracker.handle_packet(at(0), &newest(address(2)));
    let mut times = Vec::new();
    while let Some(now) = tracker.poll_timeout() {
        if pings(&mut tracker, now, 100)
            .iter()
            .any(|ping| ping.to == address(2))
        {
            times.push(now);
        }
    }
    assert_eq!(times, [at(0), at(100), at(300), at(700), at(1_500)]);
    assert!(tracker.is_settled(), "and in the end the candidate is forgotten");
}
