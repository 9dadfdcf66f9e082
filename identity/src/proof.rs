//! How a client proves on a connection that it is the identity its grant names: it signs what only
//! the two ends of this very TLS session know, so neither a grant nor a proof can be carried elsewhere.

use crate::{BadSignature, Identity, PublicIdentity};

/// The TLS exporter label (RFC 8446 section 7.5) whose 32 bytes, with an empty context, are signed.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-wzp-identity";
const LABEL: &[u8; 17] = b"wzp-connection-v1";
const JOIN_LABEL: &[u8] = b"wzp-join-v1";

/// What the client signs: `"wzp-connection-v1" ‖ exporter`.
pub fn connection_proof_message(exporter: &[u8; 32]) -> [u8; 49] {
    let mut message = [0; 49];
    message[..17].copy_from_slice(LABEL);
    message[17..].copy_from_slice(exporter);
    message
}

/// What a client signs to ask a control plane into a room on its own account:
/// `"wzp-join-v1" ‖ length of room u8 ‖ room ‖ signed_at u64 BE ‖ nonce`. The time in Unix seconds and the 16 random bytes
/// make it good once.
pub fn join_proof_message(room: &str, signed_at: u64, nonce: &[u8; 16]) -> Vec<u8> {
    let room = room.as_bytes();
    let length = u8::try_from(room.len()).unwrap_or(u8::MAX);
    [JOIN_LABEL, &[length], room, &signed_at.to_be_bytes(), nonce].concat()
}

impl Identity {
    /// The client's side of a join by its own signature.
    pub fn prove_join(&self, room: &str, signed_at: u64, nonce: &[u8; 16]) -> [u8; 64] {
        self.sign(&join_proof_message(room, signed_at, nonce))
    }

    /// The client's side: the 64 bytes of `Hello.proof`.
    pub fn prove_connection(&self, exporter: &[u8; 32]) -> [u8; 64] {
        self.sign(&connection_proof_message(exporter))
    }
}

impl PublicIdentity {
    /// The control plane's side of a join; it also judges the time and refuses a nonce that it has seen.
    ///
    /// # Errors
    /// It was not made by this identity for this room, time and nonce.
    pub fn verify_join(
        &self,
        room: &str,
        signed_at: u64,
        nonce: &[u8; 16],
        proof: &[u8; 64],
    ) -> Result<(), BadSignature> {
        self.verify(&join_proof_message(room, signed_at, nonce), proof)
    }

    /// The relay's side. `proof` may have any length.
    ///
    /// # Errors
    /// It was not made by this identity for this connection.
    pub fn verify_connection(&self, exporter: &[u8; 32], proof: &[u8]) -> Result<(), BadSignature> {
        let proof = proof.try_into().map_err(|_| BadSignature)?;
        self.verify(&connection_proof_message(exporter), proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phrase;

    #[test]
    fn a_join_is_signed_for_one_room_time_and_nonce() {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[1; 32]));
        let proof = identity.prove_join("tea", 7, &[5; 16]);
        let verify = |room, at, nonce| identity.public().verify_join(room, at, nonce, &proof);
        assert_eq!(verify("tea", 7, &[5; 16]), Ok(()));
        for wrong in [
            verify("teb", 7, &[5; 16]),
            verify("tea", 8, &[5; 16]),
            verify("tea", 7, &[6; 16]),
        ] {
            assert_eq!(wrong, Err(BadSignature));
        }
    }

    #[test]
    fn a_proof_is_good_for_its_connection_and_identity_only() {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[1; 32]));
        let other = Identity::from_phrase(&Phrase::from_seed(&[2; 32]));
        let proof = identity.prove_connection(&[3; 32]);
        assert_eq!(identity.public().verify_connection(&[3; 32], &proof), Ok(()));
        assert_eq!(
            identity.public().verify_connection(&[4; 32], &proof),
            Err(BadSignature)
        );
        assert_eq!(
            other.public().verify_connection(&[3; 32], &proof),
            Err(BadSignature)
        );
        assert_eq!(
            identity.public().verify_connection(&[3; 32], &proof[..63]),
            Err(BadSignature)
        );
    }
}
