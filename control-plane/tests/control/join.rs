//! Letting members into rooms.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wzp_identity::{GrantPublicKey, Identity, Phrase, TrustedKeys, verify};
use wzp_proto::control::relay_command::Kind as Command;

use crate::{
    http::request,
    relay::{Relay, unix_ms},
    server::Server,
};

const SOMEBODY: &str = r#"{"fingerprint":"00112233445566778899aabbccddeeff"}"#;

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_phrase(&Phrase::from_seed(&[seed; 32]))
}

/// What an identity sends for itself.
pub(crate) fn signed(identity: &Identity, room: &str, at: u64, nonce: [u8; 16]) -> Value {
    let proof = identity.prove_join(room, at, &nonce);
    json!({
        "identity_key": URL_SAFE_NO_PAD.encode(identity.public().to_bytes()),
        "signed_at": at,
        "nonce": URL_SAFE_NO_PAD.encode(nonce),
        "proof": URL_SAFE_NO_PAD.encode(proof),
    })
}

async fn trusted(server: &Server) -> TrustedKeys {
    let jwks = server
        .ask_as_nobody("GET", "/.well-known/jwks.json", "")
        .await
        .json();
    let x = URL_SAFE_NO_PAD
        .decode(jwks["keys"][0]["x"].as_str().unwrap())
        .unwrap();
    let key = GrantPublicKey::from_bytes(x.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(key.id().as_str(), jwks["keys"][0]["kid"]);
    TrustedKeys::new(key)
}

/// A control plane with one relay.
async fn with_relay(args: &[&str]) -> (Server, Relay) {
    let server = Server::start(args).await;
    let relay = Relay::start(&server, "a").await;
    server.listed(1).await;
    (server, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_lets_somebody_in_and_the_relay_hears_of_the_lease() {
    let (server, mut relay) = with_relay(&[]).await;
    let answer = server
        .ask("POST", "/v1/rooms/K%C3%BCche%202/join", SOMEBODY)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let joined = answer.json();
    assert_eq!(
        (&joined["room"], &joined["epoch"], &joined["sender"]),
        (&"Küche 2".into(), &1.into(), &1.into())
    );
    let place = &joined["relays"][0];
    assert_eq!((&place["id"], &place["carries"]), (&"a".into(), &true.into()));
    assert_eq!(place["addresses"][0]["port"], relay.quic.address.port());
    let grant = verify(
        joined["grant"].as_str().unwrap(),
        &trusted(&server).await,
        unix_ms() / 1_000,
        0,
    )
    .unwrap();
    let claims = grant.claims();
    assert!(grant.allows_room("Küche 2") && grant.allows_relay("a") && !grant.allows_relay("b"));
    assert_eq!((claims.sender, claims.epoch), (Some(1), 1));
    assert_eq!(grant.subject().to_hex(), "00112233445566778899aabbccddeeff");
    let lease = relay.lease().await;
    assert_eq!(
        (lease.room.as_str(), lease.epoch, lease.seats.len()),
        ("Küche 2", 1, 1)
    );
    let second = server
        .ask("POST", "/v1/rooms/K%C3%BCche%202/join", SOMEBODY)
        .await
        .json();
    assert_eq!((&second["epoch"], &second["sender"]), (&1.into(), &2.into()));
    assert_eq!(
        server
            .metric("wzp_control_join_attempts_total{result=\"ok\"}")
            .await,
        2.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_lets_itself_in_once_for_each_nonce_and_in_time() {
    let (server, _relay) = with_relay(&[]).await;
    let (me, now) = (identity(1), unix_ms() / 1_000);
    let join = async |body: &Value| {
        server
            .ask_as_nobody("POST", "/v1/rooms/tea/join", &body.to_string())
            .await
    };
    let good = signed(&me, "tea", now, [1; 16]);
    let answer = join(&good).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let grant = verify(
        answer.json()["grant"].as_str().unwrap(),
        &trusted(&server).await,
        now,
        0,
    )
    .unwrap();
    assert_eq!(grant.subject(), me.fingerprint());
    for (body, status, code) in [
        (good, 409, "proof_replayed"),
        (signed(&me, "coffee", now, [2; 16]), 401, "proof_wrong"),
        (signed(&me, "tea", now - 300, [3; 16]), 401, "proof_stale"),
        (signed(&me, "tea", now + 300, [4; 16]), 401, "proof_stale"),
        (json!({}), 401, "credentials_missing"),
    ] {
        let answer = join(&body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
    }
    let mut zero = signed(&me, "tea", now, [5; 16]);
    zero["identity_key"] = URL_SAFE_NO_PAD.encode([0; 32]).into();
    assert_eq!(join(&zero).await.problem(), "identity_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_cluster_takes_only_whom_a_server_lets_in() {
    let (server, _relay) = with_relay(&["--rooms", "key"]).await;
    let body = signed(&identity(1), "tea", unix_ms() / 1_000, [1; 16]);
    let answer = server
        .ask_as_nobody("POST", "/v1/rooms/tea/join", &body.to_string())
        .await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "room_closed"));
    assert_eq!(
        server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_may_have_a_policy_of_its_own() {
    let (server, _relay) = with_relay(&[]).await;
    let join = async |room: &str, nonce: u8| {
        let body = signed(&identity(1), room, unix_ms() / 1_000, [nonce; 16]).to_string();
        server
            .ask_as_nobody("POST", &format!("/v1/rooms/{room}/join"), &body)
            .await
            .status
    };
    for room in ["tea", "coffee", "water"] {
        let path = format!("/v1/room-policies/{room}");
        assert_eq!(server.ask("PUT", &path, r#"{"policy":"key"}"#).await.status, 204);
    }
    assert_eq!((join("tea", 1).await, join("milk", 2).await), (403, 200));
    let page = server.ask("GET", "/v1/room-policies?limit=2", "").await.json();
    assert_eq!(
        (&page["default"], &page["rooms"][1]),
        (&"open".into(), &json!({"room": "tea", "policy": "key"}))
    );
    let next = format!(
        "/v1/room-policies?limit=2&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let page = server.ask("GET", &next, "").await.json();
    assert_eq!(
        (&page["rooms"][0]["room"], &page["next_cursor"]),
        (&"water".into(), &Value::Null)
    );
    assert_eq!(
        server.ask("DELETE", "/v1/room-policies/tea", "").await.status,
        204
    );
    assert_eq!(join("tea", 3).await, 200);
    for method in ["GET", "DELETE"] {
        assert_eq!(
            server.ask(method, "/v1/room-policies/tea", "").await.problem(),
            "policy_unknown"
        );
    }
    for body in ["{}", r#"{"policy":"ajar"}"#, r#"{"policy":"key","more":1}"#] {
        assert_eq!(
            server.ask("PUT", "/v1/room-policies/tea", body).await.problem(),
            "body_invalid"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_a_join_has_a_code_of_its_own() {
    let (server, _relay) = with_relay(&[]).await;
    let many = json!({"fingerprint": "00112233445566778899aabbccddeeff",
        "measurements": vec![json!({"relay": "a", "rtt_ms": 1}); 17]});
    let far = |rtt: f64| {
        json!({"fingerprint": "00112233445566778899aabbccddeeff",
        "measurements": [{"relay": "a", "rtt_ms": rtt}]})
    };
    for (path, body, code) in [
        ("/v1/rooms/tea/join", "{".to_owned(), "body_malformed"),
        ("/v1/rooms/tea/join", "[]".to_owned(), "body_invalid"),
        ("/v1/rooms/tea/join", r#"{"finger":1}"#.to_owned(), "body_invalid"),
        (
            "/v1/rooms/tea/join",
            r#"{"fingerprint":"12"}"#.to_owned(),
            "body_invalid",
        ),
        ("/v1/rooms/tea/join", "{}".to_owned(), "body_invalid"),
        ("/v1/rooms/tea/join", many.to_string(), "body_invalid"),
        ("/v1/rooms/tea/join", far(-1.0).to_string(), "body_invalid"),
        ("/v1/rooms/tea/join", far(1e9).to_string(), "body_invalid"),
        ("/v1/rooms/tea/join", " ".repeat(70_000), "body_too_large"),
        ("/v1/rooms/%2a/join", SOMEBODY.to_owned(), "room_invalid"),
        ("/v1/rooms/a%0ab/join", SOMEBODY.to_owned(), "room_invalid"),
        ("/v1/rooms/%ff/join", SOMEBODY.to_owned(), "path_invalid"),
    ] {
        let answer = server.ask("POST", path, &body).await;
        assert_eq!(answer.problem(), code, "{body:.60}");
    }
    let text = [
        ("content-type", "text/plain"),
        ("authorization", &format!("Bearer {}", server.key)),
    ];
    let answer = request(
        server.http,
        "POST",
        "/v1/rooms/tea/join",
        &text,
        SOMEBODY.as_bytes(),
    )
    .await;
    assert_eq!((answer.status, answer.problem().as_str()), (415, "body_type"));
    let wrong = server
        .ask_with("wzp_00000000_x", "POST", "/v1/rooms/tea/join", SOMEBODY)
        .await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (401, "key_invalid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_has_the_same_answer_and_its_key_is_for_no_other() {
    let (server, _relay) = with_relay(&[]).await;
    let authorization = format!("Bearer {}", server.key);
    let join = async |key: &str, path: &str, body: &str| {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        request(server.http, "POST", path, &headers, body.as_bytes()).await
    };
    let first = join("k1", "/v1/rooms/tea/join", SOMEBODY).await;
    let again = join("k1", "/v1/rooms/tea/join", SOMEBODY).await;
    assert_eq!((first.status, &first.body), (200, &again.body));
    assert_ne!(join("k2", "/v1/rooms/tea/join", SOMEBODY).await.body, first.body);
    let other = join("k1", "/v1/rooms/coffee/join", SOMEBODY).await;
    assert_eq!(
        (other.status, other.problem().as_str()),
        (422, "idempotency_conflict")
    );
    assert_eq!(
        join(&"k".repeat(65), "/v1/rooms/tea/join", SOMEBODY)
            .await
            .problem(),
        "header_invalid"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_relay_nobody_is_let_in_and_told_when_to_try_again() {
    let server = Server::start(&[]).await;
    let answer = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "no_relay"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_shown_explained_and_ended() {
    let (server, mut relay) = with_relay(&[]).await;
    assert_eq!(
        server.ask("GET", "/v1/rooms/tea", "").await.problem(),
        "room_unknown"
    );
    for room in ["tea", "coffee", "water"] {
        let path = format!("/v1/rooms/{room}/join");
        assert_eq!(server.ask("POST", &path, SOMEBODY).await.status, 200);
    }
    let room = server.ask("GET", "/v1/rooms/tea", "").await.json();
    assert_eq!(
        (&room["epoch"], &room["relays"][0]["id"]),
        (&1.into(), &"a".into())
    );
    let page = server.ask("GET", "/v1/rooms?limit=2", "").await.json();
    let names = |page: &Value| {
        let rooms = page["rooms"].as_array().unwrap();
        rooms
            .iter()
            .map(|room| room["room"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["coffee", "tea"]);
    let next = format!(
        "/v1/rooms?limit=2&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let last = server.ask("GET", &next, "").await.json();
    assert_eq!(
        (names(&last), &last["next_cursor"]),
        (vec!["water".to_owned()], &Value::Null)
    );
    let explained = server
        .ask("GET", "/v1/rooms/tea/explain?region=eu", "")
        .await
        .json();
    assert_eq!(
        (&explained["epoch"], &explained["relays"]),
        (&1.into(), &json!(["a"]))
    );
    assert!(!explained["text"].as_str().unwrap().is_empty() && explained["explanation"].is_object());
    assert_eq!(server.ask("DELETE", "/v1/rooms/tea", "").await.status, 204);
    let revoked = |kind| match kind {
        Command::Revoke(revoke) => Some((revoke.room, revoke.epoch)),
        _ => None,
    };
    assert_eq!(relay.wait_for("a revoke", revoked).await, ("tea".to_owned(), 2));
    assert_eq!(
        server.ask("DELETE", "/v1/rooms/tea", "").await.problem(),
        "room_unknown"
    );
    let back = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.json();
    assert_eq!(back["epoch"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_control_plane_knows_its_rooms_and_keys() {
    let (server, relay) = with_relay(&[]).await;
    let first = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.json();
    let (token, papers) = (server.token.clone(), relay.papers.clone());
    let server = server.restart(&[]).await;
    assert_eq!(server.token, token);
    assert!(
        verify(
            first["grant"].as_str().unwrap(),
            &trusted(&server).await,
            unix_ms() / 1_000,
            0
        )
        .is_ok()
    );
    let hello = crate::relay::hello("a", 1, &relay.quic);
    let mut again = Relay::attach(&server, papers, relay.quic, hello).await;
    again
        .send(wzp_proto::control::relay_event::Kind::Synced(
            wzp_proto::control::Synced {},
        ))
        .await;
    let lease = again.lease().await;
    assert_eq!((lease.room.as_str(), lease.epoch), ("tea", 1));
    server.listed(1).await;
    let second = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.json();
    assert_eq!((&second["epoch"], &second["sender"]), (&1.into(), &2.into()));
}
