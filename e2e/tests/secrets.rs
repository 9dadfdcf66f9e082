//! What was captured opens for nobody who was not there.
//!
//! A relay passes media packets on byte by byte, so what one member gets is what a capture at the relay holds.

use std::time::Duration;

use wzp_e2e::{member::Guest, relay::Relay, wire::Wire};
use wzp_wire::SenderId;

const ROOM: &str = "tea";
/// A held packet is given up after 1 s.
const HELD: Duration = Duration::from_millis(1_500);

/// Runs until so many packets opened; returns them with their key generation.
async fn capture(wire: &mut Wire, enough: usize, wanted: impl Fn(u8) -> bool) -> Vec<(SenderId, Vec<u8>)> {
    let mut opened = Vec::new();
    wire.run_until("media that opens", |wire| {
        for (from, packet) in std::mem::take(&mut wire.heard) {
            if wire.open(from, &packet).is_ok_and(|epoch| wanted(epoch >> 3)) {
                opened.push((from, packet));
            }
        }
        opened.len() >= enough
    })
    .await;
    opened
}

/// None of these opens, neither now nor when a key might have come.
async fn cannot_open(wire: &mut Wire, captured: &[(SenderId, Vec<u8>)]) {
    for (from, packet) in captured {
        assert!(wire.open(*from, packet).is_err());
        assert_eq!(wire.held(), 0);
    }
    wire.run_for(HELD).await;
    assert_eq!(wire.held(), 0);
    for (from, packet) in captured {
        assert!(wire.open(*from, packet).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_left_opens_nothing_any_more() {
    let relay = Relay::start(&[]);
    let _voices = (
        Guest::saying(440.0).join(&relay).await,
        Guest::saying(700.0).join(&relay).await,
    );
    let (mut stays, mut goes) = (Wire::start(relay.address).await, Wire::start(relay.address).await);
    stays.join(ROOM).await.unwrap();
    goes.join(ROOM).await.unwrap();
    let (captured, opened) = tokio::join!(
        capture(&mut stays, 100, |_| true),
        capture(&mut goes, 100, |_| true)
    );
    assert!(captured.len() >= 100 && opened.len() >= 100);

    goes.leave().await;
    // Both senders draw a new generation; what they seal with it is of no use to the one who left.
    let later = capture(&mut stays, 200, |generation| generation == 1).await;
    goes.run_for(Duration::from_millis(100)).await;
    cannot_open(&mut goes, &later).await;
    goes.heard.clear();
    goes.run_for(Duration::from_millis(500)).await;
    assert!(goes.heard.is_empty(), "the relay sends media to who left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_cannot_open_the_past() {
    let relay = Relay::start(&[]);
    let _voice = Guest::saying(440.0).join(&relay).await;
    let mut early = Wire::start(relay.address).await;
    early.join(ROOM).await.unwrap();
    let past = capture(&mut early, 200, |_| true).await;
    assert!(
        past.iter().any(|(_, packet)| packet[0] & 0x80 == 0),
        "no full header"
    );

    let mut late = Wire::start(relay.address).await;
    late.join(ROOM).await.unwrap();
    let (present, _) = tokio::join!(
        capture(&mut late, 50, |_| true),
        early.run_for(Duration::from_secs(1))
    );
    cannot_open(&mut late, &past).await;
    assert_eq!(
        present.len(),
        present.iter().filter(|(_, p)| !p.is_empty()).count()
    );
    capture(&mut late, 50, |_| true).await;
}
