//! Calls over links that lose.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use wzp_e2e::{
    link::Link,
    member::Guest,
    relay::Relay,
    tap::{Tap, Way, is_lane},
};
use wzp_sdk::{Event, Tier, TierChoice};
use wzp_testkit::Rng;

/// Long enough for 50 packets to be lost at 5 %, of which some can be brought back.
const A_WHILE: Duration = Duration::from_secs(60);
/// Two steps up of 10 s each, and a busy machine.
const RELAXES: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_link_loses_is_recovered() {
    let relay = Relay::start(&[]);
    let link = Link::start(relay.address, &["--loss", "5", "--delay-ms", "20", "--seed", "3"]);
    let guest = |hertz, via| Guest {
        tier: TierChoice::Fixed(Tier::Good),
        via,
        ..Guest::saying(hertz)
    };
    let clean = guest(440.0, None).join(&relay).await;
    let bad = guest(700.0, Some(link.address)).join(&relay).await;
    for (member, hertz) in [(&clean, 700.0), (&bad, 440.0)] {
        member.hears(hertz).await;
        let stats = member
            .stats(A_WHILE, "recovered frames", |stats| {
                stats.remotes.first().is_some_and(|remote| remote.recovered > 5)
            })
            .await;
        let remote = stats.remotes.first().unwrap();
        assert!(remote.lost > 0 && remote.lost < remote.received / 5, "{remote:?}");
        member.hears(hertz).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tier_goes_down_on_a_bad_link_and_comes_back_up() {
    let relay = Relay::start(&[]);
    let tap = Tap::start(relay.address).await;
    let mut speaker = Guest::saying(440.0).join(&relay).await;
    let listener = Guest {
        via: Some(tap.address),
        ..Guest::default()
    };
    let listener = listener.join(&relay).await;
    listener.hears(440.0).await;
    assert_eq!(speaker.call.stats().tier, Tier::Good);

    let bad = Arc::new(AtomicBool::new(true));
    let (is_bad, mut rng) = (Arc::clone(&bad), Rng::new(5));
    tap.pass_if(move |way, bytes| {
        let exposed = is_bad.load(Ordering::Relaxed) && way == Way::Down && is_lane(bytes);
        !(exposed && rng.chance(0.3))
    });
    speaker
        .event(RELAXES, "catastrophic tier", |event| {
            matches!(
                event,
                Event::Tier {
                    to: Tier::Catastrophic,
                    ..
                }
            )
            .then_some(())
        })
        .await;
    assert!(listener.ears.hear_anything());

    bad.store(false, Ordering::Relaxed);
    speaker
        .event(RELAXES, "good tier again", |event| {
            matches!(event, Event::Tier { to: Tier::Good, .. }).then_some(())
        })
        .await;
    listener.hears(440.0).await;
}
