//! The secret between two members, and the messages under it.
//!
//! ```text
//! transcript = SHA-256("wzp-e2ee-transcript-v1" ‖ the two announcement digests, the smaller first)
//! pair       = HKDF-Extract(salt = transcript, ikm = X25519(ephemeral, ephemeral))
//! key(A → B) = HKDF-Expand(pair, "wzp-e2ee-pair-v1" ‖ id(A) ‖ id(B), 32)
//!
//! message    = version u8 = 1 ‖ id(from) 16 ‖ id(to) 16 ‖ counter u64 ‖ ciphertext 62 ‖ tag 16       (119 bytes)
//! plaintext  = ack u64 ‖ type u8 ‖ body, zero bytes up to 62
//!   1 greeting (nothing; wants an answer)
//!   2 answer   (nothing)
//!   3 key      generation u32 ‖ step u8 ‖ chain 32 ‖ source counter u64 ‖ repair counter u64
//!   4 request  failed packets u32
//! ```
//! ChaCha20-Poly1305, nonce = 4 zero bytes ‖ counter, additional data = everything before the ciphertext. The
//! counter begins at 1 and rises by 1; `ack` is the highest counter received from the other side (0: none).

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::AeadInOut};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{
    announce::{Announcement, Id},
    epoch::{COUNTER_END, Chain, LAST_STEP},
    event::Misbehaviour,
};

pub(super) const LEN: usize = CLEAR + TEXT + 16;
const VERSION: u8 = 1;
const CLEAR: usize = 1 + 16 + 16 + 8;
const TEXT: usize = 8 + 1 + 53;
const GREETING: u8 = 1;
const ANSWER: u8 = 2;
const KEY: u8 = 3;
const REQUEST: u8 = 4;

/// Both directions between us and one other member.
pub(super) struct Pair {
    mine: Id,
    theirs: Id,
    sending: Zeroizing<[u8; 32]>,
    receiving: Zeroizing<[u8; 32]>,
    sent: u64,
    received: u64,
}

/// What a message says.
pub(super) enum Body {
    /// The sender does not know yet whether it was heard.
    Greeting,
    Answer,
    Key {
        chain: Chain,
        counters: [u64; 2],
    },
    Request {
        failed: u32,
    },
}

/// A message that authenticated.
pub(super) struct Received {
    pub(super) body: Body,
    /// The other side has received this one of ours.
    pub(super) ack: u64,
}

impl Pair {
    /// # Errors
    /// [`Misbehaviour::WeakKey`] when their key contributes nothing.
    pub(super) fn new(
        secret: &StaticSecret,
        mine: &Announcement,
        theirs: &Announcement,
    ) -> Result<Self, Misbehaviour> {
        let shared = secret.diffie_hellman(&theirs.ephemeral);
        if !shared.was_contributory() {
            return Err(Misbehaviour::WeakKey);
        }
        let (first, second) = if mine.digest < theirs.digest {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let transcript = Sha256::new()
            .chain_update(b"wzp-e2ee-transcript-v1")
            .chain_update(first.digest)
            .chain_update(second.digest)
            .finalize();
        let hkdf = Hkdf::<Sha256>::new(Some(&transcript), shared.as_bytes());
        Ok(Self {
            mine: mine.id,
            theirs: theirs.id,
            sending: direction(&hkdf, mine.id, theirs.id),
            receiving: direction(&hkdf, theirs.id, mine.id),
            sent: 0,
            received: 0,
        })
    }

    pub(super) fn seal(&mut self, body: &Body) -> Vec<u8> {
        self.sent += 1;
        let mut message = Vec::with_capacity(LEN);
        message.push(VERSION);
        message.extend_from_slice(&self.mine.0);
        message.extend_from_slice(&self.theirs.0);
        message.extend_from_slice(&self.sent.to_be_bytes());
        message.extend_from_slice(&self.received.to_be_bytes());
        body.encode(&mut message);
        message.resize(CLEAR + TEXT, 0);
        let (clear, text) = message.split_at_mut(CLEAR);
        let cipher = ChaCha20Poly1305::new((&*self.sending).into());
        // Fails for texts of 256 GiB only; an empty tag is then refused by the other side.
        let tag = cipher
            .encrypt_inout_detached(&nonce(self.sent).into(), clear, text.into())
            .unwrap_or_default();
        message.extend_from_slice(&tag);
        message
    }

    pub(super) fn open(&mut self, message: &[u8]) -> Result<Received, Misbehaviour> {
        let (_, to, counter) = addressed(message)?;
        if to != self.mine {
            return Err(Misbehaviour::Misdirected);
        }
        if counter <= self.received {
            return Err(Misbehaviour::ReplayedMessage);
        }
        let fixed: &[u8; LEN] = message.try_into().map_err(|_| Misbehaviour::Malformed)?;
        let mut copy = Zeroizing::new(*fixed);
        let (clear, sealed) = copy.split_at_mut(CLEAR);
        let (text, tag) = sealed
            .split_last_chunk_mut::<16>()
            .ok_or(Misbehaviour::Malformed)?;
        let cipher = ChaCha20Poly1305::new((&*self.receiving).into());
        cipher
            .decrypt_inout_detached(&nonce(counter).into(), clear, (&mut *text).into(), &(*tag).into())
            .map_err(|_| Misbehaviour::Tampered)?;
        self.received = counter;
        let mut reader = Reader(text);
        let ack = u64::from_be_bytes(reader.take()?);
        if ack > self.sent {
            return Err(Misbehaviour::Malformed);
        }
        Ok(Received {
            body: Body::decode(reader)?,
            ack,
        })
    }
}

/// From whom and to whom a message is, by announcement, and its counter.
pub(super) fn addressed(message: &[u8]) -> Result<(Id, Id, u64), Misbehaviour> {
    let mut reader = Reader(message);
    let [version] = reader.take()?;
    if version != VERSION {
        return Err(Misbehaviour::Version);
    }
    let ids = (
        Id(reader.take()?),
        Id(reader.take()?),
        u64::from_be_bytes(reader.take()?),
    );
    if message.len() == LEN {
        Ok(ids)
    } else {
        Err(Misbehaviour::Malformed)
    }
}

impl Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Greeting => out.push(GREETING),
            Self::Answer => out.push(ANSWER),
            Self::Key { chain, counters } => {
                out.push(KEY);
                out.extend_from_slice(&chain.generation.to_be_bytes());
                out.push(chain.step);
                out.extend_from_slice(chain.secret.as_ref());
                for counter in counters {
                    out.extend_from_slice(&counter.to_be_bytes());
                }
            }
            Self::Request { failed } => {
                out.push(REQUEST);
                out.extend_from_slice(&failed.to_be_bytes());
            }
        }
    }

    fn decode(mut reader: Reader<'_>) -> Result<Self, Misbehaviour> {
        let body = match reader.take()? {
            [GREETING] => Self::Greeting,
            [ANSWER] => Self::Answer,
            [KEY] => {
                let generation = u32::from_be_bytes(reader.take()?);
                let [step] = reader.take()?;
                let secret = Zeroizing::new(reader.take()?);
                let counters = [
                    u64::from_be_bytes(reader.take()?),
                    u64::from_be_bytes(reader.take()?),
                ];
                if step > LAST_STEP || counters.iter().any(|counter| *counter > COUNTER_END) {
                    return Err(Misbehaviour::Malformed);
                }
                Self::Key {
                    chain: Chain {
                        generation,
                        step,
                        secret,
                    },
                    counters,
                }
            }
            [REQUEST] => Self::Request {
                failed: u32::from_be_bytes(reader.take()?),
            },
            _ => return Err(Misbehaviour::Version),
        };
        if reader.0.iter().all(|byte| *byte == 0) {
            Ok(body)
        } else {
            Err(Misbehaviour::Malformed)
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Misbehaviour> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Misbehaviour::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
fn direction(hkdf: &Hkdf<Sha256>, from: Id, to: Id) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand_multi_info(&[b"wzp-e2ee-pair-v1", &from.0, &to.0], key.as_mut())
        .expect("32 bytes");
    key
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}
