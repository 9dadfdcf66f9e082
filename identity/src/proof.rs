//! How a client proves on a connection that it is the identity its grant names: it signs what only
//! the two ends of this very TLS session know, so neither a grant nor a proof can be carried elsewhere.

use crate::{BadSignature, Identity, PublicIdentity};

/// The TLS exporter label (RFC 8446 section 7.5) whose 32 bytes, with an empty context, are signed.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-wzp-identity";
const LABEL: &[u8; 17] = b"wzp-connection-v1";

/// What the client signs: `"wzp-connection-v1" ‖ exporter`.
pub fn connection_proof_message(exporter: &[u8; 32]) -> [u8; 49] {
    let mut message = [0; 49];
    message[..17].copy_from_slice(LABEL);
    message[17..].copy_from_slice(exporter);
    message
}

impl Identity {
    /// The client's side: the 64 bytes of `Hello.proof`.
    pub fn prove_connection(&self, exporter: &[u8; 32]) -> [u8; 64] {
        self.sign(&connection_proof_message(exporter))
    }
}

impl PublicIdentity {
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
