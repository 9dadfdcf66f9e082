//! A member as far as its packets go: on a lane, or with nothing around them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wzp_lane::Sealer;
use wzp_socket::send::Extras;
use wzp_socket::udp::Udp;
use wzp_socket::{Address, clock};
use wzp_wire::datagram::{PING_LEN, PONG_LEN};
use wzp_wire::{Datagram, Ping, Pong, SenderId};

use super::members::{Ends, LANE_ID_BYTES};
use super::packet;

/// Room for every packet that a member sends.
const LONGEST: usize = 256;
/// First byte, id, counter, tag.
const LANE_OVERHEAD: usize = 1 + LANE_ID_BYTES + 2 + 16;
/// What media is on the way to a member; nothing else has its length, so that the rest can be told without opening.
const MEDIA_ON_LANE: usize = packet::DATAGRAM + LANE_OVERHEAD;

/// One member at one address.
pub(super) struct Seat {
    pub(super) udp: Arc<Udp>,
    /// Where the member is.
    pub(super) at: SocketAddr,
    pub(super) voice: Voice,
}

/// What is around a member's packets.
pub(super) enum Voice {
    /// A lane.
    Lane(Arc<Ends>, SenderId),
    /// The member's number in front, for the forwarder without crypto.
    Raw(u32),
}

impl Seat {
    /// Says something. `false` if it could not leave.
    pub(super) fn talk(&self, to: SocketAddr) -> bool {
        match &self.voice {
            Voice::Lane(ends, sender) => {
                if ends.sealer.ping_due(clock::now()) {
                    self.ping(to, &ends.sealer);
                }
                self.seal(to, &ends.sealer, &packet::datagram(*sender))
            }
            Voice::Raw(number) => {
                let mut bytes = [0; MEDIA_ON_LANE];
                let Some(sender) = SenderId::new(1) else {
                    return false;
                };
                let (head, body) = bytes.split_at_mut(MEDIA_ON_LANE - packet::DATAGRAM);
                body.copy_from_slice(&packet::datagram(sender));
                if let Some(head) = head.first_chunk_mut() {
                    *head = number.to_be_bytes();
                }
                self.send(to, &bytes)
            }
        }
    }

    /// Shows a relay where the member is.
    pub(super) fn show(&self, to: SocketAddr) {
        if let Voice::Lane(ends, _) = &self.voice {
            self.ping(to, &ends.sealer);
        }
    }

    /// Takes a packet that was sent to this member: opens it unless it is media and nobody wants to see it. Media
    /// comes back with its age if `look`.
    pub(super) fn hear(&self, from: SocketAddr, bytes: &mut [u8], look: Look) -> Heard {
        let Voice::Lane(ends, _) = &self.voice else {
            let body = bytes.get(MEDIA_ON_LANE - packet::DATAGRAM..).unwrap_or_default();
            return Heard::Media(packet::age_us(body));
        };
        if bytes.len() == MEDIA_ON_LANE && look == Look::Count {
            return Heard::Media(None);
        }
        let Ok(opened) = ends.opener.open(bytes) else {
            return Heard::Nothing;
        };
        let datagram = bytes.get(opened.range).unwrap_or_default();
        match Datagram::decode(datagram) {
            Ok(Datagram::Media { .. }) => Heard::Media(packet::age_us(datagram)),
            Ok(Datagram::Ping(ping)) => {
                let mut pong = [0; PONG_LEN];
                let answer = Pong::answer(&ping, 0, opened.counter, from);
                if let Ok(len) = Datagram::Pong(answer).encode(&mut pong) {
                    self.seal(from, &ends.sealer, pong.get(..len).unwrap_or_default());
                }
                if ping.probe { Heard::Probe } else { Heard::Nothing }
            }
            Ok(Datagram::Pong(pong)) => {
                ends.sealer.confirm(pong.confirmed);
                Heard::Nothing
            }
            _ => Heard::Nothing,
        }
    }

    fn ping(&self, to: SocketAddr, sealer: &Sealer) {
        let now = clock::now();
        let ping = Ping {
            nonce: now.as_micros().to_be_bytes(),
            probe: false,
            sent_us: 0,
        };
        let mut bytes = [0; PING_LEN];
        let mut out = [0; LONGEST];
        if Datagram::Ping(ping).encode(&mut bytes).is_ok()
            && place(sealer, &bytes, &mut out)
            && let Ok((len, _)) = sealer.seal_ping(now, &mut out, PING_LEN, false)
        {
            self.send(to, out.get(..len).unwrap_or_default());
        }
    }

    fn seal(&self, to: SocketAddr, sealer: &Sealer, datagram: &[u8]) -> bool {
        let mut out = [0; LONGEST];
        place(sealer, datagram, &mut out)
            && sealer
                .seal(&mut out, datagram.len(), false)
                .is_ok_and(|len| self.send(to, out.get(..len).unwrap_or_default()))
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        // Each member speaks from its own address.
        let path = Address::new(to, Some(self.at.ip()).filter(IpAddr::is_ipv4));
        self.udp.send(&path, Extras::default(), bytes).is_ok()
    }
}

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Media, and how long it was under way if that was looked at.
    Media(Option<u32>),
    /// The relay wants the member's address proven, and got its proof.
    Probe,
    Nothing,
}

/// Whether media is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Count,
    Open,
}

fn place(sealer: &Sealer, datagram: &[u8], out: &mut [u8]) -> bool {
    let from = sealer.header_len();
    match out.get_mut(from..from + datagram.len()) {
        Some(room) => {
            room.copy_from_slice(datagram);
            true
        }
        None => false,
    }
}
