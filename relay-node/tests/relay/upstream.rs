//! A relay below an upstream that says exactly what we want it to.

use std::{net::SocketAddr, sync::Arc};

use quinn::{Connection, RecvStream, SendStream, crypto::rustls::QuicServerConfig};
use wzp_socket::{
    client::{Config, Socket},
    quic,
};
use wzp_wire::signal::{
    Decoder, Kind,
    proto::{self, TrunkMember},
};

use crate::{
    client::{Client, next, soon, write},
    server::Server,
};

/// An upstream relay in the test's own hands.
struct Upstream(Socket);

/// The downstream relay, connected.
struct Trunk {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl Upstream {
    fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![quic::ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::new(quic::transport_config(quic::Role::Relay)));
        let config = Config {
            bind: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..Config::default()
        };
        let endpoint = quic::endpoint_config(&quic::EndpointSecret::random());
        Self(Socket::bind(config, endpoint, Some(server)).unwrap())
    }

    async fn below(&self) -> Server {
        let address = self.0.endpoint().local_addr().unwrap().to_string();
        Server::start(&["--forward", &address]).await
    }

    async fn trunk(&self) -> Trunk {
        let trunk = async {
            let connection = self.0.endpoint().accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let mut decoder = Decoder::new();
            let Ok(Kind::Hello(_)) = next(&mut recv, &mut decoder).await else {
                panic!("no Hello")
            };
            let welcome = proto::Welcome {
                relay_boot_id: vec![1; 8],
                observed_ip: vec![127, 0, 0, 1],
                observed_port: 9,
                ..proto::Welcome::default()
            };
            write(&mut send, Kind::Welcome(welcome)).await;
            Trunk {
                connection,
                send,
                recv,
                decoder,
            }
        };
        soon("a trunk", trunk).await
    }
}

impl Trunk {
    /// The handle of the next member that is brought.
    async fn brought(&mut self) -> u32 {
        soon("a join", async {
            loop {
                if let Kind::TrunkJoin(join) = next(&mut self.recv, &mut self.decoder).await.unwrap() {
                    return join.handle;
                }
            }
        })
        .await
    }

    /// Answers the join of `handle` with one part of a list.
    async fn list(&mut self, handle: u32, whole: bool, more: bool, members: &[(u32, &str)]) {
        let members = members.iter().map(|&(handle, name)| member(handle, name));
        let part = proto::TrunkJoined {
            handle,
            sender: 1,
            members: members.collect(),
            more,
            whole,
        };
        write(&mut self.send, Kind::TrunkJoined(part)).await;
    }

    async fn came(&mut self, handle: u32, name: &str) {
        let came = proto::TrunkMemberJoined {
            room: "room".to_owned(),
            member: Some(member(handle, name)),
            epoch: 0,
        };
        write(&mut self.send, Kind::TrunkMemberJoined(came)).await;
    }

    async fn left(&mut self, handle: u32) {
        let left = proto::TrunkMemberLeft {
            room: "room".to_owned(),
            handle,
        };
        write(&mut self.send, Kind::TrunkMemberLeft(left)).await;
    }
}

/// Whose sender id says which one it is: the first letter.
fn member(handle: u32, name: &str) -> TrunkMember {
    TrunkMember {
        handle,
        sender: name.bytes().next().unwrap().into(),
        announcement: name.as_bytes().to_vec(),
    }
}

/// The next `count` of those who came, by their announcement, and of those who left, by their sender id as a letter.
async fn news(member: &mut Client, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let next = |kind| match kind {
            Kind::MemberJoined(proto::MemberJoined { member: Some(member) }) => {
                Some(format!("+{}", String::from_utf8_lossy(&member.announcement)))
            }
            Kind::MemberLeft(left) => Some(format!("-{}", char::from_u32(left.sender).unwrap())),
            _ => None,
        };
        told.push(member.wait_for("news", next).await);
    }
    told
}

/// A member of the downstream relay, brought to the upstream; the upstream has not answered.
async fn seated(down: &Server, trunk: &mut Trunk) -> (Client, u32) {
    let mut below = Client::start(down.address).await;
    below.join("room").await;
    let handle = trunk.brought().await;
    (below, handle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_while_the_trunk_was_cut_is_told_of_when_it_is_back_and_who_stayed_is_not() {
    let up = Upstream::start();
    let down = up.below().await;
    let mut trunk = up.trunk().await;
    let (mut below, handle) = seated(&down, &mut trunk).await;
    trunk
        .list(handle, true, false, &[(0x8001, "stays"), (0x8002, "goes")])
        .await;
    assert_eq!(news(&mut below, 2).await, ["+stays", "+goes"]);
    trunk.connection.close(18_u32.into(), b"cut");
    let mut trunk = up.trunk().await;
    let handle = trunk.brought().await;
    // What was the handle of one is now that of the other.
    trunk.list(handle, true, true, &[(0x8002, "stays")]).await;
    trunk.list(handle, true, false, &[(0x8003, "new")]).await;
    assert_eq!(news(&mut below, 2).await, ["+new", "-g"]);
    trunk.left(0x8002).await;
    assert_eq!(news(&mut below, 1).await, ["-s"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_not_whole_takes_nobody_out() {
    let up = Upstream::start();
    let down = up.below().await;
    let mut trunk = up.trunk().await;
    let (mut below, first) = seated(&down, &mut trunk).await;
    trunk.list(first, false, false, &[(0x8001, "a")]).await;
    let (_beside, second) = seated(&down, &mut trunk).await;
    // Of an older relay; one that begins whole; one that is interrupted, and its rest.
    trunk.list(second, false, false, &[(0x8002, "b")]).await;
    trunk.list(second, true, true, &[(0x8003, "c")]).await;
    trunk.list(second, false, false, &[]).await;
    trunk.list(second, true, true, &[(0x8004, "d")]).await;
    trunk.came(0x8005, "e").await;
    trunk.list(second, true, false, &[]).await;
    trunk.came(0x8006, "f").await;
    let told: Vec<_> = news(&mut below, 7).await;
    let far: Vec<_> = told.iter().filter(|news| news.len() == 2).collect();
    assert_eq!(far, ["+a", "+b", "+c", "+d", "+e", "+f"]);
    trunk.list(second, true, false, &[(0x8006, "f")]).await;
    assert_eq!(news(&mut below, 5).await, ["-a", "-b", "-c", "-d", "-e"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_is_anothers_now_and_one_whose_handle_is_another_now() {
    let up = Upstream::start();
    let down = up.below().await;
    let mut trunk = up.trunk().await;
    let (mut below, handle) = seated(&down, &mut trunk).await;
    trunk.list(handle, true, false, &[(0x8001, "first")]).await;
    assert_eq!(news(&mut below, 1).await, ["+first"]);
    trunk.came(0x8001, "first").await;
    // It has the sender id, too, that the one before it had.
    trunk.came(0x8001, "from now on").await;
    assert_eq!(news(&mut below, 2).await, ["-f", "+from now on"]);
    trunk.list(handle, true, false, &[(0x8002, "from now on")]).await;
    trunk.came(0x8001, "another").await;
    assert_eq!(news(&mut below, 1).await, ["+another"]);
    trunk.left(0x8002).await;
    assert_eq!(news(&mut below, 1).await, ["-f"]);
}
