//! PING and PONG: path check, RTT, keepalive, counter confirmation, reflect, probe and punch packet in one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BufferTooSmall, DatagramError, KIND_PING, KIND_PONG};

/// Length of a PING that is not padded further: no shorter than its PONG, so that nothing is amplified.
pub const PING_LEN: usize = 48;
/// Length of a PONG.
pub const PONG_LEN: usize = 44;
/// Longest PING to an address that a peer only named: whoever lives there never asked for it.
pub const MAX_UNPROVEN: usize = 64;
const _: () = assert!(PONG_LEN <= PING_LEN && PING_LEN <= MAX_UNPROVEN);

const FLAG_PROBE: u8 = 1;
/// Kind, nonce, flags and time of sending, which PING and PONG have in common.
const FRONT_LEN: usize = 14;

/// Asks for a [`Pong`] over the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Unpredictable; its return proves the address.
    pub nonce: [u8; 8],
    /// Never moves the address of a lane (candidates in a race, MTU).
    pub probe: bool,
    /// The sender's clock in microseconds, wrapping; only it can read it.
    pub sent_us: u32,
}

/// The answer to a [`Ping`], to the address it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// That of the PING.
    pub nonce: [u8; 8],
    /// That of the PING.
    pub probe: bool,
    /// That of the PING.
    pub sent_us: u32,
    /// From receiving the PING to sending this, to be taken off the round trip.
    pub hold_us: u32,
    /// The lane counter of the packet that carried the PING (0 on other carriers), below 2^62.
    pub confirmed: u64,
    /// Where the PING came from, IPv4 never written as IPv6.
    pub observed: SocketAddr,
}

impl Ping {
    pub(super) fn decode(body: &[u8]) -> Result<Self, DatagramError> {
        let ((nonce, probe, sent_us), padding) = decode_front(body)?;
        if padding.len() < PING_LEN - FRONT_LEN {
            return Err(DatagramError::Truncated);
        }
        if padding.iter().any(|&byte| byte != 0) {
            return Err(DatagramError::Reserved);
        }
        Ok(Self {
            nonce,
            probe,
            sent_us,
        })
    }

    /// Writes it padded with zeros to `len` bytes ([`PING_LEN`] if that is more), for finding the path MTU.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn encode_padded(&self, out: &mut [u8], len: usize) -> Result<usize, BufferTooSmall> {
        let out = out.get_mut(..len.max(PING_LEN)).ok_or(BufferTooSmall)?;
        let (front, padding) = out.split_first_chunk_mut().ok_or(BufferTooSmall)?;
        *front = encode_front(KIND_PING, self.nonce, self.probe, self.sent_us);
        padding.fill(0);
        Ok(FRONT_LEN + padding.len())
    }
}

impl Pong {
    /// The answer to `ping`.
    pub fn answer(ping: &Ping, hold_us: u32, confirmed: u64, observed: SocketAddr) -> Self {
        let Ping {
            nonce,
            probe,
            sent_us,
        } = *ping;
        let observed = SocketAddr::new(observed.ip().to_canonical(), observed.port());
        Self {
            nonce,
            probe,
            sent_us,
            hold_us,
            confirmed,
            observed,
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, DatagramError> {
        let ((nonce, probe, sent_us), rest) = decode_front(body)?;
        let (&hold, rest) = rest.split_first_chunk().ok_or(DatagramError::Truncated)?;
        let (&confirmed, rest) = rest.split_first_chunk().ok_or(DatagramError::Truncated)?;
        let (&ip, rest) = rest.split_first_chunk::<16>().ok_or(DatagramError::Truncated)?;
        let (&port, rest) = rest.split_first_chunk().ok_or(DatagramError::Truncated)?;
        if !rest.is_empty() {
            return Err(DatagramError::Trailing);
        }
        let confirmed = u64::from_be_bytes(confirmed);
        if confirmed >> 62 != 0 {
            return Err(DatagramError::Reserved);
        }
        let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
        let observed = SocketAddr::new(ip, u16::from_be_bytes(port));
        Ok(Self {
            nonce,
            probe,
            sent_us,
            hold_us: u32::from_be_bytes(hold),
            confirmed,
            observed,
        })
    }

    pub(super) fn encode(&self, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let out = out.first_chunk_mut::<PONG_LEN>().ok_or(BufferTooSmall)?;
        let ip = match self.observed.ip() {
            IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip),
            IpAddr::V6(ip) => ip,
        };
        let (front, rest) = out.split_at_mut(FRONT_LEN);
        front.copy_from_slice(&encode_front(KIND_PONG, self.nonce, self.probe, self.sent_us));
        let (hold, rest) = rest.split_at_mut(4);
        hold.copy_from_slice(&self.hold_us.to_be_bytes());
        let (confirmed, rest) = rest.split_at_mut(8);
        confirmed.copy_from_slice(&(self.confirmed & (u64::MAX >> 2)).to_be_bytes());
        let (address, port) = rest.split_at_mut(16);
        address.copy_from_slice(&ip.octets());
        port.copy_from_slice(&self.observed.port().to_be_bytes());
        Ok(PONG_LEN)
    }
}

type Front = ([u8; 8], bool, u32);

fn decode_front(body: &[u8]) -> Result<(Front, &[u8]), DatagramError> {
    let (&nonce, rest) = body.split_first_chunk().ok_or(DatagramError::Truncated)?;
    let (&[flags], rest) = rest.split_first_chunk().ok_or(DatagramError::Truncated)?;
    let (&sent, rest) = rest.split_first_chunk().ok_or(DatagramError::Truncated)?;
    if flags & !FLAG_PROBE != 0 {
        return Err(DatagramError::Reserved);
    }
    Ok(((nonce, flags == FLAG_PROBE, u32::from_be_bytes(sent)), rest))
}

fn encode_front(kind: u8, nonce: [u8; 8], probe: bool, sent_us: u32) -> [u8; FRONT_LEN] {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = nonce;
    let [s0, s1, s2, s3] = sent_us.to_be_bytes();
    [
        kind,
        n0,
        n1,
        n2,
        n3,
        n4,
        n5,
        n6,
        n7,
        u8::from(probe),
        s0,
        s1,
        s2,
        s3,
    ]
}
