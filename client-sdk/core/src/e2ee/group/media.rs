//! Packets: sealing our own, opening those of others.

use wzp_wire::{Header, Instant, SenderId};

use super::{
    super::{
        event::{OpenError, Opened, SealError},
        opener::{Found, Opener},
    },
    Group,
};

impl Group {
    /// Seals a packet: `out` = header ‖ ciphertext ‖ tag, and its length comes back.
    ///
    /// `seq`, `epoch` and `context` of the header are filled in; its kind decides the stream. Allocates nothing
    /// but when somebody has to be given the key first.
    ///
    /// # Errors
    /// See [`SealError`]; no counter is ever used twice, whatever happens.
    pub fn seal(
        &mut self,
        now: Instant,
        header: &mut Header,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        self.switch(now);
        if self.undelivered {
            self.hand_out(now);
        }
        self.sealed_at = Some(now);
        self.sealer.seal(now, header, payload, out)
    }

    /// Opens a packet in place. Allocates nothing but to hold it.
    ///
    /// # Errors
    /// See [`OpenError`]. The packet is unchanged then.
    pub fn open<'a>(
        &mut self,
        now: Instant,
        from: SenderId,
        packet: &'a mut [u8],
    ) -> Result<Opened<'a>, OpenError> {
        let Found {
            header,
            counter,
            payload,
        } = match self.opener(from) {
            Some(opener) => match opener.open(now, packet) {
                Ok(found) => found,
                Err(error) => return Err(self.unopened(now, from, packet, error)),
            },
            None => return Err(self.unopened(now, from, packet, OpenError::UnknownSender)),
        };
        let payload = packet.get(payload).ok_or(OpenError::Failed)?;
        Ok(Opened {
            header,
            counter,
            payload,
        })
    }

    /// A held packet whose key has come, into `buf`: give it to [`open`](Self::open).
    pub fn poll_held(&mut self, buf: &mut Vec<u8>) -> Option<SenderId> {
        self.held.pop(buf)
    }

    pub(super) fn expire_held(&mut self, now: Instant) {
        while let Some(sender) = self.held.expire(now) {
            self.mismatch(now, sender);
        }
    }

    fn opener(&mut self, from: SenderId) -> Option<&mut Opener> {
        if self.me == Some(from) {
            return Some(&mut self.echo);
        }
        self.members.get_mut(&from).map(|member| &mut member.opener)
    }

    fn unopened(&mut self, now: Instant, from: SenderId, packet: &[u8], error: OpenError) -> OpenError {
        match error {
            OpenError::UnknownSender => {
                self.held.push(now, from, packet);
                error
            }
            OpenError::NoKeyYet => self.hold(now, from, packet),
            // Its full header may be among those that wait.
            OpenError::UnknownContext if self.held.holds(from) => self.hold(now, from, packet),
            OpenError::Failed => {
                self.mismatch(now, from);
                error
            }
            _ => error,
        }
    }

    fn hold(&mut self, now: Instant, from: SenderId, packet: &[u8]) -> OpenError {
        if self.held.push(now, from, packet) {
            self.missing_key(now, from);
        } else {
            self.mismatch(now, from);
        }
        OpenError::NoKeyYet
    }
}
