//! Addresses in the one spelling that is compared and shown, and in the one that a socket understands.

use std::net::{SocketAddr, SocketAddrV6};

pub use wzp_lane::path::Address;

/// `address` without an IPv4-mapped form or a flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    Address::new(address, None).remote()
}

/// The spelling that a socket of this family understands.
pub(crate) fn for_family(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_lead_to_each_other() {
        let plain: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(for_family(plain, true), mapped);
        assert_eq!(for_family(plain, false), plain);
        assert_eq!(canonical(mapped), plain);
        let flow = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 5, 7, 0);
        assert_eq!(canonical(flow.into()), "[2001:db8::1]:5".parse().unwrap());
    }
}
