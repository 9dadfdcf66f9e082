//! Sends speech through a link that is made up, as fast as the machine can.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use wzp_sdk::{
    SenderId, Tier,
    codec::Library,
    core::voice::{
        codec::CodecError,
        mode::Envelope,
        receiver::{Impairment, PULL, Receiver, Stats, mos},
        sender::{MAX_PAYLOAD_BYTES, Pauses, Sender, TICK_SAMPLES},
    },
};
use wzp_testkit::{Jitter, Link, Loss, Profile};
use wzp_wire::{Header, Instant, Kind};

use super::{Case, Row, broken};
use crate::{exit::Failure, report::tenths};

const TICK: Duration = Duration::from_millis(10);
/// One way, without jitter; a call across a continent.
const PATH: Duration = Duration::from_millis(50);
/// What the sound devices at both ends add.
const DEVICES: Duration = Duration::from_millis(20);
/// Packets within such a time are held up alike, as queues do.
const MEMORY: Duration = Duration::from_millis(60);
/// How long the receiver goes on after the last packet was sent.
const TAIL: Duration = Duration::from_secs(1);
const LANE_ID_BYTES: u32 = 8;

/// A packet as it leaves.
#[derive(Debug, Clone)]
struct Packet {
    at: Instant,
    header: Header,
    counter: u64,
    payload: Vec<u8>,
}

/// Runs all cases on all processors; `progress` hears how many are done, of how many.
///
/// # Errors
/// When the codec library refuses.
pub(super) fn all(
    cases: &[Case],
    speech: &[f32],
    seed: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Vec<Row>, Failure> {
    let mut tiers: Vec<Tier> = cases.iter().map(|case| case.tier).collect();
    tiers.dedup();
    let sent = tiers.into_iter().map(|tier| Ok((tier, encode(tier, speech)?)));
    let sent: Vec<(Tier, Vec<Packet>)> = sent.collect::<Result<_, CodecError>>().map_err(|e| broken(&e))?;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut rows = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else {
                return rows;
            };
            let packets = sent
                .iter()
                .find(|(tier, _)| *tier == case.tier)
                .map_or(&[][..], |(_, p)| p);
            rows.push((number, row(case, packets, seed)));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, cases.len());
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(cases.len());
    let mut rows: Vec<(usize, Row)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect()
    });
    if rows.len() < cases.len() {
        return Err(Failure::failed("the simulation broke down"));
    }
    rows.sort_by_key(|(number, _)| *number);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// What a sender makes of the speech; the link has no part in it.
fn encode(tier: Tier, speech: &[f32]) -> Result<Vec<Packet>, CodecError> {
    let mut sender = Sender::new(Library, tier, Pauses::Send, 0)?;
    let mut packets = Vec::new();
    let mut payload = [0; MAX_PAYLOAD_BYTES];
    let mut counters = [0_u64; 2];
    let mut now = Instant::ZERO;
    let (blocks, _) = speech.as_chunks::<TICK_SAMPLES>();
    for block in blocks {
        now += TICK;
        sender.push(block, 1.0)?;
        while let Some((mut header, len)) = sender.poll_packet(&mut payload) {
            let [source, repair] = &mut counters;
            let counter = if header.kind == Kind::Repair {
                repair
            } else {
                source
            };
            header.seq = *counter as u16;
            let payload = payload.get(..len).unwrap_or_default().to_vec();
            packets.push(Packet {
                at: now,
                header,
                counter: *counter,
                payload,
            });
            *counter += 1;
        }
    }
    Ok(packets)
}

fn row(case: &Case, packets: &[Packet], seed: u64) -> Row {
    let stats = receive(case, packets, seed);
    let sent = packets
        .iter()
        .filter(|packet| packet.header.kind != Kind::Repair)
        .count();
    let percent = |part: u64, whole: u64| tenths(100.0 * part as f64 / whole.max(1) as f64);
    let envelope = Envelope {
        ip_udp_bytes: Envelope::IPV4,
        carrier_bytes: Envelope::lane(LANE_ID_BYTES),
        reports_per_1000_s: 0,
    };
    Row {
        tier: case.tier,
        loss_percent: case.loss_percent,
        jitter_ms: case.jitter_ms,
        buffer: case.buffer,
        wire_kbps: tenths(f64::from(case.tier.mode().cost(envelope).total) / 1e3),
        lost_percent: percent(stats.lost, stats.lost + stats.received),
        recovered_percent: percent(stats.recovered, sent as u64),
        late_percent: percent(stats.late, sent as u64),
        concealed_percent: percent(stats.concealed_ms, stats.played_ms),
        longest_gap_ms: stats.longest_gap_ms,
        delay_ms: tenths(stats.delay_ms.unwrap_or_default()),
        mos: (opinion(case.tier, &stats) * 100.0).round() / 100.0,
    }
}

/// The E-model at the delay that was heard on average; the receiver's own score takes the delay it aims at now.
fn opinion(tier: Tier, stats: &Stats) -> f64 {
    let codec = tier.codec();
    let buffer = Duration::from_secs_f64(stats.delay_ms.unwrap_or_default().max(0.0) / 1e3);
    let concealed = stats.concealed_ms as f64 / stats.played_ms.max(1) as f64;
    mos(&Impairment {
        codec,
        delay: PATH + codec.frame_duration() + DEVICES + buffer,
        concealed,
        burst: 1.0,
    })
}

/// Plays what a link leaves of the packets.
fn receive(case: &Case, packets: &[Packet], seed: u64) -> Stats {
    let (Some(about), Some(last)) = (SenderId::new(1), packets.last()) else {
        return Stats::default();
    };
    let mut link: Link<&Packet> = Link::new(profile(case), seed);
    let mut receiver = Receiver::new(about, Library, case.buffer.config());
    receiver.set_rtt(2 * PATH);
    let mut waiting = packets.iter().peekable();
    let mut block = [0.0; PULL];
    let mut now = Instant::ZERO;
    while now < last.at + PATH + TAIL {
        now += TICK;
        while let Some(packet) = waiting.next_if(|packet| packet.at <= now) {
            link.send_sized(packet.at, packet, packet.payload.len());
        }
        while let Some((at, packet)) = link.poll_timed(now) {
            receiver.handle_packet(at, &packet.header, packet.counter, &packet.payload);
        }
        receiver.pull(now, &mut block);
        // What follows the last word would count as a gap.
        if waiting.peek().is_none() && link.poll_timeout().is_none() {
            break;
        }
    }
    receiver.stats()
}

fn profile(case: &Case) -> Profile {
    let jitter = Jitter {
        deviation: Duration::from_millis(case.jitter_ms.into()),
        memory: MEMORY,
        ..Jitter::default()
    };
    let loss = match case.loss_percent {
        0 => Loss::None,
        percent => Loss::Independent(f64::from(percent) / 100.0),
    };
    Profile {
        delay: PATH,
        jitter,
        loss,
        ..Profile::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Buffer, speech_like};

    fn case(loss_percent: u8, jitter_ms: u16, buffer: Buffer) -> Case {
        Case {
            tier: Tier::Catastrophic,
            loss_percent,
            jitter_ms,
            buffer,
        }
    }

    #[test]
    fn a_link_without_faults_hides_nothing_and_a_bad_one_does() {
        let packets = encode(Tier::Catastrophic, &speech_like(48_000 * 6)).unwrap();
        let clean = row(&case(0, 0, Buffer::Auto), &packets, 1);
        assert_eq!((clean.lost_percent, clean.late_percent), (0.0, 0.0));
        assert!(clean.concealed_percent < 1.0, "{clean:?}");
        let bad = row(&case(30, 0, Buffer::Fixed(400)), &packets, 1);
        assert!((20.0..40.0).contains(&bad.lost_percent), "{bad:?}");
        assert!(bad.recovered_percent > 10.0 && bad.mos <= clean.mos, "{bad:?}");
        assert_eq!(
            bad,
            row(&case(30, 0, Buffer::Fixed(400)), &packets, 1),
            "same seed, same row"
        );
    }
}
