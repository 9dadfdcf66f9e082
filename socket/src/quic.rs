//! How quinn must be configured to share its socket with lanes.

use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, TransportConfig,
    VarInt,
};
use quinn_proto::InvalidCid;
use quinn_proto::crypto::{CryptoError, HmacKey};
use sha2::Sha256;

use crate::ids::random_u64;

/// Bytes of our QUIC connection ids, on relays and clients alike.
pub const CID_LEN: usize = 8;

/// What native clients and relays speak (`docs/wire.md`).
pub const ALPN: &[u8] = b"wzp/1";

const NONCE_LEN: usize = 4;

/// The bit of an id's first byte that is 0 for QUIC and 1 for a lane.
const LANE_BIT: u8 = 0x80;

/// Bytes of datagrams that may wait in a connection in each direction: 100 ms of a busy room's voice.
const DATAGRAM_BUFFER: usize = 64 * 1024;

/// A long-lived secret of this endpoint, from which it makes connection ids and stateless resets.
///
/// An endpoint that keeps it over a restart lets its peers notice the restart within a round trip.
#[derive(Clone)]
pub struct EndpointSecret([u8; 32]);

impl EndpointSecret {
    /// A secret that lives as long as the process.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random_u64().to_ne_bytes());
        }
        Self(bytes)
    }

    /// `purpose` and `data` in, `out` looking random to whoever lacks the secret.
    fn derive(&self, purpose: &[u8], data: &[u8], out: &mut [u8]) {
        // HKDF-Expand is HMAC-SHA256 over the info for up to 32 bytes of output.
        let filled = Hkdf::<Sha256>::from_prk(&self.0)
            .map(|hkdf| hkdf.expand_multi_info(&[purpose, data], out).is_ok());
        debug_assert_eq!(
            filled.ok(),
            Some(true),
            "32 bytes are a key, and outputs are at most 32 bytes"
        );
    }
}

impl From<[u8; 32]> for EndpointSecret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The endpoint configuration without which lanes and QUIC cannot be told apart.
pub fn endpoint_config(secret: &EndpointSecret) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(secret.clone())));
    let ids = QuicIds(secret.clone());
    config.cid_generator(move || Box::new(ids.clone()));
    // The demultiplexer drops packets whose fixed bit is 0, so no peer may be allowed to clear it.
    config.grease_quic_bit(false);
    config
}

/// Which end of a connection a transport configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Keeps the connection alive: media on lanes no longer does.
    Client,
    /// Waits for the client's keep-alives.
    Relay,
}

/// Transport settings that suit signalling beside lanes, and datagrams as a fallback carrier.
pub fn transport_config(role: Role) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    // Voice on the fallback carrier: one ACK for 10 packets, as late as 50 ms.
    acks.ack_eliciting_threshold(VarInt::from_u32(10));
    acks.max_ack_delay(Some(Duration::from_millis(50)));
    let mut config = TransportConfig::default();
    config
        // quinn then writes random spin bits, exactly as lanes do.
        .allow_spin(false)
        .initial_rtt(Duration::from_millis(100))
        .initial_mtu(1_200)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(30_000))))
        .keep_alive_interval((role == Role::Client).then_some(Duration::from_secs(10)))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER);
    config
}

/// Connection ids of a nonce and a keyed check; the first bit is 0.
#[derive(Clone)]
struct QuicIds(EndpointSecret);

impl QuicIds {
    fn check(&self, nonce: &[u8]) -> [u8; CID_LEN - NONCE_LEN] {
        let mut check = [0; CID_LEN - NONCE_LEN];
        self.0.derive(b"wzp connection id", nonce, &mut check);
        check
    }
}

impl ConnectionIdGenerator for QuicIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = random_u64().to_ne_bytes();
        let (nonce, check) = id.split_at_mut(NONCE_LEN);
        if let Some(first) = nonce.first_mut() {
            *first &= !LANE_BIT;
        }
        check.copy_from_slice(&self.check(nonce));
        ConnectionId::new(&id)
    }

    /// Refuses what a lane packet shows: quinn would answer it with a stateless reset.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (nonce, check) = id.split_at_checked(NONCE_LEN).ok_or(InvalidCid)?;
        let quic = nonce.first().is_some_and(|first| first & LANE_BIT == 0);
        if quic && check == self.check(nonce) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Makes the tokens of stateless resets.
struct ResetKey(EndpointSecret);

impl ResetKey {
    const LEN: usize = 32;
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        self.0.derive(b"wzp stateless reset", data, signature_out);
    }

    fn signature_len(&self) -> usize {
        Self::LEN
    }

    /// Not constant in time: quinn only signs, and compares tokens itself.
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0; Self::LEN];
        self.sign(data, &mut expected);
        if signature == expected {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised_by_the_same_secret_only() {
        let secret = EndpointSecret::random();
        let mut ids = QuicIds(secret.clone());
        for _ in 0..1_000 {
            let id = ids.generate_cid();
            assert_eq!(id[0] & LANE_BIT, 0);
            QuicIds(secret.clone()).validate(&id).unwrap();
            assert!(QuicIds(EndpointSecret::random()).validate(&id).is_err());
        }
    }

    #[test]
    fn lane_like_ids_are_refused_even_with_a_right_check() {
        let ids = QuicIds(EndpointSecret::random());
        let mut id = [0x80, 1, 2, 3, 0, 0, 0, 0];
        let check = ids.check(&id[..NONCE_LEN]);
        id[NONCE_LEN..].copy_from_slice(&check);
        assert!(ids.validate(&ConnectionId::new(&id)).is_err());
        assert!(ids.validate(&ConnectionId::new(&[1, 2])).is_err());
    }

    #[test]
    fn reset_tokens_depend_on_secret_and_id() {
        let key = ResetKey(EndpointSecret::from([7; 32]));
        let (mut a, mut b) = ([0; 32], [0; 32]);
        key.sign(b"one", &mut a);
        key.sign(b"two", &mut b);
        assert_ne!(a, b);
        key.verify(b"one", &a).unwrap();
        assert!(key.verify(b"two", &a).is_err());
    }
}
