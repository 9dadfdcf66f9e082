use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::config::Database;

const NOW: u64 = 1_800_000_000;

struct Fixture {
    folder: std::path::PathBuf,
    store: Store,
}

impl Fixture {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wzp-authority-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let database = Database::Sqlite(folder.join("wzp.db"));
        let store = Store::open(&database, Arc::new(|_, _, _| {})).await.unwrap();
        Self { folder, store }
    }

    async fn open(&self) -> Authority {
        Authority::open(&self.store, "wzp", None, NOW).await.unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn csr() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["wzp-control".to_owned()]).unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn relay(id: &str) -> RelayId {
    RelayId::parse(id).unwrap()
}

#[tokio::test]
async fn keys_and_token_are_made_once_and_kept() {
    let fixture = Fixture::new("kept").await;
    let (first, second) = (fixture.open().await, fixture.open().await);
    assert!(first.is_new() && !second.is_new());
    assert_eq!(first.join_token(), second.join_token());
    assert_eq!(first.trusted(), second.trusted());
    let token: JoinSecret = first.join_token().parse().unwrap();
    assert!(first.admits(&token.secret) && !first.admits("") && !first.admits(&first.join_token()));
    let digest = Sha256::digest(first.trusted().authorities.first().unwrap());
    assert_eq!(token.authority.unwrap(), URL_SAFE_NO_PAD.encode(digest));
}

#[tokio::test]
async fn another_clusters_database_is_refused() {
    let fixture = Fixture::new("cluster").await;
    fixture.open().await;
    let error = Authority::open(&fixture.store, "other", None, NOW)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--cluster is other"), "{error}");
}

#[tokio::test]
async fn a_certificate_names_its_relay_and_nothing_that_was_asked_for() {
    let fixture = Fixture::new("issue").await;
    let authority = fixture.open().await;
    let issued = authority.issue(&relay("relay-0"), &csr(), NOW).unwrap();
    let leaf = issued.chain.first().unwrap();
    assert_eq!(authority.relay_of(leaf), Some(relay("relay-0")));
    let names: Vec<_> = webpki::EndEntityCert::try_from(leaf)
        .unwrap()
        .valid_dns_names()
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["relay-0"]);
    assert_eq!(issued.not_after, NOW + 24 * 3_600);
}

#[tokio::test]
async fn a_request_that_is_none_and_a_reserved_name_are_refused() {
    let fixture = Fixture::new("refuse").await;
    let authority = fixture.open().await;
    let mut forged = csr();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for bad in [Vec::new(), b"junk".to_vec(), forged, vec![0x30; 9_000]] {
        let error = authority.issue(&relay("a"), &bad, NOW).unwrap_err();
        assert!(matches!(error, EnrollError::Request), "{error:?}");
    }
    for name in ["wzp-control", "WZP-Control", "localhost"] {
        let error = authority.issue(&relay(name), &csr(), NOW).unwrap_err();
        assert!(matches!(error, EnrollError::Reserved), "{error:?}");
    }
}

#[tokio::test]
async fn a_new_key_is_believed_before_it_signs_and_the_old_one_after() {
    let fixture = Fixture::new("rotate").await;
    let authority = fixture.open().await;
    let (before, token) = (authority.trusted(), authority.join_token());
    let old = authority.grant_key(NOW).unwrap().public().clone();
    authority.rotate(&fixture.store, NOW + 10).await.unwrap();
    let trusted = authority.trusted();
    assert!(trusted.generation > before.generation);
    assert_eq!((trusted.grant_keys.len(), trusted.authorities.len()), (2, 2));
    assert_eq!(authority.grant_key(NOW + 11).unwrap().public(), &old);
    let new = authority.grant_key(NOW + 41).unwrap().public().clone();
    assert_ne!(new, old);
    assert!(trusted.grant_keys.contains(&old) && trusted.grant_keys.contains(&new));
    // Relays that know the old token only still find what it names.
    assert_eq!(authority.join_token(), token);
    let issuer = |now| authority.issue(&relay("a"), &csr(), now).unwrap().chain[1].clone();
    assert_ne!(issuer(NOW + 11), issuer(NOW + 41));
    authority.rotate(&fixture.store, NOW + 100).await.unwrap();
    assert!(!authority.trusted().grant_keys.contains(&old));
    assert_ne!(authority.join_token(), token);
}
