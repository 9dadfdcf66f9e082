//! In large rooms the loudest are heard.

use wzp_e2e::{PATIENCE, member::Guest, relay::Relay, until_within};

#[tokio::test(flavor = "multi_thread")]
async fn the_loudest_are_forwarded_and_who_falls_silent_makes_room() {
    let relay = Relay::start(&["--loudest-above", "3", "--loudest", "2"]);
    let speaker = |hertz, amplitude| Guest {
        amplitude,
        ..Guest::saying(hertz)
    };
    let listeners = [
        Guest::default().join(&relay).await,
        Guest::default().join(&relay).await,
    ];
    let loudest = speaker(440.0, 0.3).join(&relay).await;
    let _loud = speaker(700.0, 0.2).join(&relay).await;
    let _quiet = speaker(1_100.0, 0.08).join(&relay).await;
    relay
        .until("wzp_relay_packets_held_back_total", |count| count > 50.0)
        .await;
    for listener in &listeners {
        let what = "the two loudest and nobody else";
        until_within(PATIENCE, what, || {
            let hear = |hertz| listener.ears.hear(hertz);
            (hear(440.0) && hear(700.0) && !hear(1_100.0)).then_some(())
        })
        .await;
    }
    loudest.call.leave().await;
    for listener in &listeners {
        listener.hears_no_more(440.0).await;
        listener.hears(700.0).await;
        listener.hears(1_100.0).await;
    }
}
