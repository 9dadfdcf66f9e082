//! The receiver against all nine link grades, in virtual time, beside a fixed buffer of the same mean delay.

use std::time::Duration;

use wzp_sdk_core::voice::{
    jitter,
    sim::{self, Packet, Tones},
};
use wzp_testkit::{Grade, Jitter, Link, Profile, Skew};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level};

/// Links of each grade that are tried.
const SEEDS: [u64; 3] = [1, 2, 3];
const MS: Duration = Duration::from_millis(1);

fn header(codec: Codec, seq: u64, timestamp: u32) -> Header {
    Header {
        kind: Kind::Source,
        report: false,
        codec,
        level: Level::SILENCE,
        frames: 1,
        seq: seq as u16,
        timestamp,
        epoch: 0,
        context: 0,
        fec: FecFields::default(),
    }
}

/// Frames of `codec` without a pause, sent by a clock `ppm` fast through a link; `change` may alter the link.
fn trace(
    profile: Profile,
    codec: Codec,
    seconds: u64,
    ppm: f64,
    seed: u64,
    start: u32,
    change: impl Fn(Duration) -> Option<Profile>,
) -> (Vec<Packet>, u64) {
    let mut link: Link<(u64, u32)> = Link::new(profile, seed);
    let frame = Skew::new(ppm).true_time(codec.frame_duration()).as_nanos() as u64;
    let begin = Instant::from_micros(5_000_000);
    let n = seconds * 1_000 / codec.frame_duration().as_millis() as u64;
    let mut packets = Vec::new();
    let mut drain = |link: &mut Link<(u64, u32)>, now| {
        while let Some((at, (counter, timestamp))) = link.poll_timed(now) {
            let payload = Tones::frame(timestamp).to_vec();
            packets.push(Packet {
                at,
                header: header(codec, counter, timestamp),
                counter,
                payload,
            });
        }
    };
    for i in 0..n {
        let elapsed = Duration::from_nanos(frame * i);
        if let Some(profile) = change(elapsed) {
            link.set_profile(profile);
        }
        let timestamp = start.wrapping_add((i as u32).wrapping_mul(codec.frame_samples()));
        link.send_sized(begin + elapsed, (i, timestamp), 110);
        drain(&mut link, begin + elapsed);
    }
    drain(&mut link, begin + Duration::from_secs(seconds + 10));
    (packets, n)
}

#[test]
fn never_worse_than_a_fixed_buffer_of_the_same_mean_delay() {
    println!(
        "| grade | delay ms | late % | fixed late % | concealed % | fixed concealed % | longest gap ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut worse = Vec::new();
    for (grade, seed) in Grade::ALL
        .into_iter()
        .flat_map(|grade| SEEDS.map(|seed| (grade, seed)))
    {
        let (packets, sent) = trace(grade.profile(), Codec::Opus24k, 600, 0.0, seed, 0, |_| None);
        let ours = sim::replay(&packets, jitter::Config::default(), |_, _, _| {}).unwrap();
        let fixed = sim::fixed(&packets, Duration::from_secs_f64(ours.delay_ms / 1e3), sent);
        println!(
            "| {grade} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            ours.delay_ms,
            100.0 * ours.late_loss(),
            100.0 * fixed.late_loss,
            100.0 * ours.concealed(),
            100.0 * fixed.concealed,
            ours.stats.longest_gap_ms,
        );
        // A fixed buffer leaves out what is late; ours pauses, and then plays it. Content that is left out is
        // compared without mercy. Both conceal for about as long, ours rounded up to 10 ms at each pause.
        if ours.late_loss() > fixed.late_loss || ours.concealed() > 1.02 * fixed.concealed + 0.001_5 {
            worse.push((grade, seed));
        }
    }
    assert!(worse.is_empty(), "worse than fixed: {worse:?}");
}

#[test]
fn drift_of_200_ppm_is_absorbed_without_gaps() {
    for ppm in [-200.0, 200.0] {
        let jitter = Jitter {
            deviation: 3 * MS,
            memory: 60 * MS,
            ..Jitter::default()
        };
        let profile = Profile {
            delay: 30 * MS,
            jitter,
            ..Profile::default()
        };
        let (packets, _) = trace(profile, Codec::Opus24k, 600, ppm, 7, 0, |_| None);
        let ours = sim::replay(&packets, jitter::Config::default(), |_, _, _| {}).unwrap();
        println!("{ppm}: {ours:?}");
        // 200 ppm of 600 s are 120 ms that must have been stretched away.
        let stretched = if ppm > 0.0 {
            ours.stats.accelerated_ms
        } else {
            ours.stats.expanded_ms
        };
        assert!(stretched >= 90, "{stretched}");
        assert_eq!(ours.stats.late, 0);
        assert!(ours.stats.concealed_ms <= 60, "{}", ours.stats.concealed_ms);
        assert!(ours.stats.target_ms < 60.0 && ours.stats.delay_ms.unwrap() < 60.0);
    }
}

#[test]
fn a_route_change_costs_its_own_length_once() {
    let near = Profile {
        delay: 30 * MS,
        ..Profile::default()
    };
    let change = |at: Duration| {
        (at >= Duration::from_secs(20)).then_some(Profile {
            delay: 130 * MS,
            ..near
        })
    };
    let (packets, _) = trace(near, Codec::Opus24k, 60, 0.0, 1, 0, change);
    let ours = sim::replay(&packets, jitter::Config::default(), |_, _, _| {}).unwrap();
    println!("{ours:?}");
    assert_eq!(ours.stats.late, 0);
    assert!(ours.stats.concealed_ms <= 120, "{}", ours.stats.concealed_ms);
    assert!(ours.stats.longest_gap_ms <= 120);
}

#[test]
fn an_hour_with_a_wrapping_timestamp_is_seamless() {
    let profile = Profile {
        delay: 30 * MS,
        ..Profile::default()
    };
    let start = u32::MAX - 48_000 * 1_800;
    let (packets, _) = trace(profile, Codec::Opus6k, 3_600, 0.0, 1, start / 240 * 240, |_| None);
    let ours = sim::replay(&packets, jitter::Config::default(), |_, _, _| {}).unwrap();
    println!("{ours:?}");
    assert_eq!(
        (ours.stats.late, ours.stats.concealed_ms, ours.stats.lost),
        (0, 0, 0)
    );
}
