use std::f32::consts::TAU;

use super::*;

/// A voiced-like signal: harmonics of a gliding pitch under a slowly moving envelope.
fn voiced(n: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    (0..n)
        .map(|i| {
            let t = i as f32 / 48_000.0;
            phase += TAU * (120.0 + 25.0 * (TAU * 0.7 * t).sin()) / 48_000.0;
            let envelope = 0.55 + 0.45 * (TAU * 2.3 * t).sin();
            let tone: f32 = (1..=12).map(|h| (phase * h as f32).sin() / h as f32).sum();
            0.3 * envelope * tone
        })
        .collect()
}

fn sine(frequency: f32, amplitude: f32, n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| amplitude * (TAU * frequency * i as f32 / 48_000.0).sin())
        .collect()
}

fn noise(amplitude: f32, n: usize) -> Vec<f32> {
    let mut state = 1_u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            amplitude * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect()
}

/// Plays `signal` in blocks of 10 ms and stretches it at every sixth. Returns what is heard and by how much
/// the signal was changed.
fn play(signal: &[f32], step: fn(&mut Pcm, Urgency, usize) -> usize, urgency: Urgency) -> (Vec<f32>, usize) {
    let mut pcm = Pcm::new();
    let (mut heard, mut changed) = (Vec::new(), 0);
    let mut block = [0.0; 480];
    for (i, chunk) in signal.chunks_exact(480).enumerate() {
        pcm.push(chunk);
        if i % 6 == 5 {
            changed += step(&mut pcm, urgency, usize::MAX);
        }
        while pcm.queued() >= ACCELERATE_NEEDS + 480 {
            pcm.pop(&mut block);
            heard.extend(block);
        }
    }
    (heard, changed)
}

fn steepest(signal: &[f32]) -> f32 {
    signal.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
}

fn energy(signal: &[f32]) -> f32 {
    signal.iter().map(|s| s * s).sum::<f32>() / signal.len() as f32
}

fn assert_smooth(name: &str, signal: &[f32], heard: &[f32]) {
    assert!(
        steepest(heard) <= 1.1 * steepest(signal),
        "{name}: click, {} > {}",
        steepest(heard),
        steepest(signal)
    );
    let ratio = energy(heard) / energy(signal);
    assert!((0.85..1.15).contains(&ratio), "{name}: energy changed by {ratio}");
}

#[test]
fn tones_and_voices_stretch_without_clicks() {
    let signals = [
        ("100 Hz", sine(100.0, 0.5, 96_000)),
        ("237 Hz", sine(237.0, 0.5, 96_000)),
        ("1000 Hz", sine(1_000.0, 0.5, 96_000)),
        ("voiced", voiced(192_000)),
    ];
    for (name, signal) in signals {
        let (heard, removed) = play(&signal, accelerate, Urgency::Low);
        assert!(
            removed > signal.len() / 100,
            "{name}: hardly accelerated ({removed})"
        );
        assert_smooth(name, &signal, &heard);
        let (heard, added) = play(&signal, expand, Urgency::Low);
        assert!(added > signal.len() / 100, "{name}: hardly expanded ({added})");
        assert_smooth(name, &signal, &heard);
    }
}

#[test]
fn a_stretched_tone_keeps_its_pitch() {
    let signal = sine(200.0, 0.5, 96_000);
    for step in [accelerate, expand] {
        let (heard, _) = play(&signal, step, Urgency::Low);
        let crossings = heard.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
        let pitch = crossings as f32 * 48_000.0 / heard.len() as f32;
        assert!((pitch - 200.0).abs() < 1.5, "{pitch} Hz");
    }
}

#[test]
fn loud_noise_waits_unless_it_is_urgent() {
    let loud = noise(0.5, 96_000);
    for step in [accelerate, expand] {
        assert_eq!(play(&loud, step, Urgency::Low).1, 0);
        assert!(play(&loud, step, Urgency::Must).1 > 0);
    }
}

#[test]
fn quiet_noise_stretches_anywhere() {
    let quiet = noise(0.002, 96_000);
    for step in [accelerate, expand] {
        let (heard, changed) = play(&quiet, step, Urgency::Low);
        assert!(changed > 1_000);
        assert!(energy(&heard) < 1.3 * energy(&quiet));
    }
}

#[test]
fn silence_stretches() {
    for step in [accelerate, expand] {
        let (heard, changed) = play(&[0.0; 48_000], step, Urgency::Low);
        assert!(changed > 1_000 && heard.iter().all(|s| *s == 0.0));
    }
}

#[test]
fn a_limit_is_kept() {
    let mut pcm = Pcm::new();
    pcm.push(&sine(200.0, 0.5, 2_000));
    assert_eq!(accelerate(&mut pcm, Urgency::Must, LAG_MIN - 1), 0);
    let removed = accelerate(&mut pcm, Urgency::Must, 300);
    assert!((LAG_MIN..=300).contains(&removed));
    assert_eq!(pcm.queued(), 2_000 - removed);
}

#[test]
fn too_little_signal_is_left_alone() {
    let mut pcm = Pcm::new();
    pcm.push(&[0.0; ACCELERATE_NEEDS - 1]);
    assert_eq!(accelerate(&mut pcm, Urgency::Must, usize::MAX), 0);
    assert_eq!(
        expand(&mut pcm, Urgency::Must, usize::MAX),
        0,
        "nothing was played yet"
    );
}

#[test]
fn samples_that_are_not_numbers_do_no_harm() {
    let mut pcm = Pcm::new();
    pcm.push(&[f32::NAN; 2_400]);
    pcm.pop(&mut [0.0; 960]);
    accelerate(&mut pcm, Urgency::Low, usize::MAX);
    expand(&mut pcm, Urgency::Low, usize::MAX);
}
