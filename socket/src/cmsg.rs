//! Socket addresses and control messages in the kernel's layout.

#![expect(
    unsafe_code,
    reason = "the CMSG macros walk raw memory that the kernel shares"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::address::for_family;

/// Room for the control messages of one datagram: packet info, traffic class, hop limit, drop count.
const CONTROL_BYTES: usize = 128;

/// Memory for control messages, aligned as `cmsghdr` wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL_BYTES]);

impl Control {
    pub(crate) const EMPTY: Self = Self([0; CONTROL_BYTES]);
    pub(crate) const LEN: usize = CONTROL_BYTES;

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// A socket address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    family: libc::sa_family_t,
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
}

impl Name {
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; size_of::<libc::sockaddr_in6>()],
    };
    pub(crate) const LEN: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

    /// `address` in the kernel's layout, and how many bytes of it count.
    pub(crate) fn encode(address: SocketAddr, v6_socket: bool) -> (Self, libc::socklen_t) {
        let mut name = Self::EMPTY;
        match for_family(address, v6_socket) {
            SocketAddr::V4(v4) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: in_addr(*v4.ip()),
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                (name, Self::LEN)
            }
        }
    }

    /// The address that the kernel wrote, `None` if it is of another family.
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: all bytes of the union are initialised, and any bytes are valid for each of its plain fields.
        match libc::c_int::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: as above.
                let v4 = unsafe { self.v4 };
                Some(
                    (
                        Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()),
                        u16::from_be(v4.sin_port),
                    )
                        .into(),
                )
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(ip.octets()),
    }
}

/// What an outgoing datagram asks of the kernel besides its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// TTL or hop limit of this one packet; the system's default if `None`.
    pub ttl: Option<u8>,
    /// The two ECN bits; 0 is Not-ECT, as lanes are.
    pub ecn: u8,
}

/// What the kernel says about a received datagram.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: u8,
    pub(crate) kernel_dropped: Option<u32>,
}

/// Writes the control messages for one datagram, from `source` where that must be said, and returns how many bytes
/// they take.
pub(crate) fn write(control: &mut Control, to: SocketAddr, source: Option<IpAddr>, extras: Extras) -> usize {
    let v4 = to.is_ipv4();
    let mut writer = Writer { control, used: 0 };
    match source {
        Some(IpAddr::V4(ip)) if v4 => writer.push(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(ip),
                ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
            },
        ),
        Some(IpAddr::V6(ip)) if !v4 => writer.push(
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: 0,
            },
        ),
        _ => {}
    }
    // The kernel ignores the IPv6 options for IPv4-mapped peers, whatever the family of the socket.
    let (level, ttl, class) = if v4 {
        (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
    };
    if let Some(hops) = extras.ttl {
        writer.push(level, ttl, libc::c_int::from(hops.max(1)));
    }
    if extras.ecn & 3 != 0 {
        writer.push(level, class, libc::c_int::from(extras.ecn & 3));
    }
    writer.used
}

struct Writer<'a> {
    control: &'a mut Control,
    used: usize,
}

impl Writer<'_> {
    fn push<V: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: V) {
        let len = size_of::<V>() as libc::c_uint;
        // SAFETY: both macros only compute.
        let (space, header_len) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len) as usize) };
        let Some(room) = self.control.0.get_mut(self.used..self.used + space) else {
            return;
        };
        room.fill(0);
        let header = room.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: `room` has CMSG_SPACE bytes, and starts at a multiple of CMSG_ALIGN behind an 8-aligned start, so
        // header and data lie inside it; the data is written without assuming its alignment.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = header_len as _;
            libc::CMSG_DATA(header).cast::<V>().write_unaligned(value);
        }
        self.used += space;
    }
}

/// Reads what the kernel wrote for one datagram.
///
/// # Safety
/// `message` must be as recvmsg filled it in, its control memory alive and not written to.
pub(crate) unsafe fn read(message: &libc::msghdr) -> Received {
    let mut received = Received::default();
    // SAFETY: the caller vouches for `message`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the macros return null or a header that lies inside the control memory.
    while let Some(header) = unsafe { next.as_ref() } {
        // SAFETY: the kernel wrote a whole message of this level and type.
        unsafe { read_one(header, &mut received) };
        // SAFETY: as for CMSG_FIRSTHDR.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    received
}

/// # Safety
/// `header` must be followed by the data that the kernel writes for its level and type.
unsafe fn read_one(header: &libc::cmsghdr, received: &mut Received) {
    // SAFETY: only computes, from a valid header.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: in each arm the kernel wrote a value of the named type; reads do not assume its alignment.
    unsafe {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                received.local = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                received.local = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => received.ecn = data.read() & 3,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                received.ecn = (data.cast::<libc::c_int>().read_unaligned() & 3) as u8;
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                received.kernel_dropped = Some(data.cast::<u32>().read_unaligned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_both_families() {
        for text in ["192.0.2.7:4433", "[2001:db8::7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let (name, _) = Name::encode(address, address.is_ipv6());
            assert_eq!(name.decode(), Some(address));
        }
        let (mapped, len) = Name::encode("192.0.2.7:4433".parse().unwrap(), true);
        assert_eq!(len, Name::LEN);
        assert_eq!(mapped.decode(), Some("[::ffff:192.0.2.7]:4433".parse().unwrap()));
    }

    #[test]
    fn written_control_messages_are_found_again() {
        let mut control = Control::EMPTY;
        let source = "2001:db8::2".parse().ok();
        let extras = Extras { ttl: Some(3), ecn: 2 };
        let used = write(&mut control, "[2001:db8::1]:1".parse().unwrap(), source, extras);
        // SAFETY: all zeroes is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.as_mut_ptr();
        message.msg_controllen = used as _;
        // SAFETY: `control` holds `used` bytes of whole control messages.
        let received = unsafe { read(&message) };
        assert_eq!(received.local, source);
        assert_eq!(received.ecn, 2);
    }
}
