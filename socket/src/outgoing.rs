//! The sending half of a lane together with the address it goes to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use wzp_lane::Sealer;

use crate::address::Address;

/// A lane that we send on, shared by every thread that sends on it.
pub struct Outgoing {
    /// Its keys and counter, which fill whole cache lines.
    pub sealer: Sealer,
    address: Trusted,
}

impl Outgoing {
    /// A lane whose packets go to `address`, at first that of the QUIC connection.
    pub fn new(sealer: Sealer, address: Address) -> Self {
        Self {
            sealer,
            address: Trusted::new(address),
        }
    }

    /// Where packets go now: both halves of one address, whatever another thread does meanwhile.
    pub fn address(&self) -> Address {
        self.address.load()
    }

    /// Packets go to `address` from now on. Call it only with an address that answered a PING.
    pub fn move_to(&self, address: Address) {
        self.address.store(address);
    }
}

/// An address that is read for every packet and written when its peer moves: in place and not behind a pointer,
/// which would be one more wait for main memory.
///
/// The version's lowest bit says which copy is valid. A writer fills the other one, so a reader that meets it reads
/// on undisturbed, and again only if the address has moved meanwhile.
struct Trusted {
    version: AtomicU64,
    copies: [Words; 2],
    writer: Mutex<()>,
}

/// Flags, port and scope; the remote IP; the local one.
type Words = [AtomicU64; 5];

const V4: u64 = 1;
const LOCAL: u64 = 2;
const LOCAL_V4: u64 = 4;

impl Trusted {
    fn new(address: Address) -> Self {
        let words = encode(&address);
        Self {
            version: AtomicU64::new(0),
            copies: [words.map(AtomicU64::new), words.map(AtomicU64::new)],
            writer: Mutex::default(),
        }
    }

    fn load(&self) -> Address {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let words = self
                .copy(version)
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return decode(words);
            }
        }
    }

    fn store(&self, address: Address) {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.version.load(Ordering::Relaxed) + 1;
        // Whoever sees a word of the new copy also sees that the version before this one is over.
        fence(Ordering::Release);
        for (word, value) in self.copy(next).iter().zip(encode(&address)) {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(next, Ordering::Release);
    }

    fn copy(&self, version: u64) -> &Words {
        let [even, odd] = &self.copies;
        if version & 1 == 0 { even } else { odd }
    }
}

fn encode(address: &Address) -> [u64; 5] {
    let remote = address.remote();
    let scope = match remote {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    let mut flags = if remote.is_ipv4() { V4 } else { 0 };
    let local = address.local().map_or(0, |local| {
        flags |= LOCAL | if local.is_ipv4() { LOCAL_V4 } else { 0 };
        bits(local)
    });
    let first = flags | u64::from(remote.port()) << 16 | u64::from(scope) << 32;
    let remote = bits(remote.ip());
    [
        first,
        (remote >> 64) as u64,
        remote as u64,
        (local >> 64) as u64,
        local as u64,
    ]
}

fn decode([first, remote_high, remote_low, local_high, local_low]: [u64; 5]) -> Address {
    let port = (first >> 16) as u16;
    let remote = match ip(remote_high, remote_low, first & V4 != 0) {
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, (first >> 32) as u32).into(),
    };
    let local = (first & LOCAL != 0).then(|| ip(local_high, local_low, first & LOCAL_V4 != 0));
    Address::new(remote, local)
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn ip(high: u64, low: u64, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4((low as u32).into())
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn address(remote: &str, local: Option<&str>) -> Address {
        Address::new(remote.parse().unwrap(), local.map(|local| local.parse().unwrap()))
    }

    #[test]
    fn every_kind_of_address_comes_back() {
        for address in [
            address("192.0.2.7:4433", None),
            address("192.0.2.7:1", Some("198.51.100.9")),
            address("[2001:db8::7]:65535", Some("2001:db8::9")),
            address("[fe80::7%3]:5", None),
            address("192.0.2.7:9", Some("2001:db8::9")),
        ] {
            let trusted = Trusted::new(address);
            assert_eq!(trusted.load(), address);
            trusted.store(address);
            assert_eq!(trusted.load(), address);
        }
    }

    #[test]
    fn a_reader_never_sees_half_of_a_move() {
        let here = address("192.0.2.1:1", Some("198.51.100.1"));
        let there = address("[2001:db8::2]:2", Some("2001:db8::3"));
        let (trusted, done) = (Trusted::new(here), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    trusted.store(there);
                    trusted.store(here);
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let seen = trusted.load();
                assert!(seen == here || seen == there, "{seen:?}");
            }
        });
    }
}
