//! How quinn must be configured to share its socket with lanes.

mod trust;

use std::sync::Arc;
use std::time::Duration;

use hkdf::Hkdf;
use quinn::{
    AckFrequencyConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    TransportConfig, VarInt,
};
use quinn_proto::InvalidCid;
use quinn_proto::crypto::{CryptoError, HmacKey};
use sha2::Sha256;
use wzp_lane::ids::{Kind, Layout};
use wzp_lane::{Aead, Direction, EXPORTER_LABEL, Secret, exporter_context};
use zeroize::Zeroizing;

pub use trust::client_config;

use crate::ids::{random_id, random_u64};

/// What native clients and relays speak (`docs/wire.md`).
pub const ALPN: &[u8] = b"wzp/1";

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

/// The endpoint configuration without which lanes and QUIC cannot be told apart, with ids of the default layout.
pub fn endpoint_config(secret: &EndpointSecret) -> EndpointConfig {
    endpoint_config_with(secret, Layout::default())
}

/// [`endpoint_config`] with connection ids of another layout, that of the endpoint's
/// [`LaneTable`](crate::relay::LaneTable).
pub fn endpoint_config_with(secret: &EndpointSecret, layout: Layout) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(secret.clone())));
    let ids = QuicIds {
        secret: secret.clone(),
        layout,
    };
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

/// What protects one direction of a lane pair of `connection` (`docs/wire.md`); `None` when it exports no keys.
pub fn lane_secret(connection: &Connection, direction: Direction, number: u16, aead: Aead) -> Option<Secret> {
    let mut secret = Zeroizing::new([0; Secret::LEN]);
    let context = exporter_context(direction, number, aead);
    connection
        .export_keying_material(secret.as_mut(), EXPORTER_LABEL, &context)
        .ok()?;
    Some(Secret::from(*secret))
}

/// Connection ids that end with a keyed check of everything before it.
#[derive(Clone)]
struct QuicIds {
    secret: EndpointSecret,
    layout: Layout,
}

type Check = [u8; Layout::CHECK_LEN];

impl QuicIds {
    fn check(&self, id: &[u8]) -> Check {
        let mut check = Check::default();
        self.secret.derive(b"wzp connection id", id, &mut check);
        check
    }
}

impl ConnectionIdGenerator for QuicIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let id = self.layout.id(Kind::Quic, random_id());
        let free = id
            .as_slice()
            .get(..id.len() - Layout::CHECK_LEN)
            .unwrap_or_default();
        ConnectionId::new(&[free, &self.check(free)].concat())
    }

    /// Refuses what is no connection id of ours, as a lane packet shows it: quinn would answer with a stateless reset.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (free, check) = id.split_last_chunk().ok_or(InvalidCid)?;
        if self.layout.kind(id) == Some(Kind::Quic) && *check == self.check(free) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        self.layout.len()
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

    fn ids(secret: &EndpointSecret, layout: Layout) -> QuicIds {
        QuicIds {
            secret: secret.clone(),
            layout,
        }
    }

    fn layouts() -> [Layout; 3] {
        let routable = |server: &str, len| Layout::routable(&server.parse().unwrap(), 5, len).unwrap();
        [
            Layout::default(),
            routable("7b", None),
            routable("0123456789abcdef", Some(20)),
        ]
    }

    #[test]
    fn ids_are_recognised_by_the_same_secret_only() {
        for layout in layouts() {
            let secret = EndpointSecret::random();
            let mut made = ids(&secret, layout);
            for _ in 0..1_000 {
                let id = made.generate_cid();
                assert_eq!(id.len(), made.cid_len());
                assert_eq!(layout.kind(&id), Some(Kind::Quic));
                ids(&secret, layout).validate(&id).unwrap();
                assert!(ids(&EndpointSecret::random(), layout).validate(&id).is_err());
            }
        }
    }

    #[test]
    fn lane_like_ids_are_refused_even_with_a_right_check() {
        for layout in layouts() {
            let ids = ids(&EndpointSecret::random(), layout);
            let lane = layout.id(Kind::Lane, random_id());
            let (free, _) = lane.as_slice().split_at(lane.len() - Layout::CHECK_LEN);
            let id = [free, &ids.check(free)].concat();
            assert!(ids.validate(&ConnectionId::new(&id)).is_err());
            assert!(ids.validate(&ConnectionId::new(&[1, 2])).is_err());
        }
    }

    /// Two relays may share a secret: what a load balancer brings to the wrong one must not be reset there.
    #[test]
    fn ids_with_another_server_id_are_refused_even_with_a_right_check() {
        let secret = EndpointSecret::random();
        let [_, layout, _] = layouts();
        let other = Layout::routable(&"7c".parse().unwrap(), 5, None).unwrap();
        let id = ids(&secret, other).generate_cid();
        assert!(ids(&secret, layout).validate(&id).is_err());
        ids(&secret, other).validate(&id).unwrap();
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
