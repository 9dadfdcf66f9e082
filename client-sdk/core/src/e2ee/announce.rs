//! Announcements: "I am this identity, in this room, with this ephemeral key, this once".
//!
//! ```text
//! version u8 = 1 ‖ room tag 16 ‖ identity 32 ‖ ephemeral X25519 32 ‖ join nonce 32 ‖ signature 64     (177 bytes)
//! room tag  = first 16 bytes of SHA-256("wzp-e2ee-room-v1" ‖ room)
//! signature = Ed25519 over "wzp-e2ee-announce-v1" ‖ length of room u8 ‖ room ‖ everything before the signature
//! ```

use sha2::{Digest, Sha256};
use wzp_identity::{Identity, PublicIdentity};
use wzp_wire::RoomName;
use x25519_dalek::PublicKey;

use super::event::Misbehaviour;

pub(super) const LEN: usize = SIGNED + 64;
const SIGNED: usize = 1 + 16 + 32 + 32 + 32;
const VERSION: u8 = 1;

/// The first 16 bytes of an announcement's digest: names it in messages and in the list of those seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(pub(super) [u8; 16]);

/// An announcement whose signature is good.
#[derive(Debug, Clone)]
pub(super) struct Announcement {
    pub(super) identity: PublicIdentity,
    pub(super) ephemeral: PublicKey,
    pub(super) digest: [u8; 32],
    pub(super) id: Id,
}

pub(super) fn make(identity: &Identity, room: &RoomName, ephemeral: &PublicKey, nonce: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.push(VERSION);
    bytes.extend_from_slice(&room_tag(room));
    bytes.extend_from_slice(&identity.public().to_bytes());
    bytes.extend_from_slice(ephemeral.as_bytes());
    bytes.extend_from_slice(nonce);
    let signature = identity.sign(&signed_message(room, &bytes));
    bytes.extend_from_slice(&signature);
    bytes
}

impl Announcement {
    pub(super) fn parse(room: &RoomName, bytes: &[u8]) -> Result<Self, Misbehaviour> {
        if bytes.first().is_some_and(|version| *version != VERSION) {
            return Err(Misbehaviour::Version);
        }
        let fixed: &[u8; LEN] = bytes.try_into().map_err(|_| Misbehaviour::Malformed)?;
        let (signed, signature) = fixed.split_last_chunk::<64>().ok_or(Misbehaviour::Malformed)?;
        let (_, signed_fields) = signed.split_first().ok_or(Misbehaviour::Malformed)?;
        let (tag, fields) = signed_fields
            .split_first_chunk::<16>()
            .ok_or(Misbehaviour::Malformed)?;
        let (identity, fields) = fields.split_first_chunk::<32>().ok_or(Misbehaviour::Malformed)?;
        let (ephemeral, _) = fields.split_first_chunk::<32>().ok_or(Misbehaviour::Malformed)?;
        if *tag != room_tag(room) {
            return Err(Misbehaviour::WrongRoom);
        }
        let identity = PublicIdentity::from_bytes(identity).map_err(|_| Misbehaviour::WeakKey)?;
        identity
            .verify(&signed_message(room, signed), signature)
            .map_err(|_| Misbehaviour::BadSignature)?;
        let digest = digest(bytes);
        Ok(Self {
            identity,
            ephemeral: PublicKey::from(*ephemeral),
            digest,
            id: id(&digest),
        })
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"wzp-e2ee-announcement-v1")
        .chain_update(bytes)
        .finalize()
        .into()
}

fn id(digest: &[u8; 32]) -> Id {
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Id(id)
}

fn room_tag(room: &RoomName) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(b"wzp-e2ee-room-v1")
        .chain_update(room.as_str())
        .finalize();
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    tag
}

fn signed_message(room: &RoomName, signed: &[u8]) -> Vec<u8> {
    let name = room.as_str().as_bytes();
    let mut message = b"wzp-e2ee-announce-v1".to_vec();
    // A room name has at most 64 bytes.
    message.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    message.extend_from_slice(name);
    message.extend_from_slice(signed);
    message
}

#[cfg(test)]
mod tests {
    use wzp_identity::Phrase;

    use super::*;

    fn announced(room: &str) -> Vec<u8> {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[1; 32]));
        make(
            &identity,
            &RoomName::parse(room).unwrap(),
            &PublicKey::from([9; 32]),
            &[2; 32],
        )
    }

    #[test]
    fn every_byte_is_protected() {
        let room = RoomName::parse("standup").unwrap();
        let good = announced("standup");
        let parsed = Announcement::parse(&room, &good).unwrap();
        assert_eq!(parsed.ephemeral.as_bytes(), &[9; 32]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let why = Announcement::parse(&room, &bad).unwrap_err();
            match at {
                0 => assert_eq!(why, Misbehaviour::Version),
                1..17 => assert_eq!(why, Misbehaviour::WrongRoom),
                17..49 => assert!(matches!(why, Misbehaviour::WeakKey | Misbehaviour::BadSignature)),
                _ => assert_eq!(why, Misbehaviour::BadSignature),
            }
        }
        for len in 0..good.len() {
            assert_eq!(
                Announcement::parse(&room, &good[..len]).unwrap_err(),
                Misbehaviour::Malformed
            );
        }
    }

    #[test]
    fn an_announcement_is_for_one_room() {
        let other = RoomName::parse("boardroom").unwrap();
        assert_eq!(
            Announcement::parse(&other, &announced("standup")).unwrap_err(),
            Misbehaviour::WrongRoom
        );
    }
}
