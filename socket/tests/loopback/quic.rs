use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use wzp_lane::ids::{Kind, Layout};
use wzp_socket::quic::EndpointSecret;
use wzp_socket::relay::{BindError, Config, bind, bind_range};

use crate::rig::{Certificate, Relay, Session, client, soon};

#[tokio::test]
async fn two_hundred_handshakes_from_one_client() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 2, &certificate, &EndpointSecret::random());
    let socket = client(&certificate);
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (socket, certificate, to) = (Arc::clone(&socket), certificate.clone(), relay.address);
            tokio::spawn(async move { Session::connect(&socket, &certificate, to).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for task in tasks {
        sessions.push(soon(task).await.unwrap());
    }
    assert_eq!(relay.lanes.len(), 200);
    for session in &sessions {
        session.echo_on_lane(b"one of many").await;
    }
}

#[tokio::test]
async fn a_client_is_a_server_on_the_same_socket() {
    let certificate = Certificate::new();
    let (alice, bob) = (client(&certificate), client(&certificate));
    let to = ([127, 0, 0, 1], bob.local_addr().unwrap().port()).into();
    let connecting = alice
        .endpoint()
        .connect_with(certificate.client(), to, "relay.test")
        .unwrap();
    let accepting = async { bob.endpoint().accept().await.unwrap().await.unwrap() };
    let (dialled, accepted) = soon(async { tokio::join!(connecting, accepting) }).await;
    accepted.send_datagram(b"direct"[..].into()).unwrap();
    assert_eq!(
        soon(dialled.unwrap().read_datagram()).await.unwrap(),
        b"direct"[..]
    );
}

/// On a dual-stack socket IPv4 peers have mapped addresses, for quinn alone.
#[tokio::test]
async fn a_dual_stack_relay_serves_both_families_and_dials_itself() {
    let certificate = Certificate::new();
    let any = "[::]:0".parse().unwrap();
    let relay = Relay::start_at(any, 2, &certificate, &EndpointSecret::random());
    let port = relay.address.port();
    let socket = client(&certificate);
    // An address that the routing table would not choose: answers must come from where the question went.
    let mut ips = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 3, 2, 1])];
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        ips.push(Ipv6Addr::LOCALHOST.into());
    }
    for ip in ips {
        let mut session = Session::connect(&socket, &certificate, (ip, port).into()).await;
        session.echo_on_lane(b"either family").await;
        session.echo_on_stream(b"either family").await.unwrap();
    }
    let other = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let dialled = relay
        .endpoint
        .connect_with(certificate.client(), other.address, "relay.test")
        .unwrap();
    soon(dialled).await.unwrap();
}

#[test]
fn two_relays_on_one_port_are_refused() {
    let config = Config {
        io_threads: 2,
        ..Config::default()
    };
    let first = bind(([127, 0, 0, 1], 0).into(), &config).unwrap();
    let port = first.local_addr().port();
    let error = bind(first.local_addr(), &config).unwrap_err();
    assert!(matches!(error, BindError::NoFreePort { first, last } if (first, last) == (port, port)));
    let next = bind_range(first.local_addr(), port..=port.saturating_add(50), &config).unwrap();
    assert_ne!(next.local_addr().port(), port);
}

/// A relay that comes back with its secret tells its peers at once; half of what it says looks like lane packets.
#[tokio::test]
async fn stateless_resets_are_found_in_lane_like_packets() {
    resets_are_found(Layout::default()).await;
}

#[tokio::test]
async fn a_relay_behind_a_load_balancer_serves_and_resets_as_any_other() {
    let server = "0x0123456789abcdef".parse().unwrap();
    for len in [16, 20] {
        resets_are_found(Layout::routable(&server, 3, Some(len)).unwrap()).await;
    }
}

async fn resets_are_found(layout: Layout) {
    let certificate = Certificate::new();
    let secret = EndpointSecret::random();
    let doomed = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let relay = {
        let _inside = doomed.enter();
        Relay::start_with(0, layout, &certificate, &secret)
    };
    let address = relay.address;
    let socket = client(&certificate);
    let mut sessions = Vec::new();
    for _ in 0..16 {
        let mut session = Session::connect(&socket, &certificate, address).await;
        assert_eq!(layout.kind(session.sending.id().as_slice()), Some(Kind::Lane));
        session.echo_on_lane(b"before").await;
        session.echo_on_stream(b"before").await.unwrap();
        sessions.push(session);
    }
    assert_eq!(relay.running.totals().lane_opened, 16);
    // Dies without a word: its tasks are never polled again.
    tokio::task::spawn_blocking(move || drop(doomed)).await.unwrap();
    drop(relay);
    let _reborn = Relay::start_with(address.port(), layout, &certificate, &secret);
    for session in &mut sessions {
        let _ = session.echo_on_stream(&[7; 200]).await.unwrap_err();
        let reason = soon(session.connection.closed()).await;
        assert!(matches!(reason, quinn::ConnectionError::Reset), "{reason:?}");
    }
    assert!(socket.totals().reset_candidates > 0);
}

/// Resets come to a relay too; those that look like packets of its lanes must not be lost.
#[tokio::test]
async fn a_relay_that_dials_is_reset_by_its_peer() {
    let certificate = Certificate::new();
    let (secret, peer_secret) = (EndpointSecret::random(), EndpointSecret::random());
    let layout = Layout::routable(&"7b".parse().unwrap(), 0, None).unwrap();
    let dialler = Relay::start_with(0, layout, &certificate, &secret);
    let doomed = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let peer = {
        let _inside = doomed.enter();
        Relay::start(0, 1, &certificate, &peer_secret)
    };
    let address = peer.address;
    let mut dialled = Vec::new();
    for _ in 0..16 {
        let connecting = dialler
            .endpoint
            .connect_with(certificate.client(), address, "relay.test")
            .unwrap();
        let connection = soon(connecting).await.unwrap();
        // Before its handshake is confirmed a connection sends long headers, which nobody resets.
        let mut tx = connection.open_uni().await.unwrap();
        tx.finish().unwrap();
        soon(tx.stopped()).await.unwrap();
        dialled.push(connection);
    }
    let _known = dialler.sessions.enter(address);
    tokio::task::spawn_blocking(move || drop(doomed)).await.unwrap();
    drop(peer);
    let _reborn = Relay::start(address.port(), 1, &certificate, &peer_secret);
    for connection in &dialled {
        // Unless it has said something by itself and been reset already.
        if let Ok((mut tx, _)) = connection.open_bi().await {
            let _ = tx.write_all(&[7; 200]).await;
        }
        let reason = soon(connection.closed()).await;
        assert!(matches!(reason, quinn::ConnectionError::Reset), "{reason:?}");
    }
    assert!(dialler.running.totals().reset_candidates > 0);
}
