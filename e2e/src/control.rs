//! A control plane of few words: it puts every room on the same relays, which know nothing of each other, and lets in
//! everybody who proves an identity.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wzp_identity::{
    Fingerprint, GrantClaims, GrantRole, PublicIdentity, RoomScope, Validity, shared_secret_issuer,
};

use crate::relay::Relay;

/// A running one; it stops answering at the end of the test.
pub struct Control {
    /// Where it is.
    pub url: String,
    state: Arc<State>,
}

struct State {
    secret: &'static str,
    /// Since which epoch which relays serve every room.
    served: Mutex<(u64, Vec<Value>)>,
    gone: AtomicBool,
    /// A sender id for each identity that ever came.
    senders: Mutex<BTreeMap<Fingerprint, u16>>,
}

impl Control {
    /// Starts one for these relays, the first of which carries; all of them were started with `--secret`.
    pub fn start(secret: &'static str, relays: &[(&str, &Relay)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            secret,
            served: Mutex::new((1, listed(relays))),
            gone: AtomicBool::new(false),
            senders: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever is gone closes the door on everybody.
                if !serving.gone.load(Ordering::Acquire) {
                    let serving = Arc::clone(&serving);
                    thread::spawn(move || serving.serve(&stream));
                }
            }
        });
        Self { url, state }
    }

    /// From now on these relays serve every room, and nobody tells those who are in one.
    pub fn move_to(&self, relays: &[(&str, &Relay)]) {
        let mut served = self.state.served.lock().unwrap_or_else(PoisonError::into_inner);
        *served = (served.0 + 1, listed(relays));
    }

    /// From now on nobody gets an answer.
    pub fn vanish(&self) {
        self.state.gone.store(true, Ordering::Release);
    }
}

fn listed(relays: &[(&str, &Relay)]) -> Vec<Value> {
    let listed = relays.iter().enumerate().map(|(at, (id, relay))| {
        json!({
            "id": id, "carries": at == 0, "region": "here", "zone": "", "state": "active", "load": "low", "weight": 1,
            "addresses": [{"ip": relay.address.ip(), "port": relay.address.port(), "family": 4, "source": "flag"}],
            "certificates": [relay.certificate.to_string()],
        })
    });
    listed.collect()
}

impl Drop for Control {
    fn drop(&mut self) {
        self.vanish();
    }
}

impl State {
    /// One request; the connection is closed after it.
    fn serve(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).is_err() {
            return;
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        let answer = match path
            .strip_prefix("/v1/rooms/")
            .and_then(|rest| rest.strip_suffix("/join"))
        {
            Some(room) => self.join(room, &serde_json::from_slice(&body).unwrap()),
            None => json!({"generation": 1, "relays": self.served().1, "next_cursor": null}),
        };
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes());
    }

    fn served(&self) -> (u64, Vec<Value>) {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(&self, room: &str, request: &Value) -> Value {
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(request[field].as_str().unwrap()).unwrap();
        let public = PublicIdentity::from_bytes(&bytes("identity_key").try_into().unwrap()).unwrap();
        let (nonce, proof) = (
            bytes("nonce").try_into().unwrap(),
            bytes("proof").try_into().unwrap(),
        );
        let signed_at = request["signed_at"].as_u64().unwrap();
        public.verify_join(room, signed_at, &nonce, &proof).unwrap();
        assert!(
            !request["measurements"].as_array().unwrap().is_empty(),
            "{request}"
        );
        let subject = public.fingerprint();
        let sender = {
            let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
            let next = u16::try_from(senders.len() + 1).unwrap();
            *senders.entry(subject).or_insert(next)
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let grant = shared_secret_issuer(self.secret).unwrap().issue(GrantClaims {
            subject,
            role: GrantRole::Member,
            room: RoomScope::Exactly(room.to_owned()),
            relays: Vec::new(),
            sender: Some(sender),
            epoch: 0,
            validity: Validity {
                not_before: now - 60,
                expires: now + 3_600,
            },
            id: String::new(),
        });
        let (epoch, relays) = self.served();
        json!({
            "room": room, "epoch": epoch, "sender": sender, "grant": grant.unwrap(), "expires_at": now + 3_600,
            "relays": relays,
        })
    }
}
