//! What is measured, in which order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::lanes::{Lanes, Places};
use super::members::{self, Member};
use super::process::Process;
use super::quic::Quic;
use super::{Carrier, Row, ShapeName};
use crate::cpu::Cores;
use crate::load::{Pace, Shape};

/// Frames a second of a voice.
const VOICE: u32 = 50;
/// Of a voice in frames of 40 ms: neither the generator nor a relay with one core can take 200 talkers' 50 over QUIC.
const SLOW_VOICE: u32 = 25;
/// Members enough to divide a process's growth by.
const MANY: u32 = 100;
/// Until everything under way has arrived.
const TAIL: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_secs(1);
/// Turns that the relay and the forwarder without crypto take in a measurement of CPU time.
const TURNS: u32 = 8;
const STEP: Duration = Duration::from_millis(1_500);
const GROWTH: f64 = 1.25;
const TOLERATED: f64 = 0.005;
const STEPS: usize = 24;

/// A load on a forwarder.
pub(super) trait Traffic {
    fn shape(&self) -> Shape;
    /// Sends the `turn`th packet; whether it left.
    fn talk(&mut self, turn: u64) -> bool;
    /// Takes what has arrived.
    fn drain(&mut self);
    /// Media that has arrived since the start.
    fn received(&self) -> u64;
    /// Whether this side lost something itself.
    fn dropped_here(&self) -> bool;
    /// How long the listener's packets were under way since the last call.
    fn ages_us(&mut self) -> Vec<u32>;
}

/// How to measure.
pub(super) struct Bench {
    pub(super) program: PathBuf,
    pub(super) duration: Duration,
    pub(super) ramp: bool,
    pub(super) cores: Option<Cores>,
}

/// A forwarder and the load on it.
struct Side {
    traffic: Box<dyn Traffic>,
    process: Process,
}

/// Some seconds of load.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    cpu: Duration,
    elapsed: Duration,
    received: u64,
    expected: u64,
}

impl Window {
    fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        self.elapsed += other.elapsed;
        self.received += other.received;
        self.expected += other.expected;
    }

    fn us_per_packet(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.received as f64
    }

    fn out_per_second(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64()
    }

    fn loss(&self) -> f64 {
        self.expected.saturating_sub(self.received) as f64 / self.expected.max(1) as f64
    }
}

/// The end of a ramp, and how long packets were under way at half of it.
struct Limit {
    packets_per_second: f64,
    cause: &'static str,
    p50: f64,
    p99: f64,
}

impl Bench {
    /// The relay and the forwarder without crypto, in turns at the same rate, so that both see the same machine.
    pub(super) fn measure(&self, name: ShapeName, carrier: Carrier) -> anyhow::Result<Row> {
        let shape = name.shape();
        let voice = match (carrier, name) {
            (Carrier::Quic, ShapeName::Hundred) => SLOW_VOICE,
            _ => VOICE,
        };
        let per_second = shape.rooms * shape.talkers * voice;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting QUIC")?;
        let (mut relay, idle) = self.relay(&runtime, shape, carrier)?;
        let mut raw = self.raw(shape)?;
        let (mut ours, mut bare) = (Window::default(), Window::default());
        for side in [&mut relay, &mut raw] {
            side.window(per_second, WARM_UP)?;
        }
        for _ in 0..TURNS {
            ours.add(&relay.window(per_second, self.duration / TURNS)?);
            bare.add(&raw.window(per_second, self.duration / TURNS)?);
        }
        let (relay_limit, raw_limit) = if self.ramp {
            let relay_limit = self.limit(&mut relay, per_second)?;
            drop(relay);
            (Some(relay_limit), Some(self.limit(&mut raw, per_second)?))
        } else {
            (None, None)
        };
        Ok(Row {
            shape: name.name(),
            carrier,
            us_per_packet: ours.us_per_packet(),
            raw_us_per_packet: bare.us_per_packet(),
            ratio: ours.us_per_packet() / bare.us_per_packet(),
            load_packets_per_second: ours.out_per_second(),
            loss: ours.loss(),
            packets_per_second: relay_limit.as_ref().map(|limit| limit.packets_per_second),
            limit: relay_limit.as_ref().map(|limit| limit.cause),
            raw_packets_per_second: raw_limit.as_ref().map(|limit| limit.packets_per_second),
            latency_p50_us: relay_limit.as_ref().map(|limit| limit.p50),
            latency_p99_us: relay_limit.as_ref().map(|limit| limit.p99),
            raw_latency_p50_us: raw_limit.as_ref().map(|limit| limit.p50),
            raw_latency_p99_us: raw_limit.as_ref().map(|limit| limit.p99),
            idle_member_bytes: idle,
        })
    }

    /// A relay full of members, and how much memory each of them took where there are many.
    fn relay(
        &self,
        runtime: &Runtime,
        shape: Shape,
        carrier: Carrier,
    ) -> anyhow::Result<(Side, Option<u64>)> {
        let process = Process::relay(&self.program, self.cores.as_ref())?;
        // The first member makes the relay take what it needs in any case.
        let endpoint = {
            let _inside = runtime.enter();
            members::endpoint()?
        };
        let _first = runtime.block_on(members::join(
            &endpoint,
            process.address,
            u32::MAX,
            "first",
            carrier,
        ))?;
        let before = process.memory_bytes()?;
        let members = join_all(runtime, &endpoint, &process, shape, carrier)?;
        std::thread::sleep(Duration::from_secs(2));
        let grown = process.memory_bytes()?.saturating_sub(before);
        let count = shape.rooms * shape.members;
        let idle = (count >= MANY).then(|| grown / u64::from(count));
        let traffic: Box<dyn Traffic> = match carrier {
            Carrier::Quic => Box::new(Quic::new(runtime, shape, members)),
            Carrier::Lane => {
                let mut ends = Vec::new();
                for member in &members {
                    let lane = member.lane.as_ref().context("finding a member's lane")?;
                    ends.push((Arc::clone(lane), member.sender));
                }
                let lanes = Lanes::sealed(Places::bind(shape)?, process.address, ends)?;
                Box::new(Kept {
                    lanes,
                    _members: members,
                })
            }
        };
        Ok((Side { traffic, process }, idle))
    }

    /// The forwarder without crypto, with as many members.
    fn raw(&self, shape: Shape) -> anyhow::Result<Side> {
        let places = Places::bind(shape)?;
        let process = Process::raw(shape, &places.addresses, self.cores.as_ref())?;
        let traffic = Box::new(Lanes::raw(places, process.address)?);
        Ok(Side { traffic, process })
    }

    /// Raises the rate until loss starts, then looks at the clock at half of it.
    fn limit(&self, side: &mut Side, from: u32) -> anyhow::Result<Limit> {
        let (mut good, mut good_out, mut rate) = (from, 0.0, from);
        let mut cause = "nothing";
        let cause_of = |traffic: &dyn Traffic, window: &Window, rate: u32| {
            let asked = f64::from(rate) * f64::from(traffic.shape().members - 1);
            if window.loss() > TOLERATED {
                Some(if traffic.dropped_here() {
                    "the load generator's receive buffer"
                } else {
                    "the forwarder"
                })
            } else if window.out_per_second() < asked * 0.97 {
                Some("the load generator's pace")
            } else {
                None
            }
        };
        for _ in 0..STEPS {
            let step = side.window(rate, STEP)?;
            if let Some(why) = cause_of(side.traffic.as_ref(), &step, rate) {
                cause = why;
                if good_out > 0.0 {
                    break;
                }
                // Too much from the start: down until it is not, then up again.
                rate = (rate / 2).max(1);
                good = rate;
                continue;
            }
            (good, good_out) = (rate, step.out_per_second());
            // Small rooms start far from any limit.
            let growth = if good_out < 30_000.0 { 2.0 } else { GROWTH };
            rate = (f64::from(rate) * growth) as u32;
        }
        settle(side.traffic.as_mut());
        side.window((good / 2).max(1), self.duration)?;
        let mut ages = side.traffic.ages_us();
        ages.sort_unstable();
        Ok(Limit {
            packets_per_second: good_out,
            cause,
            p50: percentile(&ages, 0.5),
            p99: percentile(&ages, 0.99),
        })
    }
}

/// Lanes whose connections stay open.
struct Kept {
    lanes: Lanes,
    _members: Vec<Member>,
}

impl Traffic for Kept {
    fn shape(&self) -> Shape {
        self.lanes.shape()
    }

    fn talk(&mut self, turn: u64) -> bool {
        self.lanes.talk(turn)
    }

    fn drain(&mut self) {
        self.lanes.drain();
    }

    fn received(&self) -> u64 {
        self.lanes.received()
    }

    fn dropped_here(&self) -> bool {
        self.lanes.dropped_here()
    }

    fn ages_us(&mut self) -> Vec<u32> {
        self.lanes.ages_us()
    }
}

fn join_all(
    runtime: &Runtime,
    endpoint: &quinn::Endpoint,
    process: &Process,
    shape: Shape,
    carrier: Carrier,
) -> anyhow::Result<Vec<Member>> {
    let mut members = Vec::new();
    for number in 0..shape.rooms * shape.members {
        let room = format!("room {}", number / shape.members);
        let joining = members::join(endpoint, process.address, number, &room, carrier);
        members.push(
            runtime
                .block_on(joining)
                .with_context(|| format!("joining as member {number}"))?,
        );
    }
    Ok(members)
}

/// Waits until nothing of an overload is left in any queue, and forgets how long that was under way.
fn settle(traffic: &mut dyn Traffic) {
    let mut before = None;
    for _ in 0..50 {
        std::thread::sleep(TAIL / 2);
        traffic.drain();
        if before.replace(traffic.received()) == Some(traffic.received()) {
            break;
        }
    }
    traffic.ages_us();
}

impl Side {
    /// Drives `per_second` packets a second in for `duration`.
    fn window(&mut self, per_second: u32, duration: Duration) -> anyhow::Result<Window> {
        let Self { traffic, process } = self;
        let (cpu, received) = (process.cpu()?, traffic.received());
        let mut pace = Pace::per_second(per_second);
        let (mut turn, mut sent) = (0, 0_u64);
        while pace.elapsed() < duration {
            for _ in 0..pace.due() {
                sent += u64::from(traffic.talk(turn));
                turn += 1;
            }
            traffic.drain();
            // Wakes up more often than every millisecond: packets come one by one from many, not in bursts.
            std::thread::sleep(Duration::from_micros(100));
        }
        let elapsed = pace.elapsed();
        while pace.elapsed() < elapsed + TAIL {
            traffic.drain();
            std::thread::sleep(Duration::from_millis(1));
        }
        let cpu = process.cpu()?.saturating_sub(cpu);
        let received = traffic.received() - received;
        anyhow::ensure!(received > 0, "nothing that was sent has arrived");
        Ok(Window {
            cpu,
            elapsed,
            received,
            expected: sent * u64::from(traffic.shape().members - 1),
        })
    }
}

/// Whose turn it is: talkers take turns, room by room.
pub(super) fn talker(shape: Shape, turn: u64) -> usize {
    let rooms = u64::from(shape.rooms.max(1));
    let member = turn / rooms % u64::from(shape.talkers.max(1));
    (turn % rooms * u64::from(shape.members) + member) as usize
}

fn percentile(sorted: &[u32], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_talker_of_every_room_has_its_turn() {
        let shape = Shape {
            rooms: 2,
            members: 3,
            talkers: 2,
        };
        let turns: Vec<_> = (0..5).map(|turn| talker(shape, turn)).collect();
        assert_eq!(turns, [0, 3, 1, 4, 0]);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ages: Vec<u32> = (1..=100).collect();
        assert!((percentile(&ages, 0.5) - 51.0).abs() < 1e-9);
        assert!((percentile(&ages, 0.99) - 99.0).abs() < 1e-9);
        assert!(percentile(&[], 0.5).abs() < 1e-9);
    }
}
