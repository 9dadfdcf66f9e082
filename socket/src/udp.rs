//! One UDP socket with the options that QUIC and lanes need.

#![expect(unsafe_code, reason = "socket options and poll are system calls")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked of the kernel for each direction: ≈ 0.5 s of what one thread forwards.
pub(crate) const BUFFER_BYTES: usize = 8 << 20;

/// A non-blocking UDP socket that reports local addresses and never fragments.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    v6: bool,
    /// Bound to one address, which is then the source of everything sent.
    one_address: bool,
}

/// Whether other sockets may share the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The bind fails if anybody holds the port; those that follow may share it.
    First,
    /// Shares the port of a socket that was bound as [`Sharing::First`].
    Follower,
    /// Nobody shares the port.
    Alone,
}

impl Udp {
    /// Binds to `address`; an IPv6 socket takes IPv4 as well.
    ///
    /// # Errors
    /// Whatever the kernel says; `AddrInUse` if somebody else holds the port.
    pub(crate) fn bind(address: SocketAddr, sharing: Sharing, buffer_bytes: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A first socket with the option set would join another process of this user on the port, without an error.
        if sharing == Sharing::Follower {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        if sharing == Sharing::First {
            socket.set_reuse_port(true)?;
        }
        Self::from_std(socket.into(), buffer_bytes)
    }

    /// Binds a socket that shares its port with nobody.
    ///
    /// # Errors
    /// Whatever the kernel says; `AddrInUse` if somebody else holds the port.
    pub fn bind_alone(address: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        Self::bind(address, Sharing::Alone, buffer_bytes)
    }

    /// Binds a dual-stack socket to a random port, or an IPv4 one where IPv6 is missing.
    pub(crate) fn bind_any(buffer_bytes: usize) -> io::Result<Self> {
        let v6 = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        Self::bind(v6, Sharing::Alone, buffer_bytes)
            .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, 0).into(), Sharing::Alone, buffer_bytes))
    }

    fn from_std(socket: UdpSocket, buffer_bytes: usize) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        let udp = Self {
            socket,
            v6: bound.is_ipv6(),
            one_address: !bound.ip().is_unspecified(),
        };
        udp.set_options()?;
        udp.grow_buffers(buffer_bytes);
        Ok(udp)
    }

    fn set_options(&self) -> io::Result<()> {
        // A dual-stack socket obeys the IPv4 options for IPv4-mapped peers, so those are always set.
        self.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        self.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        if self.v6 {
            self.set(
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            )?;
            self.set(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            self.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        } else {
            self.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        self.set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
    }

    /// Asks past the system's limit first, which needs a capability, then within it.
    fn grow_buffers(&self, bytes: usize) {
        let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        for (force, plain, direction) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, "receive"),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, "send"),
        ] {
            if self.set(libc::SOL_SOCKET, force, wanted).is_ok() {
                continue;
            }
            let result = self.set(libc::SOL_SOCKET, plain, wanted);
            // The kernel doubles what it is asked for.
            let granted = self.option(plain).map_or(0, |doubled| doubled / 2);
            if result.is_err() || granted < wanted {
                tracing::warn!(
                    direction,
                    granted_bytes = granted,
                    wanted_bytes = wanted,
                    "socket buffer is clamped"
                );
            }
        }
    }

    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the descriptor is open while `self` lives, and the pointer and length describe one `c_int`.
        let result = unsafe {
            libc::setsockopt(
                self.fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as _,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn option(&self, name: libc::c_int) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open while `self` lives, and the pointers describe one writable `c_int`.
        let result = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                name,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        if result == 0 {
            Ok(value)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether the socket speaks IPv6 (and IPv4 in its mapped form).
    pub(crate) fn is_v6(&self) -> bool {
        self.v6
    }

    /// Whether it has one address only, so that none need be named as the source.
    pub(crate) fn has_one_address(&self) -> bool {
        self.one_address
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// A second handle to the same socket.
    pub(crate) fn try_clone_std(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Waits until there is something to read, or `timeout` is over.
    pub fn wait(&self, timeout: Duration) {
        let mut readable = libc::pollfd {
            fd: self.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: `readable` outlives the call, which is told of one; an interrupted call is a wake-up like any other.
        unsafe { libc::poll(&raw mut readable, 1, millis) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_fragments_in_either_family() {
        let udp = Udp::bind_any(1 << 16).unwrap();
        let mut value: libc::c_int = -1;
        let mut len = 4;
        // SAFETY: the pointers describe one writable `c_int`.
        unsafe {
            libc::getsockopt(
                udp.fd(),
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        assert_eq!(value, libc::IP_PMTUDISC_PROBE);
    }

    #[test]
    fn a_second_first_socket_on_the_port_is_refused() {
        let first = Udp::bind("127.0.0.1:0".parse().unwrap(), Sharing::First, 1 << 16).unwrap();
        let address = first.local_addr().unwrap();
        let error = Udp::bind(address, Sharing::First, 1 << 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        Udp::bind(address, Sharing::Follower, 1 << 16).unwrap();
    }
}
