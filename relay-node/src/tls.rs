//! TLS 1.3 for both ends of a relay's connections: our certificate, and which ones of others we take.

use std::{sync::Arc, time::Duration};

use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::ring;
use wzp_socket::quic;

use crate::{cert::Certificate, config::Fingerprint};

/// Between relays.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Signalling that may be under way to us on one connection.
const RECEIVE_WINDOW: u32 = 256 * 1_024;
/// Signalling that may be under way from us on one connection.
const SEND_WINDOW: u64 = 128 * 1_024;

/// What TLS or QUIC refuse of our own configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("certificate and key do not fit")]
    Certificate(#[source] rustls::Error),
    #[error("TLS 1.3 cannot be had")]
    Version(#[from] rustls::Error),
    #[error("QUIC needs a cipher suite that is missing")]
    CipherSuite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// For everybody who connects to us.
pub(crate) fn server(certificate: &Certificate) -> Result<quinn::ServerConfig, TlsError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(certificate.chain.clone(), certificate.key.clone_key())
        .map_err(TlsError::Certificate)?;
    tls.alpn_protocols = vec![quic::ALPN.to_vec()];
    // Nobody resumes: a new connection has to prove its identity anyway.
    tls.send_tls13_tickets = 0;
    Ok(server_of(QuicServerConfig::try_from(tls)?))
}

/// The same with any TLS.
pub(crate) fn server_of(tls: QuicServerConfig) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let mut transport = quic::transport_config(quic::Role::Relay);
    transport
        .max_concurrent_bidi_streams(1_u32.into())
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(RECEIVE_WINDOW.into())
        .receive_window(RECEIVE_WINDOW.into())
        .send_window(SEND_WINDOW);
    config.transport_config(Arc::new(transport));
    config
}

/// For relays that we connect to; one of `pins` is the certificate expected of them, any if there are none.
pub(crate) fn client(pins: Vec<Fingerprint>) -> Result<quinn::ClientConfig, TlsError> {
    let takes = move |shown: &[u8]| pins.is_empty() || pins.contains(&Fingerprint::of(shown));
    let mut config = quic::client_config(takes)?;
    let mut transport = quic::transport_config(quic::Role::Client);
    // A relay that is gone is noticed three times as soon as a client has to be.
    transport
        .max_idle_timeout(Some(VarInt::from_u32(10_000).into()))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
