//! A peer's address, in one form only.

use std::net::{IpAddr, SocketAddr};

/// Where a peer is, and which of our own addresses it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    remote: SocketAddr,
    local: Option<IpAddr>,
}

impl Address {
    /// Makes IPv4-mapped addresses canonical and forgets the flow label.
    ///
    /// `local` is the address that the packet was sent to, `None` where the socket does not tell.
    pub fn new(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        let mut remote = remote;
        remote.set_ip(remote.ip().to_canonical());
        if let SocketAddr::V6(v6) = &mut remote {
            v6.set_flowinfo(0);
        }
        Self {
            remote,
            local: local.map(|ip| ip.to_canonical()),
        }
    }

    /// The peer's own address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Our address that it reaches: the source of what we send to it.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }
}

/// Whether PINGs may be shot at an address that a peer named: never multicast, broadcast, unspecified or loopback.
pub fn may_probe(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let forbidden = match ip {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets().first() == Some(&0),
        IpAddr::V6(_) => false,
    };
    address.port() != 0 && !forbidden && !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_and_flow_labels_make_no_difference() {
        let mapped = Address::new(
            "[::ffff:192.0.2.1]:9".parse().unwrap(),
            Some("::ffff:192.0.2.7".parse().unwrap()),
        );
        let plain = Address::new("192.0.2.1:9".parse().unwrap(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(mapped, plain);

        let SocketAddr::V6(mut v6) = "[2001:db8::1]:9".parse().unwrap() else {
            panic!("an IPv6 address")
        };
        let without = Address::new(v6.into(), None);
        v6.set_flowinfo(0xbeef);
        assert_eq!(Address::new(v6.into(), None), without);
    }

    #[test]
    fn the_local_address_is_part_of_the_address() {
        let remote = "192.0.2.1:9".parse().unwrap();
        assert_ne!(
            Address::new(remote, None),
            Address::new(remote, Some("192.0.2.7".parse().unwrap()))
        );
    }

    #[test]
    fn nobody_makes_us_shoot_at_groups_or_ourselves() {
        for refused in [
            "224.0.0.1:1",
            "255.255.255.255:1",
            "0.0.0.0:1",
            "127.0.0.1:1",
            "[::]:1",
            "[::1]:1",
            "[ff02::1]:1",
            "[::ffff:127.0.0.1]:1",
            "192.0.2.1:0",
        ] {
            assert!(!may_probe(refused.parse().unwrap()), "{refused}");
        }
        assert!(may_probe("192.168.1.7:4433".parse().unwrap()));
        assert!(may_probe("[2001:db8::1]:4433".parse().unwrap()));
    }
}
