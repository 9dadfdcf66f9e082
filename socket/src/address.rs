//! Where a packet goes, or came from: the remote address and the local one it was reached at.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A remote address together with the local one it was reached at.
///
/// Always canonical: an IPv4-mapped IPv6 address is the IPv4 address, and a flow label is 0, so two of them are
/// equal exactly if they are the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    remote: SocketAddr,
    local: Option<IpAddr>,
}

impl Address {
    /// Makes both addresses canonical.
    pub fn new(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        Self {
            remote: canonical(remote),
            local: local.map(|ip| ip.to_canonical()),
        }
    }

    /// The other end.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Our end: packets to [`remote`](Self::remote) leave from it, or NATs and firewalls drop the answer.
    ///
    /// `None` leaves the choice to the routing table.
    pub const fn local(&self) -> Option<IpAddr> {
        self.local
    }
}

impl From<SocketAddr> for Address {
    fn from(remote: SocketAddr) -> Self {
        Self::new(remote, None)
    }
}

/// The one spelling of `address` that is compared and shown: no IPv4-mapped form, no flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// The spelling that a socket of this family understands.
pub(crate) fn for_family(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddrV6::new(mapped(*v4.ip()), v4.port(), 0, 0).into(),
        _ => address,
    }
}

fn mapped(ip: std::net::Ipv4Addr) -> Ipv6Addr {
    ip.to_ipv6_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_flow_labelled_spellings_are_the_same_address() {
        let plain: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(Address::from(plain), Address::from(mapped));
        assert_eq!(for_family(plain, true), mapped);
        let flow = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 5, 7, 0);
        assert_eq!(
            Address::from(SocketAddr::from(flow)),
            Address::from("[2001:db8::1]:5".parse::<SocketAddr>().unwrap())
        );
    }

    #[test]
    fn local_address_is_part_of_the_path() {
        let remote: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let local: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
        let address = Address::new(remote, Some(local));
        assert_eq!(address.local(), Some("192.0.2.9".parse().unwrap()));
        assert_ne!(address, Address::from(remote));
    }
}
