//! What the tests of this crate build their worlds from.

use std::time::Duration;

use rand_core::{TryRng, utils};
use wzp_wire::{Instant, RelayId, RoomName};

use crate::relay::{Address, AddressSource, BootId, Capacity, Hello, Place, Probe};

/// Chance by a seed.
pub(crate) struct Seed(pub(crate) u64);

impl TryRng for Seed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Ok(z ^ z >> 31)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        utils::fill_bytes_via_next_word(out, || self.try_next_u64())
    }
}

pub(crate) fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn id(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// `region/zone/node`, the last ones optional.
pub(crate) fn located(path: &str) -> Place {
    let mut parts = path.split('/').map(Box::from);
    let mut part = || parts.next().unwrap_or_default();
    Place {
        region: part(),
        zone: part(),
        node: part(),
    }
}

pub(crate) fn probe(to: &str, rtt_ms: u64) -> Probe {
    Probe {
        relay: id(to),
        unreachable: false,
        rtt: ms(rtt_ms),
        jitter: Duration::ZERO,
        loss_permille: 0,
        age: Duration::ZERO,
    }
}

pub(crate) fn hello(name: &str, boot: u8) -> Hello {
    Hello {
        relay: id(name),
        boot: BootId([boot; 8]),
        place: located(""),
        addresses: vec![Address {
            socket: "192.0.2.1:4433".parse().unwrap(),
            source: AddressSource::Explicit,
        }],
        version: "0.1.0".into(),
        protocol: 1..=1,
        capacity: Capacity::default(),
        certificates: vec![[boot; 32]],
        draining: false,
        unix_ms: 0,
        metrics_address: Box::default(),
    }
}
