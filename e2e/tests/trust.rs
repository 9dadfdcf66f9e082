//! Whom clients trust, and whom relays let in.

use std::{
    fs,
    net::UdpSocket,
    time::{Duration, Instant},
};

use wzp_e2e::{member::Guest, process::Scratch, relay::Relay};
use wzp_sdk::{CertificateHash, Client, ConnectError, Fault, Reason, Trust};

const SECRET: &str = "a secret of sixteen and more";
const SAYS_SO_WITHIN: Duration = Duration::from_secs(5);

async fn connect(address: &str, trust: Trust) -> Result<Client, ConnectError> {
    Client::builder().relay(address).trust(trust).connect().await
}

fn refusal(result: Result<Client, ConnectError>) -> ConnectError {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

async fn is_first_visit(address: &str, trust: Trust) -> bool {
    let client = connect(address, trust).await;
    client.is_ok_and(|client| client.relay().is_some_and(|relay| relay.first_visit))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_known_after_the_first_visit_and_refused_once_it_changes() {
    let home = Scratch::default();
    let file = home.file("known_relays");
    let known = || Trust::KnownRelays(file.clone());
    let first = Relay::start(&[]);
    let address = first.address.to_string();
    assert!(is_first_visit(&address, known()).await);
    let again = connect(&address, known()).await.unwrap();
    assert!(!again.relay().unwrap().first_visit);
    let (address, expected) = (first.address.to_string(), first.certificate);
    drop(first);

    let second = Relay::start_at(&address, &[]);
    assert_ne!(second.certificate, expected);
    let error = refusal(connect(&address, known()).await);
    let text = error.to_string();
    assert_eq!(error.fault(), Fault::Refused);
    for part in [
        expected.to_string(),
        second.certificate.to_string(),
        file.display().to_string(),
        address.clone(),
    ] {
        assert!(text.contains(&part), "{part} is not in: {text}");
    }
    fs::remove_file(&file).unwrap();
    assert!(is_first_visit(&address, known()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_files_outlives_the_relay() {
    let home = Scratch::default();
    let (cert, key) = (home.file("cert.pem"), home.file("key.pem"));
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let first = Relay::start(&files);
    let pinned = first.certificate;
    drop(first);
    let second = Relay::start(&files);
    assert_eq!(second.certificate, pinned);
    let client = connect(&second.address.to_string(), Trust::Pinned(pinned)).await;
    assert_eq!(client.unwrap().relay().unwrap().certificate, pinned);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_hash_admits_its_relay_and_no_other() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    connect(&address, Trust::Pinned(relay.certificate)).await.unwrap();
    let other: CertificateHash = "00".repeat(32).parse().unwrap();
    let error = refusal(connect(&address, Trust::Pinned(other)).await);
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&relay.certificate.to_string()));
    assert!(matches!(error, ConnectError::Certificate { file: None, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_secret_enters() {
    let relay = Relay::start(&["--secret", SECRET]);
    let guest = |secret| Guest {
        secret,
        ..Guest::saying(440.0)
    };
    for (secret, expected) in [
        (None, Reason::GrantMissing),
        (Some("another secret, as long"), Reason::GrantInvalid),
    ] {
        let error = refusal(guest(secret).connect(&relay).await);
        let ConnectError::Refused { reason, text } = &error else {
            panic!("{error}");
        };
        assert_eq!(*reason, expected);
        assert!(!text.is_empty());
        assert_eq!(error.fault(), Fault::Refused);
    }
    assert_eq!(relay.refused("grant_missing"), 1.0);
    assert_eq!(relay.refused("grant_invalid"), 1.0);
    let member = guest(Some(SECRET)).join(&relay).await;
    let other = guest(Some(SECRET)).join(&relay).await;
    other.hears(440.0).await;
    assert_eq!(other.call.members_at_join(), 1);
    drop(member);
    assert!(!relay.process.log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_said_to_be_unreachable_in_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let any: CertificateHash = "00".repeat(32).parse().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let began = Instant::now();
        let error = refusal(connect(&address.to_string(), Trust::Pinned(any)).await);
        assert!(began.elapsed() <= SAYS_SO_WITHIN, "{:?}", began.elapsed());
        assert_eq!(error.fault(), Fault::Unreachable);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_falls_silent_after_the_handshake_is_unreachable_too() {
    let relay = Relay::start(&[]);
    let tap = wzp_e2e::tap::Tap::start(relay.address).await;
    // Everything with a long header passes, so that the handshake completes and nothing after it.
    tap.pass_if(|_, bytes| bytes.first().is_some_and(|first| first & 0x80 != 0));
    let began = Instant::now();
    let trust = Trust::Pinned(relay.certificate);
    let error = refusal(connect(&tap.address.to_string(), trust).await);
    assert!(began.elapsed() <= SAYS_SO_WITHIN, "{:?}", began.elapsed());
    assert_eq!(error.fault(), Fault::Unreachable, "{error}");
}
