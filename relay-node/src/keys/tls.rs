//! TLS 1.3 with the keys of the moment, for each of the three who ask.

use std::{fmt, sync::Arc, time::Duration};

use quinn::{
    VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::KeyUsage;
use wzp_socket::quic;
use wzp_wire::RelayId;

use super::{Holder, Keys};
use crate::tls::TlsError;

/// A peer that is gone has to be noticed soon: others wait for its rooms.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
const PEER_IDLE_MS: u32 = 5_000;

/// For everybody who connects to us. A certificate is asked for, and needed by peers alone.
pub(crate) fn server(keys: &Arc<Keys>) -> Result<QuicServerConfig, TlsError> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier::new(keys, None)))
        .with_cert_resolver(Arc::new(Shows(Arc::clone(keys))));
    tls.alpn_protocols = vec![quic::ALPN.to_vec()];
    // Nobody resumes: a new connection has to prove its identity anyway.
    tls.send_tls13_tickets = 0;
    Ok(QuicServerConfig::try_from(tls)?)
}

/// Towards the relay `peer` of this cluster.
pub(crate) fn peer_client(keys: &Arc<Keys>, peer: RelayId) -> Result<quinn::ClientConfig, TlsError> {
    let mut tls = client(keys, Some(Holder::Relay(peer)))?;
    tls.alpn_protocols = vec![quic::ALPN.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = quic::transport_config(quic::Role::Client);
    transport
        .max_idle_timeout(Some(VarInt::from_u32(PEER_IDLE_MS).into()))
        .keep_alive_interval(Some(PEER_KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Towards the control plane, over TCP.
pub(crate) fn control_client(keys: &Arc<Keys>) -> Result<ClientConfig, Error> {
    let mut tls = client(keys, Some(Holder::Other))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

fn client(keys: &Arc<Keys>, expected: Option<Holder>) -> Result<ClientConfig, Error> {
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(keys, expected)))
        .with_client_cert_resolver(Arc::new(Shows(Arc::clone(keys))));
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// Shows the certificate of the moment.
#[derive(Debug)]
struct Shows(Arc<Keys>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.shown.load().certified))
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.shown.load();
        shown.is_enrolled.then(|| Arc::clone(&shown.certified))
    }

    fn has_certs(&self) -> bool {
        self.0.is_enrolled()
    }
}

/// Believes the authorities of the moment.
struct Verifier {
    keys: Arc<Keys>,
    /// Who has to be at the other end; `None`: any relay.
    expected: Option<Holder>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(keys: &Arc<Keys>, expected: Option<Holder>) -> Self {
        Self {
            keys: Arc::clone(keys),
            expected,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }

    fn check(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Signature {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

type Signature = Result<HandshakeSignatureValid, Error>;

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.expected)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let holder = self
            .keys
            .verify(certificate, others, KeyUsage::server_auth(), now)?;
        match Some(&holder) == self.expected.as_ref() {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signature {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Signature {
        self.check(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self
            .keys
            .verify(certificate, others, KeyUsage::client_auth(), now)?
        {
            Holder::Relay(_) => Ok(ClientCertVerified::assertion()),
            Holder::Other => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signature {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Signature {
        self.check(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
