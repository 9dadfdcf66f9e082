use std::collections::BTreeSet;

use super::*;
use crate::{OpenError, Opener};

const AEADS: [Aead; 2] = [Aead::Aes128Gcm, Aead::ChaCha20Poly1305];
const NOW: Instant = Instant::from_micros(1_000_000);

fn sealer(aead: Aead) -> Sealer {
    Sealer::new(Secret::from([1; 32]), aead, LaneId::from_random(&[1, 2]).unwrap())
}

fn opener(aead: Aead) -> Opener {
    Opener::new(Secret::from([1; 32]), aead, 2)
}

fn seal(sealer: &Sealer, datagram: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut buf = vec![0; sealer.overhead() + datagram.len()];
    buf[sealer.header_len()..][..datagram.len()].copy_from_slice(datagram);
    let len = sealer.seal(&mut buf, datagram.len(), true)?;
    assert_eq!(len, buf.len());
    Ok(buf)
}

/// Carries a lane on to `counter`, losing nothing.
fn carry_on_to(sealer: &Sealer, opener: &Opener, counter: u64) {
    while sealer.next_counter() < counter {
        let opened = opener.open(&mut seal(sealer, b"xx").unwrap()).unwrap();
        sealer.confirm(opened.counter);
    }
}

#[test]
fn what_is_sealed_opens_for_every_length_of_id() {
    for aead in AEADS {
        for id_len in 1..=20 {
            let sealer = Sealer::new(
                Secret::from([1; 32]),
                aead,
                LaneId::new(&vec![0x80; id_len]).unwrap(),
            );
            let opener = Opener::new(Secret::from([1; 32]), aead, id_len);
            assert_eq!(sealer.overhead(), 19 + id_len);
            for counter in 0..3 {
                let mut packet = seal(&sealer, b"hello").unwrap();
                assert_eq!(
                    packet[0] & 0xe0,
                    0x60,
                    "short header, fixed bit, and the spin bit asked for"
                );
                assert_eq!(&packet[1..=id_len], vec![0x80; id_len]);
                let opened = opener.open(&mut packet).unwrap();
                assert_eq!((opened.counter, opened.newest), (counter, true));
                assert_eq!(&packet[opened.range], b"hello");
            }
        }
    }
}

#[test]
fn refuses_what_does_not_fit_without_taking_a_number() {
    let sealer = sealer(Aead::Aes128Gcm);
    let mut buf = [0; 64];
    assert_eq!(sealer.seal(&mut buf, 0, false), Err(SealError::TooShort));
    assert_eq!(sealer.seal(&mut buf, 1, false), Err(SealError::TooShort));
    assert_eq!(
        sealer.seal(&mut buf, 64 - sealer.overhead() + 1, false),
        Err(SealError::BufferTooSmall)
    );
    assert_eq!(sealer.seal(&mut [], 2, false), Err(SealError::BufferTooSmall));
    assert_eq!(
        sealer.seal(&mut buf, usize::MAX, false),
        Err(SealError::BufferTooSmall)
    );
    assert_eq!(sealer.next_counter(), 0);
    assert!(
        sealer.seal(&mut buf, 2, false).is_ok(),
        "the shortest datagram gives the shortest packet"
    );
}

#[test]
fn media_stops_2_14_packets_past_the_newest_confirmed_one() {
    let sealer = sealer(Aead::Aes128Gcm);
    for _ in 0..MEDIA_UNCONFIRMED {
        seal(&sealer, b"xx").unwrap();
    }
    assert!(sealer.is_paused());
    assert_eq!(seal(&sealer, b"xx"), Err(SealError::Unconfirmed));
    assert_eq!(
        sealer.next_counter(),
        MEDIA_UNCONFIRMED,
        "refused media takes no numbers"
    );

    sealer.confirm(u64::MAX);
    sealer.confirm(MEDIA_UNCONFIRMED);
    assert!(
        sealer.is_paused(),
        "a counter that was never sent confirms nothing"
    );
    sealer.confirm(99);
    assert!((0..100).all(|_| seal(&sealer, b"xx").is_ok()));
    assert_eq!(seal(&sealer, b"xx"), Err(SealError::Unconfirmed));
}

#[test]
fn a_paused_lane_sends_one_ping_a_second_until_its_receiver_would_be_deaf() {
    let sealer = sealer(Aead::Aes128Gcm);
    let mut buf = [0; 72];
    for _ in 0..MEDIA_UNCONFIRMED {
        seal(&sealer, b"xx").unwrap();
    }
    let mut now = NOW;
    let mut pings = 0;
    loop {
        assert!(sealer.ping_due(now));
        match sealer.seal_ping(now, &mut buf, 48, false) {
            Ok((_, counter)) => assert_eq!(counter, MEDIA_UNCONFIRMED + pings),
            Err(error) => break assert_eq!(error, SealError::Exhausted),
        }
        pings += 1;
        assert!(!sealer.ping_due(now + Duration::from_millis(999)));
        let early = sealer.seal_ping(now + Duration::from_millis(999), &mut buf, 48, false);
        assert!(early == Err(SealError::Unconfirmed) || early == Err(SealError::Exhausted));
        now += Duration::from_secs(1);
    }
    assert_eq!(sealer.next_counter(), UNCONFIRMED);
}

/// One end of a pair of lanes.
struct End {
    sealer: Sealer,
    opener: Opener,
}

impl End {
    fn new(sends: u8, receives: u8) -> Self {
        let id = LaneId::from_random(&[1, 2]).unwrap();
        Self {
            sealer: Sealer::new(Secret::from([sends; 32]), Aead::Aes128Gcm, id),
            opener: Opener::new(Secret::from([receives; 32]), Aead::Aes128Gcm, 2),
        }
    }

    /// PINGs `other`, opens its PONG, and says under which counter the PING came.
    fn ask(&self, now: Instant, other: &Self) -> Result<u64, SealError> {
        let (mut ping, mut pong) = ([0; 72], [0; 72]);
        let (len, counter) = self.sealer.seal_ping(now, &mut ping, 48, false)?;
        let asked = other.opener.open(&mut ping[..len]).unwrap();
        let len = other.sealer.seal_pong(asked.counter, &mut pong, 44, false)?;
        self.opener.open(&mut pong[..len]).unwrap();
        self.sealer.confirm(counter);
        Ok(asked.counter)
    }
}

#[test]
fn two_ends_that_are_both_paused_free_each_other() {
    let (a, b) = (End::new(1, 2), End::new(2, 1));
    for end in [&a, &b] {
        while seal(&end.sealer, b"xx").is_ok() {}
        assert!(end.sealer.is_paused());
    }
    a.ask(NOW, &b).unwrap();
    assert!(!a.sealer.is_paused() && b.sealer.is_paused());
    b.ask(NOW, &a).unwrap();
    assert!(!b.sealer.is_paused());
    assert!(seal(&a.sealer, b"xx").is_ok() && seal(&b.sealer, b"xx").is_ok());
}

#[test]
fn a_paused_lane_answers_each_ping_once_until_its_receiver_would_be_deaf() {
    let (a, b) = (End::new(1, 2), End::new(2, 1));
    while seal(&b.sealer, b"xx").is_ok() {}
    let mut pong = [0; 72];
    let first = a.ask(NOW, &b).unwrap();
    assert_eq!(
        b.sealer.seal_pong(first, &mut pong, 44, false),
        Err(SealError::Unconfirmed),
        "one PONG for one PING"
    );
    let mut answered = 1;
    let error = loop {
        match a.ask(NOW, &b) {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, SealError::Exhausted);
    assert_eq!(answered, UNCONFIRMED - MEDIA_UNCONFIRMED);
}

#[test]
fn a_lane_that_is_not_paused_answers_pings_in_any_order() {
    let sealer = sealer(Aead::Aes128Gcm);
    let mut pong = [0; 72];
    for ping in [7, 3, u64::MAX, 5] {
        assert!(sealer.seal_pong(ping, &mut pong, 44, false).is_ok());
    }
}

#[test]
fn a_ping_is_due_at_first_every_2_10_packets_and_every_5_s_of_media() {
    let sealer = sealer(Aead::Aes128Gcm);
    let mut buf = [0; 72];
    assert!(sealer.ping_due(NOW));
    sealer.seal_ping(NOW, &mut buf, 48, false).unwrap();
    let much_later = NOW + Duration::from_secs(60);
    assert!(!sealer.ping_due(much_later), "nothing was sent");

    seal(&sealer, b"xx").unwrap();
    assert!(!sealer.ping_due(NOW + Duration::from_millis(4_999)));
    assert!(sealer.ping_due(NOW + Duration::from_secs(5)));

    sealer.seal_ping(much_later, &mut buf, 48, false).unwrap();
    for _ in 0..PING_EVERY {
        assert!(!sealer.ping_due(much_later));
        seal(&sealer, b"xx").unwrap();
    }
    assert!(sealer.ping_due(much_later));
}

#[test]
fn opens_across_generations_with_loss_just_under_what_the_sender_allows() {
    for aead in AEADS {
        let (sealer, opener) = (sealer(aead), opener(aead));
        let mut next_received = 0;
        while sealer.next_counter() < 5 << 16 {
            let counter = sealer.next_counter();
            let mut packet = seal(&sealer, b"xx").unwrap();
            if counter < next_received {
                continue;
            }
            assert_eq!(opener.open(&mut packet).map(|opened| opened.counter), Ok(counter));
            sealer.confirm(counter);
            next_received = counter + MEDIA_UNCONFIRMED;
        }
    }
}

#[test]
fn reordering_over_a_key_change_loses_nothing() {
    let (sealer, opener) = (sealer(Aead::ChaCha20Poly1305), opener(Aead::ChaCha20Poly1305));
    for change in 1..4 {
        carry_on_to(&sealer, &opener, (change << 16) - 500);
        let mut packets: Vec<_> = (0..1_000).map(|_| seal(&sealer, b"xx").unwrap()).collect();
        packets.reverse();
        // The newest comes first, so that all others are old packets on both sides of the change.
        for (i, packet) in packets.iter_mut().enumerate() {
            let opened = opener.open(&mut packet.clone()).unwrap();
            assert_eq!(
                (opened.counter, opened.newest),
                ((change << 16) + 499 - i as u64, i == 0)
            );
            assert_eq!(opener.open(packet), Err(OpenError::Replay));
        }
        sealer.confirm(sealer.next_counter() - 1);
    }
}

#[test]
fn threads_never_share_a_nonce_across_key_changes() {
    let sealer = sealer(Aead::Aes128Gcm);
    let per_thread = 60_000;
    let packets: Vec<Vec<(u64, Vec<u8>)>> = std::thread::scope(|scope| {
        let work = || {
            let mut sealed = Vec::with_capacity(per_thread);
            let mut buf = [0; 24];
            let mut refused = 0;
            while sealed.len() < per_thread {
                buf[5..7].copy_from_slice(b"xx");
                match sealer.seal_ping(NOW, &mut buf, 2, false) {
                    Ok((len, counter)) => {
                        sealed.push((counter, buf[..len].to_vec()));
                        sealer.confirm(counter);
                    }
                    // A thread that was held up between its looks at the counters; the next try is another one.
                    Err(SealError::NoKey | SealError::Unconfirmed) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(refused < 1_000 * per_thread, "the lane does not come back");
                if refused > 0 && refused % 1_000 == 0 {
                    std::thread::yield_now();
                }
            }
            sealed
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all: Vec<_> = packets.into_iter().flatten().collect();
    let counters: BTreeSet<_> = all.iter().map(|(counter, _)| *counter).collect();
    assert_eq!(counters.len(), all.len(), "a counter was used twice");

    all.sort_unstable();
    let opener = opener(Aead::Aes128Gcm);
    for (counter, mut packet) in all {
        assert_eq!(opener.open(&mut packet).map(|opened| opened.counter), Ok(counter));
    }
}
