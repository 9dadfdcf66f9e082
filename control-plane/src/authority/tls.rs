//! TLS for relays that attach.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{Authority, AuthorityError};

/// TLS 1.3 and HTTP/2. A certificate of the relay is asked for and not demanded: to enroll it has none yet. One that this
/// cluster has not signed, or that has expired, ends the handshake.
pub(crate) fn server_config(authority: &Authority, now: u64) -> Result<ServerConfig, AuthorityError> {
    let keys = authority.keys.load();
    let oldest = keys.authorities.last().ok_or(AuthorityError::Damaged)?;
    let (chain, key) = oldest.serve(&authority.cluster, now)?;
    let mut roots = RootCertStore::empty();
    for ca in &keys.authorities {
        roots.add(ca.certificate.clone())?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> =
        match WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
        {
            Ok(verifier) => verifier,
            // Without authorities there are no relays.
            Err(_) => Arc::new(NoClientAuth),
        };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Everybody shows a certificate anew, so that one that expired or was replaced is noticed.
    config.send_tls13_tickets = 0;
    Ok(config)
}
