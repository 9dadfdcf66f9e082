//! Names in certificates.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use wzp_wire::RelayId;

/// What relays expect of the control plane's certificate.
pub(crate) const CONTROL: &str = "wzp-control";

/// `spiffe://<cluster>/relay/<id>`.
pub(super) fn of_relay(cluster: &str, relay: &RelayId) -> String {
    format!("spiffe://{cluster}/relay/{relay}")
}

/// `spiffe://<cluster>/control`.
pub(super) fn of_control(cluster: &str) -> String {
    format!("spiffe://{cluster}/control")
}

/// The relay that the certificate names in this cluster.
pub(super) fn relay_of(certificate: &CertificateDer<'_>, cluster: &str) -> Option<RelayId> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let prefix = format!("spiffe://{cluster}/relay/");
    certificate
        .valid_uri_names()
        .find_map(|name| RelayId::parse(name.strip_prefix(&prefix)?).ok())
}

/// Whether a relay may not be called so, because it would pass for something else.
pub(super) fn is_reserved(relay: &RelayId) -> bool {
    [CONTROL, "localhost"]
        .iter()
        .any(|name| relay.as_str().eq_ignore_ascii_case(name))
}
