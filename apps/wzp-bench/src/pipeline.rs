//! Both ends of a call without sockets: sound in, sealed packets, sound out.

use std::time::Duration;

use anyhow::Context;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use wzp_identity::{Identity, Phrase};
use wzp_sdk::codec::Library;
use wzp_sdk_core::e2ee::{Group, OVERHEAD};
use wzp_sdk_core::voice::jitter;
use wzp_sdk_core::voice::mode::{Envelope, Tier};
use wzp_sdk_core::voice::receiver::{Playout, Receiver, Stats};
use wzp_sdk_core::voice::sender::{MAX_PAYLOAD_BYTES, Pauses, Sender};
use wzp_wire::{Datagram, Instant, RoomName, SenderId};

use crate::speech::BLOCK;

/// Lane ids that relays give out.
const LANE_ID_BYTES: u32 = 8;
/// What a sealed packet becomes on the wire: datagram header, lane, UDP and IPv4.
pub(crate) const ENVELOPE: usize =
    Datagram::MEDIA_HEADER + (Envelope::lane(LANE_ID_BYTES) + Envelope::IPV4) as usize;
/// The longest sealed packet.
pub(crate) const LONGEST: usize = MAX_PAYLOAD_BYTES + OVERHEAD;

/// The speaking end.
pub(crate) struct Speaker {
    sender: Sender<Library>,
    group: Group,
    payload: [u8; MAX_PAYLOAD_BYTES],
}

impl Speaker {
    /// Takes 10 ms of sound.
    pub(crate) fn push(&mut self, pcm: &[f32; BLOCK], speech: f32) -> anyhow::Result<()> {
        self.sender.push(pcm, speech).context("coding a frame")
    }

    /// Writes the next sealed packet.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut [u8; LONGEST]) -> anyhow::Result<Option<usize>> {
        let Some((mut header, len)) = self.sender.poll_packet(&mut self.payload) else {
            return Ok(None);
        };
        let payload = self.payload.get(..len).context("reading a payload")?;
        let len = self
            .group
            .seal(now, &mut header, payload, out)
            .context("sealing a packet")?;
        Ok(Some(len))
    }
}

/// The listening end.
pub(crate) struct Listener {
    receiver: Receiver<Library>,
    group: Group,
    from: SenderId,
}

impl Listener {
    /// Opens a packet and hands it to the jitter buffer.
    pub(crate) fn handle(&mut self, now: Instant, packet: &mut [u8]) {
        // A mini header whose full one was lost cannot be opened: one more that the jitter buffer misses.
        if let Ok(opened) = self.group.open(now, self.from, packet) {
            self.receiver
                .handle_packet(now, &opened.header, opened.counter, opened.payload);
        }
    }

    /// The next 10 ms of sound.
    pub(crate) fn pull(&mut self, now: Instant, out: &mut [f32; BLOCK]) -> Playout {
        self.receiver.pull(now, out)
    }

    /// Figures since the start.
    pub(crate) fn stats(&self) -> Stats {
        self.receiver.stats()
    }
}

/// A room of two who have each other's keys.
///
/// # Errors
/// When the codec library refuses.
pub(crate) fn pair(tier: Tier, pauses: Pauses, now: Instant) -> anyhow::Result<(Speaker, Listener)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let room = RoomName::parse("bench").context("naming a room")?;
    let mut group = |seed: u8| {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[seed; 32]));
        Group::new(&identity, &room, &mut rng)
    };
    let (mut speaking, mut listening) = (group(1), group(2));
    let from = SenderId::new(1).context("numbering the speaker")?;
    let to = SenderId::new(2).context("numbering the listener")?;
    let announcement = speaking.announcement().to_vec();
    listening.handle_joined(now, to, &[(from, &announcement)]);
    speaking.handle_joined(now, from, &[]);
    speaking.handle_member_joined(now, to, listening.announcement());
    // A key and its acknowledgement, whoever begins.
    for _ in 0..4 {
        while let Some((_, message)) = speaking.poll_transmit() {
            listening.handle_message(now, from, &message);
        }
        while let Some((_, message)) = listening.poll_transmit() {
            speaking.handle_message(now, to, &message);
        }
    }
    let speaker = Speaker {
        sender: Sender::new(Library, tier, pauses, 0).context("making an encoder")?,
        group: speaking,
        payload: [0; MAX_PAYLOAD_BYTES],
    };
    let listener = Listener {
        receiver: Receiver::new(from, Library, jitter::Config::default()),
        group: listening,
        from,
    };
    Ok((speaker, listener))
}

/// What 10 ms are.
pub(crate) const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_opened_and_heard() {
        let mut now = Instant::from_micros(1_000_000);
        let (mut speaker, mut listener) = pair(Tier::Good, Pauses::Send, now).unwrap();
        let (mut packet, mut heard) = ([0; LONGEST], [0.0; BLOCK]);
        let mut energy = 0.0;
        for tick in 0..200_u32 {
            let tone = std::array::from_fn(|i| {
                let at = (tick * BLOCK as u32 + i as u32) as f32;
                (at * 0.026).sin() * 0.3
            });
            speaker.push(&tone, 1.0).unwrap();
            while let Some(len) = speaker.poll(now, &mut packet).unwrap() {
                listener.handle(now, &mut packet[..len]);
            }
            listener.pull(now, &mut heard);
            if tick > 100 {
                energy += heard.iter().map(|s| s * s).sum::<f32>();
            }
            now += TICK;
        }
        assert_eq!(listener.stats().lost, 0);
        assert!(energy > 500.0, "{energy}");
    }
}
