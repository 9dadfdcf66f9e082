use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends `n` numbered packets 20 ms apart; returns (number, delay) in order of arrival.
fn run(profile: Profile, seed: u64, n: u64) -> (Vec<(u64, Duration)>, Stats) {
    let mut link: Link<(u64, Instant)> = Link::new(profile, seed);
    let mut now = Instant::from_micros(1_000_000);
    for number in 0..n {
        link.send_sized(now, (number, now), 100);
        now += 20 * MS;
    }
    let end = now + Duration::from_secs(100);
    let mut out = Vec::new();
    while let Some((at, (number, sent))) = link.poll_timed(end) {
        out.push((number, at.duration_since(sent)));
    }
    (out, link.stats())
}

#[test]
fn perfect_link_changes_nothing() {
    let (out, stats) = run(Profile::default(), 1, 100);
    assert!(
        out.iter()
            .enumerate()
            .all(|(i, &(n, d))| n == i as u64 && d.is_zero())
    );
    assert_eq!((stats.sent, stats.delivered, stats.lost), (100, 100, 0));
}

#[test]
fn packets_arrive_no_earlier_than_due() {
    let mut link: Link = Link::new(
        Profile {
            delay: 30 * MS,
            ..Profile::default()
        },
        1,
    );
    let start = Instant::from_micros(1_000_000);
    link.send(start, vec![1, 2, 3]);
    assert_eq!(link.poll_timeout(), Some(start + 30 * MS));
    assert_eq!(link.poll(start + 29 * MS), None);
    assert_eq!(link.poll(start + 30 * MS), Some(vec![1, 2, 3]));
    assert_eq!(link.poll_timeout(), None);
}

#[test]
fn same_seed_same_fate() {
    let profile = Profile {
        loss: Loss::Burst {
            share: 0.2,
            mean_run: 3.0,
        },
        jitter: Jitter {
            deviation: 20 * MS,
            memory: 50 * MS,
            ..Jitter::default()
        },
        ..Profile::default()
    };
    assert_eq!(run(profile, 5, 500), run(profile, 5, 500));
    assert_ne!(run(profile, 5, 500).0, run(profile, 6, 500).0);
}

#[test]
fn losses_come_in_the_share_and_runs_asked_for() {
    for (share, mean_run) in [(0.01, 1.2), (0.2, 3.0), (0.25, 8.0)] {
        let loss = Loss::Burst { share, mean_run };
        let n = 200_000;
        let (out, stats) = run(
            Profile {
                loss,
                ..Profile::default()
            },
            9,
            n,
        );
        let lost = stats.lost as f64 / n as f64;
        assert!(
            (lost - share).abs() < 0.1 * share + 0.002,
            "share {lost} of {share}"
        );
        let runs = out.windows(2).filter(|w| w[1].0 > w[0].0 + 1).count();
        let run_length = stats.lost as f64 / runs as f64;
        assert!(
            (run_length - mean_run).abs() < 0.1 * mean_run,
            "run {run_length} of {mean_run}"
        );
    }
    let (_, stats) = run(
        Profile {
            loss: Loss::Independent(0.1),
            ..Profile::default()
        },
        2,
        100_000,
    );
    assert!((stats.lost as f64 / 100_000.0 - 0.1).abs() < 0.005);
    let loss = Loss::TwoState {
        turn_bad: 0.1,
        turn_good: 0.3,
        good: 0.0,
        bad: 0.5,
    };
    let (_, stats) = run(
        Profile {
            loss,
            ..Profile::default()
        },
        2,
        100_000,
    );
    assert!((stats.lost as f64 / 100_000.0 - 0.125).abs() < 0.01);
}

#[test]
fn jitter_has_its_deviation_and_keeps_order() {
    let jitter = Jitter {
        deviation: 3 * MS,
        memory: 40 * MS,
        spike: 80 * MS,
        spike_every: 500 * MS,
    };
    let (out, _) = run(
        Profile {
            delay: 50 * MS,
            jitter,
            ..Profile::default()
        },
        3,
        20_000,
    );
    assert!(
        out.windows(2).all(|w| w[0].0 < w[1].0),
        "jitter alone must not reorder"
    );
    let late = out.iter().filter(|(_, d)| *d > 90 * MS).count();
    assert!(late > 500, "spikes hold packets up, got {late}");
    let calm = Jitter {
        spike_every: Duration::ZERO,
        ..jitter
    };
    let (out, _) = run(
        Profile {
            delay: 50 * MS,
            jitter: calm,
            ..Profile::default()
        },
        3,
        20_000,
    );
    let delays: Vec<f64> = out.iter().map(|(_, d)| d.as_secs_f64() * 1e3).collect();
    let mean = delays.iter().sum::<f64>() / delays.len() as f64;
    let variance = delays.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / delays.len() as f64;
    assert!(
        (mean - 50.0).abs() < 0.5 && (variance.sqrt() - 3.0).abs() < 0.3,
        "{mean} {}",
        variance.sqrt()
    );
}

#[test]
fn rate_limit_queues_then_drops() {
    // 100 bytes take 25 ms at 32 kbit/s, and one comes every 20 ms: the queue grows until it overflows.
    let profile = Profile {
        rate_bps: Some(32_000),
        queue: 200 * MS,
        ..Profile::default()
    };
    let (out, stats) = run(profile, 1, 1_000);
    assert!(stats.overflowed > 150, "{stats:?}");
    assert!(out.iter().all(|(_, d)| *d <= 225 * MS));
    assert_eq!(out[0].1, 25 * MS);
}

#[test]
fn detours_reorder_and_copies_arrive() {
    let profile = Profile {
        reorder: 0.1,
        reorder_by: 100 * MS,
        duplicate: 0.05,
        ..Profile::default()
    };
    let (out, stats) = run(profile, 4, 2_000);
    assert!(out.windows(2).any(|w| w[0].0 > w[1].0));
    assert_eq!(stats.delivered, 2_000 + stats.duplicated);
    assert!(stats.duplicated > 50 && stats.reordered > 100);
}

#[test]
fn route_change_moves_later_packets_only() {
    let near = Profile {
        delay: 20 * MS,
        ..Profile::default()
    };
    let mut link: Link = Link::new(near, 1);
    let start = Instant::from_micros(1_000_000);
    link.send(start, vec![1]);
    link.set_profile(Profile {
        delay: 120 * MS,
        ..near
    });
    link.send(start, vec![2]);
    assert_eq!(link.poll(start + 20 * MS), Some(vec![1]));
    assert_eq!(link.poll(start + 119 * MS), None);
    assert_eq!(link.poll(start + 120 * MS), Some(vec![2]));
}

const START: Instant = Instant::from_micros(1_000_000);

#[test]
fn a_cut_takes_what_is_under_way_and_all_that_follows_until_it_is_restored() {
    let far = Profile {
        delay: 50 * MS,
        ..Profile::default()
    };
    let mut link: Link = Link::new(far, 1);
    link.send(START, vec![1]);
    link.cut();
    link.send(START + 10 * MS, vec![2]);
    assert_eq!((link.poll_timeout(), link.poll(START + 100 * MS)), (None, None));
    link.restore();
    link.send(START + 20 * MS, vec![3]);
    assert_eq!(link.poll(START + 69 * MS), None);
    assert_eq!(link.poll(START + 70 * MS), Some(vec![3]));
    let Stats {
        sent, delivered, cut, ..
    } = link.stats();
    assert_eq!((sent, delivered, cut), (3, 1, 2));
}

#[test]
fn what_a_cut_takes_does_not_change_the_fate_of_what_follows() {
    let lossy = Profile {
        loss: Loss::Independent(0.3),
        ..Profile::default()
    };
    let after_a_cut_of = |packets: u8| {
        let mut link: Link = Link::new(lossy, 7);
        link.cut();
        (0..packets).for_each(|n| link.send(START, vec![n]));
        link.restore();
        (0..100).for_each(|n| link.send(START, vec![n]));
        std::iter::from_fn(|| link.poll(START)).collect::<Vec<_>>()
    };
    assert_eq!(after_a_cut_of(0), after_a_cut_of(50));
}

#[test]
fn nobody_waits_behind_what_a_cut_took() {
    let slow = Profile {
        delay: Duration::from_secs(60),
        rate_bps: Some(1_000),
        queue: Duration::from_secs(60),
        ..Profile::default()
    };
    let mut link: Link = Link::new(slow, 1);
    link.send(START, vec![0; 1_000]);
    link.cut();
    link.restore();
    link.set_profile(Profile::default());
    link.send(START, vec![1]);
    assert_eq!(link.poll(START), Some(vec![1]));
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_is_counted() {
    let profile = Profile {
        delay: Duration::from_secs(60),
        duplicate: 1.0,
        ..Profile::default()
    };
    let mut link = Link::<Vec<u8>>::new(profile, 1).holding_at_most(5);
    for n in 0..10 {
        link.send(START, vec![n]);
    }
    let Stats {
        overflowed,
        duplicated,
        ..
    } = link.stats();
    assert_eq!((overflowed, duplicated), (7, 2));
    let arrived = std::iter::from_fn(|| link.poll(START + Duration::from_secs(61)));
    assert_eq!(arrived.collect::<Vec<_>>(), [[0], [0], [1], [1], [2]]);
}

#[test]
fn no_figure_is_too_large() {
    let most = Profile {
        rate_bps: Some(0),
        queue: Duration::MAX,
        delay: Duration::MAX,
        jitter: Jitter {
            deviation: Duration::MAX,
            memory: Duration::MAX,
            spike: Duration::MAX,
            spike_every: Duration::MAX,
        },
        loss: Loss::Burst {
            share: -1.0,
            mean_run: f64::NAN,
        },
        reorder: 2.0,
        reorder_by: Duration::MAX,
        duplicate: f64::INFINITY,
    };
    let mut link: Link = Link::new(most, 1);
    (0..100_u32).for_each(|n| link.send(START + MS * (20 * n), vec![1]));
    assert_eq!(link.poll(START + Duration::from_secs(100)), None);
}
