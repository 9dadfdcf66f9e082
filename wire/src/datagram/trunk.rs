//! Trunks: packets of several senders in one datagram, between relays or to one busy receiver.

use super::{BufferTooSmall, DatagramError, KIND_TRUNK};

/// Kind and count.
const FRONT_LEN: usize = 2;
/// Sender and length.
const ENTRY_LEN: usize = 4;

/// The packets of a TRUNK datagram, whose lengths were checked when it was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk<'a> {
    count: u8,
    entries: &'a [u8],
}

impl<'a> Trunk<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DatagramError> {
        let (&count, entries) = body.split_first().ok_or(DatagramError::Truncated)?;
        if count == 0 {
            return Err(DatagramError::Reserved);
        }
        let mut rest = entries;
        for _ in 0..count {
            let (_, packet, behind) = split_entry(rest).ok_or(DatagramError::Truncated)?;
            if packet.is_empty() {
                return Err(DatagramError::Reserved);
            }
            rest = behind;
        }
        if rest.is_empty() {
            Ok(Self { count, entries })
        } else {
            Err(DatagramError::Trailing)
        }
    }

    pub(super) fn encode(&self, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let len = FRONT_LEN + self.entries.len();
        let out = out.get_mut(..len).ok_or(BufferTooSmall)?;
        let (front, rest) = out.split_first_chunk_mut::<FRONT_LEN>().ok_or(BufferTooSmall)?;
        *front = [KIND_TRUNK, self.count];
        rest.copy_from_slice(self.entries);
        Ok(len)
    }

    /// The packets, each with its raw sender id or, between relays, its handle.
    pub fn iter(&self) -> TrunkIter<'a> {
        TrunkIter { rest: self.entries }
    }

    /// How many packets there are, at least 1.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }
}

impl<'a> IntoIterator for Trunk<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = TrunkIter<'a>;

    fn into_iter(self) -> TrunkIter<'a> {
        self.iter()
    }
}

/// See [`Trunk::iter`].
#[derive(Clone, Debug)]
pub struct TrunkIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TrunkIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (sender, packet, rest) = split_entry(self.rest)?;
        self.rest = rest;
        Some((sender, packet))
    }
}

fn split_entry(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&sender, rest) = bytes.split_first_chunk()?;
    let (&len, rest) = rest.split_first_chunk()?;
    let (packet, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
    Some((u16::from_be_bytes(sender), packet, rest))
}

/// Fills a buffer with a TRUNK datagram.
#[derive(Debug)]
pub struct TrunkWriter<'a> {
    out: &'a mut [u8],
    count: u8,
    len: usize,
}

impl<'a> TrunkWriter<'a> {
    /// What each packet costs besides itself.
    pub const ENTRY_OVERHEAD: usize = ENTRY_LEN;
    /// What the datagram costs besides its entries.
    pub const OVERHEAD: usize = FRONT_LEN;

    /// An empty trunk in `out`, which is as long as the datagram may become.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            count: 0,
            len: FRONT_LEN,
        }
    }

    /// Adds a packet; `false`, and nothing changed, when there is no room for it (or it is empty).
    pub fn push(&mut self, sender: u16, packet: &[u8]) -> bool {
        let Ok(packet_len) = u16::try_from(packet.len()) else {
            return false;
        };
        let Some(count) = self.count.checked_add(1) else {
            return false;
        };
        let end = self.len + ENTRY_LEN + packet.len();
        let Some(room) = self.out.get_mut(self.len..end) else {
            return false;
        };
        if packet.is_empty() {
            return false;
        }
        let (front, body) = room.split_at_mut(ENTRY_LEN);
        let ([s0, s1], [l0, l1]) = (sender.to_be_bytes(), packet_len.to_be_bytes());
        front.copy_from_slice(&[s0, s1, l0, l1]);
        body.copy_from_slice(packet);
        (self.count, self.len) = (count, end);
        true
    }

    /// Nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Completes the datagram and returns its length; `None` when nothing was added.
    pub fn finish(self) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        *self.out.first_chunk_mut::<FRONT_LEN>()? = [KIND_TRUNK, self.count];
        Some(self.len)
    }
}
