//! Sender and receiver of every tier through bad links, in virtual time.
#![expect(clippy::unwrap_used, reason = "what fails in the set-up fails the test")]

use std::time::Duration;

use wzp_sdk_core::voice::{
    jitter,
    mode::Tier,
    sender::{MAX_PAYLOAD_BYTES, Pauses, Sender},
    sim::{self, Outcome, Packet, Tones},
};
use wzp_testkit::{Grade, Link, Loss, Profile};
use wzp_wire::{Header, Instant, Kind};

type Sent = (Header, u64, Vec<u8>);

/// Two seconds of talk and two of pause, again and again.
fn conversation(tier: Tier, pauses: Pauses, profile: Profile, seconds: u64) -> (Outcome, usize) {
    let mut sender = Sender::new(Tones, tier, pauses, u32::MAX - 480_000).unwrap();
    let mut link: Link<Sent> = Link::new(profile, 17);
    let mut now = Instant::from_micros(3_000_000);
    let (mut counters, mut bytes, mut trace) = ([0_u64; 2], 0, Vec::new());
    let mut out = [0; MAX_PAYLOAD_BYTES];
    for tick in 0..seconds * 100 {
        let talking = tick % 400 < 200;
        let pcm: [f32; 480] = std::array::from_fn(|i| {
            let strength = if talking { 1.0 } else { 0.002 };
            strength * Tones::sample(i as u32)
        });
        sender.push(&pcm, if talking { 1.0 } else { 0.0 }).unwrap();
        while let Some((header, len)) = sender.poll_packet(&mut out) {
            let counter = &mut counters[usize::from(header.kind == Kind::Repair)];
            bytes += len + 56;
            link.send_sized(now, (header, *counter, out[..len].to_vec()), len + 56);
            *counter += 1;
        }
        while let Some((at, (header, counter, payload))) = link.poll_timed(now) {
            trace.push(Packet {
                at,
                header,
                counter,
                payload,
            });
        }
        now += Duration::from_millis(10);
    }
    (
        sim::replay(&trace, jitter::Config::default(), |_, _, _| {}).unwrap(),
        bytes,
    )
}

#[test]
fn every_tier_is_seamless_on_a_good_link_with_and_without_pauses() {
    let profile = Profile {
        delay: Duration::from_millis(20),
        ..Profile::default()
    };
    for tier in Tier::ALL {
        for pauses in [Pauses::Suppress, Pauses::Send] {
            let (outcome, _) = conversation(tier, pauses, profile, 60);
            println!("{} {pauses:?}: {outcome:?}", tier.name());
            let stats = outcome.stats;
            assert_eq!(
                (stats.lost, stats.late, stats.malformed, stats.recovered),
                (0, 0, 0, 0)
            );
            assert!(stats.concealed_ms <= 60, "{}", stats.concealed_ms);
            assert!(stats.target_ms <= 60.0, "{}", stats.target_ms);
        }
    }
}

#[test]
fn repair_pays_on_lossy_links() {
    println!("| tier | link | lost % | recovered of lost % | concealed % | delay ms |");
    println!("|---|---|---|---|---|---|");
    for (tier, loss) in [
        (Tier::Good, 0.05),
        (Tier::Degraded, 0.1),
        (Tier::Catastrophic, 0.3),
    ] {
        for name in ["independent", "weak-4g"] {
            let base = if name == "weak-4g" {
                Grade::Weak4g.profile()
            } else {
                Profile::default()
            };
            let profile = Profile {
                loss: Loss::Independent(loss),
                ..base
            };
            let (outcome, _) = conversation(tier, Pauses::Send, profile, 120);
            let stats = outcome.stats;
            let recovered = stats.recovered as f64 / stats.lost as f64;
            println!(
                "| {} | {name} | {:.1} | {:.1} | {:.2} | {:.0} |",
                tier.name(),
                100.0 * stats.lost as f64 / (stats.lost + stats.received) as f64,
                100.0 * recovered,
                100.0 * outcome.concealed(),
                outcome.delay_ms
            );
            assert!(recovered > 0.7, "{} {name}: {stats:?}", tier.name());
            assert!(
                outcome.concealed() < 0.6 * loss,
                "{} {name}: {stats:?}",
                tier.name()
            );
        }
    }
}
