//! The three quality tiers: what each one sends, and what that costs on the wire.

use std::time::Duration;

use wzp_wire::{Codec, Datagram, media};

use super::fec;

/// How good the call can be at the moment, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Opus at 24 kbit/s.
    Good,
    /// Opus at 6 kbit/s.
    Degraded,
    /// Codec2 at 1,200 bit/s.
    Catastrophic,
}

/// Whether a tier sends its repair packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repair {
    /// As many as belong to the tier.
    Full,
    /// None: on a link that drops because it is full, repair packets are what fills it.
    Off,
}

/// What a sender sends: the value both ends agree on, packet by packet, through the media header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// How frames are coded.
    pub codec: Codec,
    /// Frames in a packet.
    pub frames: u8,
    /// Repair packets, and when they leave.
    pub fec: fec::Layout,
}

impl Tier {
    /// Every tier, best first.
    pub const ALL: [Self; 3] = [Self::Good, Self::Degraded, Self::Catastrophic];

    /// What the tier sends.
    ///
    /// | tier | block | repair leaves, after its block | last repair of a block's first frame |
    /// |---|---|---|---|
    /// | good | 5 × 20 ms, 1 repair (20 %) | 30 ms | 110 ms |
    /// | degraded | 4 × 40 ms, 2 repairs (50 %) | 60, 100 ms | 220 ms |
    /// | catastrophic | 5 × 40 ms, 5 repairs (100 %) | 30, 60, 90, 120, 150 ms | 310 ms |
    ///
    /// Longer blocks would repair a little more (at 30 % loss 8 + 8 leaves 1.5 % of frames lost, 5 + 5 leaves 3.0 %)
    /// and cost their length in delay: 8 + 8 at 40 ms is half a second. The times put repair packets *between* the
    /// source packets of the next block, in nobody's burst: good survives every burst that takes one packet of a
    /// block, degraded every burst of 80 ms, catastrophic every burst of 140 ms. Sent at the end of their block the
    /// catastrophic ones would survive 20 ms only; spread over all of the next block 170 ms, for 30 ms more delay
    /// than the jitter buffer's limit has room for on a link that also jitters.
    #[must_use]
    pub const fn mode(self) -> Mode {
        let ms = Duration::from_millis;
        let (codec, fec) = match self {
            Self::Good => (Codec::Opus24k, fec::Layout::raptorq(5, 1, ms(30), ms(0))),
            Self::Degraded => (Codec::Opus6k, fec::Layout::raptorq(4, 2, ms(60), ms(40))),
            Self::Catastrophic => (Codec::Codec2_1200, fec::Layout::raptorq(5, 5, ms(30), ms(30))),
        };
        let fec = match fec {
            Some(layout) => layout,
            None => fec::Layout::NONE,
        };
        Mode {
            codec,
            frames: 1,
            fec,
        }
    }

    /// The codec of the tier.
    #[must_use]
    pub const fn codec(self) -> Codec {
        self.mode().codec
    }

    /// What the codec alone makes, in bits a second.
    #[must_use]
    pub const fn codec_bitrate(self) -> u32 {
        codec_bitrate(self.codec())
    }

    /// What goes over the wire while somebody speaks, in bits a second, with `overhead_bytes` on every packet beside
    /// its payload. [`Mode::cost`] says where they go.
    #[must_use]
    pub fn wire_bitrate(self, overhead_bytes: u32) -> u32 {
        let mode = self.mode();
        let (source, repair) = mode.packets_per_hour();
        per_hour((source + repair) * (u64::from(mode.payload_bytes()) + u64::from(overhead_bytes)))
    }

    /// The next tier with a lower codec rate.
    #[must_use]
    pub const fn lower(self) -> Option<Self> {
        match self {
            Self::Good => Some(Self::Degraded),
            Self::Degraded => Some(Self::Catastrophic),
            Self::Catastrophic => None,
        }
    }

    /// The next tier with a higher codec rate.
    #[must_use]
    pub const fn higher(self) -> Option<Self> {
        match self {
            Self::Good => None,
            Self::Degraded => Some(Self::Good),
            Self::Catastrophic => Some(Self::Degraded),
        }
    }

    /// Its name in command lines and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Catastrophic => "catastrophic",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a packet carries beside header and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// IP and UDP headers: [`Envelope::IPV4`] or [`Envelope::IPV6`].
    pub ip_udp_bytes: u32,
    /// What the carrier adds to a datagram: [`Envelope::lane`] for lanes.
    pub carrier_bytes: u32,
    /// How often a receiver report rides along, in thousandths a second.
    pub reports_per_1000_s: u32,
}

impl Envelope {
    /// IPv4 and UDP headers.
    pub const IPV4: u32 = 28;
    /// IPv6 and UDP headers.
    pub const IPV6: u32 = 48;

    /// What a lane adds: first byte, lane id, two counter bytes, tag.
    #[must_use]
    pub const fn lane(id_bytes: u32) -> u32 {
        1 + id_bytes + 2 + 16
    }
}

/// Where the bits of one direction go while somebody speaks, in bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The codec's own.
    pub codec: u32,
    /// Repair symbols.
    pub repair: u32,
    /// Media headers, in the mix of full and mini, and receiver reports.
    pub headers: u32,
    /// End-to-end tags.
    pub tags: u32,
    /// Datagram headers (kind and sender) and the carrier.
    pub carrier: u32,
    /// IP and UDP headers.
    pub ip_udp: u32,
    /// Everything.
    pub total: u32,
    /// Packets a second, in thousandths.
    pub packets_per_1000_s: u32,
}

/// Full headers a second of either stream: one every 500 ms, those of new contexts aside.
const FULL_HEADERS_PER_HOUR: u64 = 2 * 3_600;
const REPORT_BYTES: u64 = 18;
const TAG_BYTES: u64 = 16;

impl Mode {
    /// The same mode with or without its repair packets.
    #[must_use]
    pub const fn with(mut self, repair: Repair) -> Self {
        if let Repair::Off = repair {
            self.fec = fec::Layout::NONE;
        }
        self
    }

    /// How long one packet sounds.
    #[must_use]
    pub fn packet_duration(self) -> Duration {
        self.codec.frame_duration() * u32::from(self.frames)
    }

    /// Bytes of frames in a packet, source or repair.
    #[must_use]
    pub const fn payload_bytes(self) -> u32 {
        // Frames are 20 or 40 ms, so that no rate leaves a fraction of a byte.
        self.frames as u32 * codec_bitrate(self.codec) / 8 * self.codec.frame_samples() / 48_000
    }

    /// Packets an hour: source and repair.
    const fn packets_per_hour(self) -> (u64, u64) {
        let step = self.frames as u64 * self.codec.frame_samples() as u64;
        let source = 48_000 * 3_600 / step;
        let repair = match self.fec.k {
            0 => 0,
            k => source * self.fec.r as u64 / k as u64,
        };
        (source, repair)
    }

    /// What the mode costs in `envelope`.
    #[must_use]
    pub fn cost(self, envelope: Envelope) -> Cost {
        let (source, repair) = self.packets_per_hour();
        let packets = source + repair;
        let reports = u64::from(envelope.reports_per_1000_s) * 3_600 / 1_000;
        let streams = if repair > 0 { 2 } else { 1 };
        // A packet with a report has a full header too.
        let full = streams * FULL_HEADERS_PER_HOUR + reports;
        let (full_len, mini_len) = (media::FULL_LEN as u64, media::MINI_LEN as u64);
        let headers = packets * mini_len + full * (full_len - mini_len) + reports * REPORT_BYTES;
        let payload = u64::from(self.payload_bytes());
        let carrier = Datagram::MEDIA_HEADER as u64 + u64::from(envelope.carrier_bytes);
        let mut cost = Cost {
            codec: per_hour(source * payload),
            repair: per_hour(repair * payload),
            headers: per_hour(headers),
            tags: per_hour(packets * TAG_BYTES),
            carrier: per_hour(packets * carrier),
            ip_udp: per_hour(packets * u64::from(envelope.ip_udp_bytes)),
            total: 0,
            packets_per_1000_s: u32::try_from(packets * 1_000 / 3_600).unwrap_or(u32::MAX),
        };
        cost.total = cost.codec + cost.repair + cost.headers + cost.tags + cost.carrier + cost.ip_udp;
        cost
    }
}

const fn codec_bitrate(codec: Codec) -> u32 {
    match codec {
        Codec::Opus24k => 24_000,
        Codec::Opus6k => 6_000,
        Codec::Codec2_1200 => 1_200,
    }
}

/// Bits a second of so many bytes an hour.
fn per_hour(bytes: u64) -> u32 {
    u32::try_from((bytes * 8 + 1_800) / 3_600).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE_V4: Envelope = Envelope {
        ip_udp_bytes: Envelope::IPV4,
        carrier_bytes: Envelope::lane(8),
        reports_per_1000_s: 4_000,
    };

    #[test]
    fn tiers_are_those_of_the_original() {
        let facts = Tier::ALL.map(|tier| {
            let mode = tier.mode();
            (
                tier.codec_bitrate(),
                mode.packet_duration().as_millis(),
                100 * u32::from(mode.fec.r) / u32::from(mode.fec.k),
            )
        });
        assert_eq!(facts, [(24_000, 20, 20), (6_000, 40, 50), (1_200, 40, 100)]);
        assert_eq!(Tier::ALL.map(|tier| tier.mode().payload_bytes()), [60, 30, 6]);
    }

    #[test]
    fn wire_rates_are_what_the_packets_add_up_to() {
        // 48 bytes a packet is what the figures of the original leave out: IPv4, UDP, mini header, one tag.
        assert_eq!(
            Tier::ALL.map(|tier| tier.wire_bitrate(48)),
            [51_840, 23_400, 21_600]
        );
        for tier in Tier::ALL {
            let cost = tier.mode().cost(LANE_V4);
            let per_packet = 28 + 27 + 3 + 16 + 4;
            let with_minis_only = tier.wire_bitrate(per_packet);
            // Two full headers a second and stream, four with reports of 18 bytes.
            let rest = 8 * (8 * (4 + 4) + 4 * 18);
            assert!(
                cost.total.abs_diff(with_minis_only + rest) <= 8,
                "{tier}: {cost:?} {with_minis_only}"
            );
        }
    }

    #[test]
    fn without_repair_every_lower_tier_costs_less() {
        let total = |tier: Tier, repair| tier.mode().with(repair).cost(LANE_V4).total;
        assert!(total(Tier::Good, Repair::Full) > total(Tier::Good, Repair::Off));
        assert!(total(Tier::Good, Repair::Off) > total(Tier::Degraded, Repair::Full));
        assert!(total(Tier::Degraded, Repair::Full) > total(Tier::Degraded, Repair::Off));
        assert!(total(Tier::Degraded, Repair::Off) > total(Tier::Catastrophic, Repair::Off));
        // Headers cost more than Codec2: with its repair packets the lowest tier is no cheaper than the one above.
        assert!(total(Tier::Catastrophic, Repair::Full) > total(Tier::Degraded, Repair::Full) * 9 / 10);
    }

    #[test]
    fn last_repair_leaves_within_the_jitter_buffers_reach() {
        let reach = Tier::ALL.map(|tier| {
            let mode = tier.mode();
            mode.fec.longest_repair(mode.packet_duration()).as_millis()
        });
        assert_eq!(reach, [110, 220, 310]);
    }
}
