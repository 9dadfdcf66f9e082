//! The rest of the HTTP API.

use std::io::Read;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use wzp_identity::{GrantPublicKey, TrustedKeys, verify_detached};

use crate::{
    http::request,
    relay::{Quic, Relay, hello, papers},
    server::Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_signed_and_unchanged_ones_cost_a_304() {
    let server = Server::start(&[]).await;
    let _relay = Relay::start(&server, "a").await;
    server.listed(1).await;
    let get = async |headers: &[(&str, &str)]| request(server.http, "GET", "/v1/relays", headers, b"").await;
    let plain = get(&[]).await;
    let wanted = "public, max-age=5, stale-while-revalidate=30, stale-if-error=86400";
    assert_eq!(plain.header("cache-control"), Some(wanted));
    let jwks = get_json(&server, "/.well-known/jwks.json").await;
    let x = URL_SAFE_NO_PAD
        .decode(jwks["keys"][0]["x"].as_str().unwrap())
        .unwrap();
    let key = GrantPublicKey::from_bytes(x.as_slice().try_into().unwrap()).unwrap();
    let signature = plain.header("x-jws-signature").unwrap();
    let trusted = TrustedKeys::new(key);
    assert_eq!(
        verify_detached(signature, "wzp-relays", &plain.body, &trusted),
        Ok(())
    );
    let packed = get(&[("accept-encoding", "br, gzip;q=0.8")]).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.body.as_slice())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
    assert_ne!(plain.header("etag"), packed.header("etag"));
    for tag in [
        plain.header("etag").unwrap(),
        "*",
        &format!("\"x\", W/{}", plain.header("etag").unwrap()),
    ] {
        let answer = get(&[("if-none-match", tag)]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}");
        assert_eq!(answer.header("etag"), plain.header("etag"));
    }
    assert_eq!(get(&[("if-none-match", "\"other\"")]).await.status, 200);
    let _second = Relay::start(&server, "b").await;
    server
        .until("/v1/mesh", |mesh| mesh["relays"] == json!(["a", "b"]))
        .await;
}

async fn get_json(server: &Server, path: &str) -> Value {
    server.ask_as_nobody("GET", path, "").await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_filtered_and_paged() {
    let server = Server::start(&[]).await;
    let mut running = Vec::new();
    for (count, (id, region)) in [("a", "eu"), ("b", "us"), ("c", "eu")].into_iter().enumerate() {
        let quic = Quic::start();
        let mut hello = hello(id, 1, &quic);
        hello.region = region.to_owned();
        let mut relay = Relay::attach(&server, papers(&server, id).await, quic, hello).await;
        relay
            .send(wzp_proto::control::relay_event::Kind::Synced(
                wzp_proto::control::Synced {},
            ))
            .await;
        running.push(relay.run());
        server.listed(count + 1).await;
    }
    let ids = async |query: &str| {
        let list = get_json(&server, &format!("/v1/relays?{query}")).await;
        let relays = list["relays"].as_array().unwrap().clone();
        let ids: Vec<_> = relays
            .iter()
            .map(|relay| relay["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, list["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(ids("region=eu").await.0, ["a", "c"]);
    assert_eq!(ids("family=IPv4&state=active").await.0, ["a", "b", "c"]);
    assert!(ids("family=IPv6").await.0.is_empty() && ids("state=draining").await.0.is_empty());
    let (first, next) = ids("limit=2").await;
    assert_eq!(first, ["a", "b"]);
    assert_eq!(
        ids(&format!("limit=2&cursor={}", next.unwrap())).await,
        (vec!["c".to_owned()], None)
    );
    for (query, code) in [
        ("limit=0", "query_invalid"),
        ("limit=201", "query_invalid"),
        ("limit=x", "query_invalid"),
        ("state=asleep", "query_invalid"),
        ("colour=red", "query_invalid"),
        ("cursor=%21", "cursor_invalid"),
        ("cursor=YQ", "cursor_invalid"),
    ] {
        let answer = server
            .ask_as_nobody("GET", &format!("/v1/relays?{query}"), "")
            .await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, code), "{query}");
    }
    let detail = server.ask("GET", "/v1/relays/b", "").await.json();
    assert_eq!(
        (&detail["state"], &detail["offer"], &detail["region"]),
        (&"listed".into(), &"active".into(), &"us".into())
    );
    let targets = get_json(&server, "/internal/v1/prometheus-sd").await;
    assert_eq!(
        targets[1],
        json!({"targets": ["127.0.0.1:9"], "labels": {"relay": "b", "region": "us", "zone": "zone-of-b"}})
    );
    running.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_do_what_their_scopes_say_until_they_are_deleted() {
    let server = Server::start(&[]).await;
    let made = server
        .ask(
            "POST",
            "/v1/api-keys",
            r#"{"name":"monitoring","scopes":["read"]}"#,
        )
        .await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(server.ask_with(key, "GET", "/v1/mesh", "").await.status, 200);
    for (method, path) in [
        ("POST", "/v1/api-keys"),
        ("GET", "/v1/api-keys"),
        ("POST", "/v1/rooms/tea/join"),
        ("DELETE", "/v1/rooms/tea"),
        ("POST", "/v1/relays/a:drain"),
        ("POST", "/v1/keys:rotate"),
    ] {
        let answer = server
            .ask_with(key, method, path, r#"{"name":"x","scopes":["read"]}"#)
            .await;
        assert_eq!(answer.problem(), "scope_missing", "{method} {path}");
        assert_eq!(server.ask_as_nobody(method, path, "{}").await.status / 100, 4);
    }
    let keys = server.ask("GET", "/v1/api-keys", "").await.json();
    assert_eq!(keys["api_keys"].as_array().unwrap().len(), 2);
    assert!(!keys.to_string().contains(key));
    assert_eq!(
        server
            .ask("DELETE", &format!("/v1/api-keys/{id}"), "")
            .await
            .status,
        204
    );
    assert_eq!(
        server.ask_with(key, "GET", "/v1/mesh", "").await.problem(),
        "key_invalid"
    );
    assert_eq!(
        server
            .ask("DELETE", &format!("/v1/api-keys/{id}"), "")
            .await
            .problem(),
        "api_key_unknown"
    );
    for body in [
        r#"{"name":"","scopes":["read"]}"#,
        r#"{"name":"x","scopes":[]}"#,
        r#"{"name":"x","scopes":["all"]}"#,
    ] {
        assert_eq!(
            server.ask("POST", "/v1/api-keys", body).await.problem(),
            "body_invalid"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_and_a_key_have_their_own_rates() {
    let server = Server::start(&["--prefix-rate", "2", "--key-rate", "3", "--behind-proxy"]).await;
    let from = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        request(server.http, "GET", "/v1/relays", &headers, b"").await
    };
    let mut last = from("2001:db8::1").await;
    assert_eq!(
        (last.header("ratelimit-limit"), last.header("ratelimit-remaining")),
        (Some("4"), Some("3"))
    );
    for host in 2..=5 {
        last = from(&format!("203.0.113.9, 2001:db8::{host}")).await;
    }
    assert_eq!((last.status, last.problem().as_str()), (429, "rate_limited"));
    assert_eq!(last.header("retry-after"), Some("1"));
    assert_eq!(from("2001:db8:0:1::1").await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(server.ask("GET", "/v1/mesh", "").await.status);
    }
    assert!(
        statuses.starts_with(&[200; 6]) && statuses.contains(&429),
        "{statuses:?}"
    );
    assert_eq!(server.ask_as_nobody("GET", "/livez", "").await.status, 200);
    assert_eq!(
        server
            .metric("wzp_control_ratelimited_total{class=\"prefix\"}")
            .await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_a_problem_too() {
    let server = Server::start(&[]).await;
    assert_eq!(server.ask("GET", "/v1/nothing", "").await.problem(), "not_found");
    assert_eq!(
        server.ask("PUT", "/v1/relays", "").await.problem(),
        "method_not_allowed"
    );
    assert_eq!(
        server.ask("GET", "/v1/relays/a", "").await.problem(),
        "relay_unknown"
    );
    assert_eq!(
        server.ask("POST", "/v1/relays/a:drain", "").await.problem(),
        "relay_unknown"
    );
    assert_eq!(
        server.ask("POST", "/v1/relays/a:undrain", "").await.problem(),
        "relay_unknown"
    );
    assert_eq!(
        server.ask("POST", "/v1/relays/a:fly", "").await.problem(),
        "not_found"
    );
    assert_eq!(
        server.ask("GET", "/v1/presence/12", "").await.problem(),
        "path_invalid"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_describes_every_route() {
    let server = Server::start(&["--public-url", "https://voice.example.org"]).await;
    let document = get_json(&server, "/openapi.json").await;
    assert_eq!(
        (&document["openapi"], &document["servers"][0]["url"]),
        (&"3.1.0".into(), &"https://voice.example.org".into())
    );
    for path in [
        "/v1/relays",
        "/v1/relays/{relay}:drain",
        "/v1/rooms/{room}/join",
        "/v1/presence/{fingerprint}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(operation["responses"]["default"].is_object(), "{operation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_documented() {
    let server = Server::start(&[]).await;
    let _relay = Relay::start(&server, "a").await;
    server.listed(1).await;
    let body = r#"{"fingerprint":"00112233445566778899aabbccddeeff"}"#;
    assert_eq!(server.ask("POST", "/v1/rooms/tea/join", body).await.status, 200);
    let text = String::from_utf8(server.ask_as_nobody("GET", "/metrics", "").await.body).unwrap();
    let (_, documented) = include_str!("../../../docs/metrics.md")
        .split_once("## Control plane")
        .unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: Vec<_> = names.collect();
    assert!(names.len() > 20, "{text}");
    for name in names {
        assert!(
            documented.contains(&format!("`{name}`")),
            "{name} is not in docs/metrics.md"
        );
    }
    for secret in ["tea", "00112233", "127.0.0.1", &server.key] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_hears_of_every_new_list() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(&[]).await;
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let get = b"GET /v1/relays/watch HTTP/1.1\r\nhost: control\r\n\r\n";
    stream.write_all(get).await.unwrap();
    let mut said = String::new();
    let mut relay = None;
    let hearing = async {
        // One event at once, another one for the relay.
        while said.matches("event: relays").count() < 2 {
            let mut bytes = [0; 4_096];
            let length = stream.read(&mut bytes).await.unwrap();
            assert!(length > 0, "{said}");
            said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
            if relay.is_none() && said.contains("event: relays") {
                relay = Some(Relay::start(&server, "a").await);
            }
        }
    };
    crate::soon("two events", hearing).await;
    assert!(
        said.contains("text/event-stream") && said.contains("data: {\"generation\":"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_shows_relays_that_clients_are_not_told_of_and_why() {
    let server = Server::start(&[]).await;
    let _good = Relay::start(&server, "a").await.run();
    server.listed(1).await;
    let mut hello = hello("b", 1, &Quic::start());
    hello.certificates = vec![vec![7; 32]];
    let mut bad = Relay::attach(&server, papers(&server, "b").await, Quic::start(), hello).await;
    bad.send(wzp_proto::control::relay_event::Kind::Synced(
        wzp_proto::control::Synced {},
    ))
    .await;
    let fleet = server
        .until("/v1/fleet", |fleet| {
            fleet["relays"].as_array().unwrap().len() == 2
        })
        .await;
    assert_eq!(
        (&fleet["relays"][0]["id"], &fleet["relays"][0]["state"]),
        (&"a".into(), &"listed".into())
    );
    assert_eq!(fleet["relays"][1]["id"], "b");
    let token = server.ask("GET", "/v1/join-token", "").await.json();
    assert_eq!(token["join_token"], server.token.as_str());
    assert_eq!(
        server.ask_as_nobody("GET", "/v1/join-token", "").await.problem(),
        "credentials_missing"
    );
}
