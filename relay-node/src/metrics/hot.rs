//! The numbers of the packet loops and their sockets, summed at each scrape.

use std::{
    fmt,
    sync::{PoisonError, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};
use wzp_relay_core::stats::{Counters, Dropped, Histogram, Leg};
use wzp_socket::Totals;

use super::HotPath;

type Encoded = Result<(), fmt::Error>;

impl Collector for HotPath {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let doors = self.doors.get().into_iter().flatten().filter_map(Weak::upgrade);
        let totals: Vec<Totals> = doors.map(|door| door.running.totals()).collect();
        let sockets = |read: &dyn Fn(&Totals) -> u64| totals.iter().map(read).sum::<u64>();
        let sum = |read: &dyn Fn(&Counters) -> u64| loops.iter().map(|counters| read(counters)).sum::<u64>();
        traffic(&mut encoder, &sum)?;
        dropped(&mut encoder, &sum, &sockets)?;
        beside(&mut encoder, &sum, &sockets)?;
        histogram(
            &mut encoder,
            "wzp_relay_fanout",
            "Copies made of a packet",
            1.0,
            &loops,
            &|loop_| &loop_.fan_out,
        )?;
        histogram(
            &mut encoder,
            "wzp_relay_forward_latency_seconds",
            "From the socket to the socket, by the loop's own clock",
            1e-6,
            &loops,
            &|loop_| &loop_.forward_latency_us,
        )?;
        let rtts = [&self.rtts.0];
        write_histogram(
            &mut encoder,
            "wzp_client_rtt_seconds",
            "Round trip to a member, by PINGs",
            1e-6,
            &rtts,
        )
    }
}

type Sockets<'a> = dyn Fn(&dyn Fn(&Totals) -> u64) -> u64 + 'a;
type Sum<'a> = dyn Fn(&dyn Fn(&Counters) -> u64) -> u64 + 'a;

fn traffic(encoder: &mut DescriptorEncoder<'_>, sum: &Sum<'_>) -> Encoded {
    let side = |counters: &Counters, dir: &str, leg: Leg| {
        let [client, mesh] = if dir == "in" {
            &counters.received
        } else {
            &counters.sent
        };
        let traffic = if leg == Leg::Client { client } else { mesh };
        (traffic.packets.get(), traffic.bytes.get())
    };
    let of = |dir: &'static str, leg: Leg| vec![("dir", dir), ("leg", leg.label())];
    let sides = || {
        ["in", "out"]
            .into_iter()
            .flat_map(|dir| Leg::ALL.map(|leg| (dir, leg)))
    };
    let packets = sides().map(|(dir, leg)| (of(dir, leg), sum(&|loop_| side(loop_, dir, leg).0)));
    counters(encoder, "wzp_relay_packets", "Media packets", packets)?;
    let bytes = sides().map(|(dir, leg)| (of(dir, leg), sum(&|loop_| side(loop_, dir, leg).1)));
    counters(
        encoder,
        "wzp_relay_bytes",
        "Bytes of media packets, without lane, UDP and IP headers",
        bytes,
    )
}

fn dropped(encoder: &mut DescriptorEncoder<'_>, sum: &Sum<'_>, sockets: &Sockets<'_>) -> Encoded {
    let reasons = Dropped::ALL.map(|why| (why.label(), sum(&|loop_| loop_.dropped(why))));
    let of_sockets = [
        ("auth", sockets(&|totals| totals.lane_failed)),
        ("stale", sockets(&|totals| totals.lane_replayed)),
        ("lane_unknown", sockets(&|totals| totals.lane_unknown)),
        ("malformed", sockets(&|totals| totals.dropped_malformed)),
        ("oversized", sockets(&|totals| totals.dropped_oversized)),
        ("send_failed", sockets(&|totals| totals.send_failed)),
        ("send_full", sockets(&|totals| totals.send_dropped_full)),
        ("quic_queue_full", sockets(&|totals| totals.quic_dropped_full)),
    ];
    let all = reasons
        .into_iter()
        .chain(of_sockets)
        .map(|(why, count)| (vec![("reason", why)], count));
    counters(
        encoder,
        "wzp_relay_packets_dropped",
        "Packets, or copies of them, not passed on",
        all,
    )
}

fn beside(encoder: &mut DescriptorEncoder<'_>, sum: &Sum<'_>, sockets: &Sockets<'_>) -> Encoded {
    let one = |count| [(Vec::new(), count)].into_iter();
    let held_back = sum(&|loop_| loop_.held_back.get());
    counters(
        encoder,
        "wzp_relay_packets_held_back",
        "Packets not forwarded as others are louder",
        one(held_back),
    )?;
    counters(
        encoder,
        "wzp_relay_pings",
        "PINGs answered",
        one(sum(&|loop_| loop_.pings.get())),
    )?;
    let moved = [(vec![("kind", "rebind")], sum(&|loop_| loop_.moved.get()))];
    counters(
        encoder,
        "wzp_relay_path_changes",
        "Lanes that moved to a proven new address",
        moved.into_iter(),
    )?;
    let lost = one(sockets(&|totals| totals.kernel_dropped));
    counters(
        encoder,
        "wzp_relay_udp_rcvbuf_errors",
        "Datagrams lost in full receive buffers",
        lost,
    )?;
    let datagrams = [
        (vec![("dir", "in")], sockets(&|totals| totals.received)),
        (vec![("dir", "out")], sockets(&|totals| totals.sent)),
    ];
    counters(
        encoder,
        "wzp_relay_datagrams",
        "UDP datagrams of every kind",
        datagrams.into_iter(),
    )?;
    let full = one(sockets(&|totals| totals.full_batches));
    counters(
        encoder,
        "wzp_relay_full_batches",
        "Turns of a loop that found more than a batch",
        full,
    )
}

pub(super) fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Vec<(&'static str, &'static str)>, u64)>,
) -> Encoded {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histogram<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: f64,
    loops: &[std::sync::Arc<Counters>],
    of: &dyn for<'a> Fn(&'a Counters) -> &'a Histogram<N>,
) -> Encoded {
    let all: Vec<_> = loops.iter().map(|loop_| of(loop_)).collect();
    write_histogram(encoder, name, help, unit, &all)
}

fn write_histogram<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: f64,
    all: &[&Histogram<N>],
) -> Encoded {
    let bounds = all.first().map(|first| first.bounds).into_iter().flatten();
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound as f64 * unit, 0)).collect();
    let (mut beyond, mut sum) = (0, 0.0);
    for histogram in all {
        let (counts, more, total) = histogram.read();
        buckets
            .iter_mut()
            .zip(counts)
            .for_each(|(bucket, (_, count))| bucket.1 += count);
        beyond += more;
        sum += total as f64 * unit;
    }
    let count = buckets.iter().map(|&(_, count)| count).sum::<u64>() + beyond;
    buckets.push((f64::INFINITY, beyond));
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
