use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Mutex,
};
use wzp_identity::{Identity, Phrase};
use wzp_socket::{
    client::{Config, Socket},
    quic::{EndpointSecret, endpoint_config},
};
use wzp_wire::RoomName;

use super::{Access, Cluster, lock};
use crate::{Fault, error::ControlError};

const LIST: &str = r#"{"generation":1,"issued_at":"x","expires_at":"x","new":1,"relays":[
    {"id":"relay-1","region":"eu","zone":"a","state":"active","weight":1,"load":"low",
     "addresses":[{"ip":"127.0.0.1","port":9,"family":4,"source":"flag"}],"certificates":["CERT"]},
    {"id":"bad id!","state":"active","addresses":[],"certificates":[]}],"next_cursor":null}"#;
const TICKET: &str = r#"{"room":"tea","epoch":7,"sender":3,"grant":"GRANT","expires_at":1,"relays":[
    {"id":"relay-2","carries":false,"addresses":[{"ip":"127.0.0.1","port":2,"family":4}],"certificates":["CERT"]},
    {"id":"relay-1","carries":true,"region":"eu","zone":"a","addresses":[{"ip":"::1","port":1,"family":6}],"certificates":["CERT"]}]}"#;

/// A control plane of few words.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    join: Arc<Mutex<(u16, String)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let join = Arc::new(Mutex::new((200, json(TICKET))));
        let (seen, answer) = (Arc::clone(&asked), Arc::clone(&join));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                let (status, body) = if request.starts_with("GET /v1/relays") {
                    (200, json(LIST))
                } else {
                    answer.lock().await.clone()
                };
                seen.lock().await.push(request);
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self {
            url,
            asked,
            join,
            task,
        }
    }

    async fn answer(&self, status: u16, body: &str) {
        *self.join.lock().await = (status, body.to_owned());
    }
}

fn json(text: &str) -> String {
    text.replace("CERT", &"ab".repeat(32))
}

async fn read(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let Ok(read) = stream.read(&mut buffer).await else {
            break;
        };
        text.extend_from_slice(&buffer[..read]);
        let said = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = said.split_once("\r\n\r\n") else {
            if read == 0 { break } else { continue }
        };
        let length = head.lines().find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        });
        if read == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn identity() -> Identity {
    Identity::from_phrase(&Phrase::from_seed(&[1; 32]))
}

fn room() -> RoomName {
    RoomName::parse("tea time/1").unwrap()
}

fn socket() -> Socket {
    let config = Config {
        bind: Some(([127, 0, 0, 1], 0).into()),
        ..Config::default()
    };
    Socket::bind(config, endpoint_config(&EndpointSecret::random()), None).unwrap()
}

async fn admit(cluster: &Cluster) -> Result<super::Ticket, ControlError> {
    cluster
        .admit(&socket(), &identity(), &room())
        .await
        .map(|ticket| lock(&ticket).clone())
}

#[tokio::test]
async fn ticket_names_the_relays_that_carry_first_and_is_used_while_nobody_answers() {
    let server = Server::start().await;
    let cluster = Cluster::new(&server.url, Access::Identity, Some("eu".into()), Vec::new()).unwrap();
    cluster.explore(&socket()).await.unwrap();
    let ticket = admit(&cluster).await.unwrap();
    assert_eq!(
        (ticket.epoch(), ticket.relays().collect::<Vec<_>>()),
        (7, vec!["relay-1", "relay-2"])
    );
    assert!(!format!("{ticket:?}").contains("GRANT"));
    let asked = server.asked.lock().await.pop().unwrap();
    assert!(
        asked.starts_with("POST /v1/rooms/tea%20time%2F1/join HTTP/1.1"),
        "{asked}"
    );
    let body: serde_json::Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["region"], "eu");
    assert!(body.get("token").is_none() && body.get("fingerprint").is_none());
    for (field, length) in [("identity_key", 43), ("nonce", 22), ("proof", 86)] {
        assert_eq!(body[field].as_str().unwrap().len(), length, "{field}");
    }

    server.answer(503, "").await;
    assert_eq!(admit(&cluster).await.unwrap(), ticket);
    server.task.abort();
    assert_eq!(admit(&cluster).await.unwrap(), ticket);
    let later = Cluster::new(&server.url, Access::Identity, None, vec![ticket]).unwrap();
    later.explore(&socket()).await.unwrap();
}

#[tokio::test]
async fn errors_say_whose_fault_it_is() {
    let server = Server::start().await;
    let cluster = Cluster::new(&server.url, Access::Bearer("key".into()), None, Vec::new()).unwrap();
    let problem = r#"{"type":"about:blank","title":"No","status":403,"detail":"not in this room","code":"room_closed"}"#;
    server.answer(403, problem).await;
    let error = admit(&cluster).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Refused);
    assert_eq!(
        error.to_string(),
        "control plane refused: not in this room (room_closed)"
    );
    let asked = server.asked.lock().await.pop().unwrap();
    assert!(
        asked.contains("authorization: Bearer key") && asked.contains("\"fingerprint\""),
        "{asked}"
    );
    for (answer, fault) in [
        ("{}", Fault::Failed),
        (r#"{"epoch":1,"grant":"g","relays":[]}"#, Fault::Failed),
    ] {
        server.answer(200, answer).await;
        assert_eq!(admit(&cluster).await.unwrap_err().fault(), fault, "{answer}");
    }
    server.answer(500, "oops").await;
    assert_eq!(admit(&cluster).await.unwrap_err().fault(), Fault::Unreachable);
    server.task.abort();
    assert_eq!(admit(&cluster).await.unwrap_err().fault(), Fault::Unreachable);
    for url in ["", "relay:4433", "ftp://x", "http://", "http://x/?a"] {
        let error = Cluster::new(url, Access::Identity, None, Vec::new())
            .err()
            .unwrap();
        assert_eq!(error.fault(), Fault::Usage, "{url}");
    }
}
