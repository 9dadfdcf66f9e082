//! Who gets a certificate.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tonic::Code;
use webpki::EndEntityCert;
use wzp_proto::control::EnrollRequest;

use crate::{
    relay::{Papers, client, enroll, papers, pem, request, unix_ms},
    server::Server,
};

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn secret(server: &Server) -> String {
    server.token.split('.').nth(2).unwrap().to_owned()
}

async fn refused(server: &Server, shown: Option<&Papers>, request: EnrollRequest) -> Code {
    enroll(server, shown, request).await.unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_join_token_gives_a_certificate_with_the_relays_names_for_a_day() {
    let server = Server::start(&[]).await;
    let response = enroll(&server, None, request("relay-0", &secret(&server), &key()))
        .await
        .unwrap();
    let leaf = response.chain.first().unwrap().as_slice().into();
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    assert_eq!(leaf.valid_dns_names().collect::<Vec<_>>(), ["relay-0"]);
    assert_eq!(
        leaf.valid_uri_names().collect::<Vec<_>>(),
        ["spiffe://wzp/relay/relay-0"]
    );
    assert_eq!((response.chain.len(), response.authorities.len()), (2, 1));
    let day = 24 * 3_600;
    assert!(response.not_after_unix.abs_diff(unix_ms() / 1_000 + day) < 60);
    assert_eq!(
        server
            .metric("wzp_control_enrollments_total{result=\"granted\"}")
            .await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_none_at_all_and_a_broken_request_are_refused() {
    let server = Server::start(&[]).await;
    let token = server.token.clone();
    for wrong in ["wrong", token.as_str(), ""] {
        assert_eq!(
            refused(&server, None, request("a", wrong, &key())).await,
            Code::Unauthenticated
        );
    }
    assert_eq!(
        server
            .metric("wzp_control_enrollments_total{result=\"token\"}")
            .await,
        3.0
    );
    let secret = secret(&server);
    let good = || request("a", &secret, &key());
    for bad in [
        EnrollRequest {
            csr: b"junk".to_vec(),
            ..good()
        },
        EnrollRequest {
            boot_id: vec![1; 7],
            ..good()
        },
        EnrollRequest {
            relay_id: "a/b".to_owned(),
            ..good()
        },
        EnrollRequest {
            relay_id: "wzp-control".to_owned(),
            ..good()
        },
    ] {
        assert_eq!(refused(&server, None, bad).await, Code::InvalidArgument);
    }
    let late = EnrollRequest {
        unix_ms: unix_ms() - 600_000,
        ..good()
    };
    assert_eq!(refused(&server, None, late).await, Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_for_its_own_relay_only() {
    let server = Server::start(&[]).await;
    let a = papers(&server, "a").await;
    enroll(&server, Some(&a), request("a", "", &key())).await.unwrap();
    assert_eq!(
        refused(&server, Some(&a), request("b", "", &key())).await,
        Code::PermissionDenied
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_use_by_another_relay_is_refused() {
    let server = Server::start(&[]).await;
    let (key, secret) = (key(), secret(&server));
    enroll(&server, None, request("a", &secret, &key)).await.unwrap();
    enroll(&server, None, request("a", &secret, &key)).await.unwrap();
    assert_eq!(
        refused(&server, None, request("b", &secret, &key)).await,
        Code::AlreadyExists
    );
}

/// Signed by somebody else, with the right names.
fn foreign() -> Papers {
    let (ca_key, key) = (key(), key());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(ca, ca_key);
    let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI("spiffe://wzp/relay/a".try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let made = params.signed_by(&key, &issuer).unwrap();
    Papers {
        certificate: pem("CERTIFICATE", made.der()),
        key: key.serialize_pem(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_certificate_ends_the_handshake_and_is_counted() {
    let (server, other) = (Server::start(&[]).await, Server::start(&[]).await);
    for stranger in [foreign(), papers(&other, "a").await] {
        // In TLS 1.3 the client may learn of it with its first request only.
        if let Ok(mut client) = client(&server, Some(&stranger)).await {
            // Which status that is depends on how far HTTP/2 got.
            client.enroll(request("a", "", &key())).await.unwrap_err();
        }
    }
    let sample = "wzp_control_tls_failures_total{reason=\"certificate\"}";
    // Clients try more than once, and the server counts when it likes.
    server.until_metric(sample, |count| count >= 2.0).await;
}
