//! Certificates: of the authority itself, of relays, of this process.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    string::Ia5String,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use wzp_wire::RelayId;

use super::{AuthorityError, names};
use crate::{random::random, store::KeyRow};

/// Of a relay's certificate; it is renewed at half of it.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3_600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks that run behind by less take a new certificate.
const BACKDATED: Duration = Duration::from_secs(600);
/// A longer request is nobody's key.
const MAX_CSR_BYTES: usize = 8_192;

/// Why a relay gets no certificate. It is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    #[error("the certificate request is not one of PKCS #10 with a good signature of its key")]
    Request,
    #[error("no relay may be called that")]
    Reserved,
    /// Ours, but it never happens.
    #[error("there is no authority")]
    NoAuthority,
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
}

/// A certificate that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) not_after: u64,
    /// SubjectPublicKeyInfo.
    pub(crate) public_key: Vec<u8>,
}

/// An authority with its key.
pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) active_at: u64,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn of(row: &KeyRow) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from(row.public.clone());
        let key = KeyPair::try_from(row.secret.as_slice()).map_err(|_| AuthorityError::Damaged)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| AuthorityError::Damaged)?;
        Ok(Self {
            certificate,
            active_at: row.active_at,
            issuer,
        })
    }

    pub(super) fn issue(
        &self,
        cluster: &str,
        relay: &RelayId,
        csr: &[u8],
        now: u64,
    ) -> Result<Issued, EnrollError> {
        if names::is_reserved(relay) {
            return Err(EnrollError::Reserved);
        }
        if csr.len() > MAX_CSR_BYTES {
            return Err(EnrollError::Request);
        }
        // What it asks for is not looked at but for its key, which has signed it.
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr));
        let key = request.map_err(|_| EnrollError::Request)?.public_key;
        let (dns, uri) = (relay.as_str(), names::of_relay(cluster, relay));
        // Relays are servers for each other as well.
        let uses = [
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let params = leaf(&[dns], &uri, &uses, now).map_err(EnrollError::Make)?;
        let made = params.signed_by(&key, &self.issuer).map_err(EnrollError::Make)?;
        Ok(Issued {
            chain: vec![made.der().clone(), self.certificate.clone()],
            not_after: now + LIFE.as_secs(),
            public_key: key.subject_public_key_info(),
        })
    }

    /// For this process: a certificate, its issuer, and the key.
    pub(super) fn serve(
        &self,
        cluster: &str,
        now: u64,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate()?;
        let uses = [ExtendedKeyUsagePurpose::ServerAuth];
        let params = leaf(
            &[names::CONTROL, "localhost"],
            &names::of_control(cluster),
            &uses,
            now,
        )?;
        let made = params.signed_by(&key, &self.issuer)?;
        let chain = vec![made.der().clone(), self.certificate.clone()];
        Ok((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }
}

/// A key in PKCS #8, and the certificate in DER that it signed for itself.
pub(super) fn make_authority(cluster: &str, now: u64) -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    // Two authorities of one cluster have names of their own, so that nobody takes one for the other.
    name.push(
        DnType::CommonName,
        format!("{cluster} {}", super::hex(&random::<4>())),
    );
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dated(&mut params, now, AUTHORITY_LIFE);
    let made = params.self_signed(&key)?;
    Ok((key.serialize_der(), made.der().to_vec()))
}

fn leaf(
    dns: &[&str],
    uri: &str,
    uses: &[ExtendedKeyUsagePurpose],
    now: u64,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, dns.first().copied().unwrap_or_default());
    params.distinguished_name = name;
    for name in dns {
        params
            .subject_alt_names
            .push(SanType::DnsName(Ia5String::try_from(*name)?));
    }
    params
        .subject_alt_names
        .push(SanType::URI(Ia5String::try_from(uri)?));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = uses.to_vec();
    params.use_authority_key_identifier_extension = true;
    dated(&mut params, now, LIFE);
    Ok(params)
}

fn dated(params: &mut CertificateParams, now: u64, life: Duration) {
    let since_1970 = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = since_1970(now.saturating_sub(BACKDATED.as_secs()));
    params.not_after = since_1970(now + life.as_secs());
    params.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
}
