use std::time::Duration;

use wzp_socket::quic::EndpointSecret;

use crate::rig::{Certificate, PATIENCE, Relay, Session, client, soon};

#[tokio::test]
async fn lanes_and_quic_share_the_sockets() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 2, &certificate, &EndpointSecret::random());
    let mut session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    for round in 0..300u16 {
        session
            .echo_on_lane(&[round.to_be_bytes().as_slice(), &[7; 100]].concat())
            .await;
        if round % 10 == 0 {
            session.echo_on_stream(&round.to_be_bytes()).await.unwrap();
        }
    }
    let totals = relay.running.totals();
    assert_eq!(
        (totals.lane_opened, totals.lane_failed, totals.lane_unknown),
        (300, 0, 0)
    );
    relay.running.shutdown();
}

#[tokio::test]
async fn idle_threads_tick() {
    let relay = Relay::start(0, 2, &Certificate::new(), &EndpointSecret::random());
    let ticking = async {
        while relay.running.ticks().any(|ticks| ticks < 3) {
            tokio::task::yield_now().await;
        }
    };
    soon(ticking).await;
    assert_eq!(relay.running.ticks().count(), 2);
}

#[tokio::test]
async fn a_burst_on_one_lane_arrives_whole_and_in_order() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    for i in 0..200u8 {
        session
            .socket
            .send(&session.sending, &session.to, &[i; 900])
            .unwrap();
    }
    let mut buf = [0; 1_500];
    for i in 0..200u8 {
        let incoming = soon(session.socket.recv(&mut buf)).await.unwrap();
        assert_eq!((incoming.len, buf[0], buf[899]), (900, i, i));
        assert!(incoming.newest);
        assert_eq!(incoming.counter, u64::from(i));
        assert_eq!(incoming.from.remote(), relay.address);
        assert!(incoming.from.local().is_some());
    }
}

#[tokio::test]
async fn a_plain_thread_can_receive() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    let socket = session.socket.clone();
    let thread = std::thread::spawn(move || {
        let mut buf = [0; 100];
        let incoming = socket.recv_blocking(&mut buf, PATIENCE).unwrap();
        buf[..incoming.len].to_vec()
    });
    session
        .socket
        .send(&session.sending, &session.to, b"hello")
        .unwrap();
    let heard = soon(tokio::task::spawn_blocking(|| thread.join()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"hello");
    assert_eq!(session.socket.recv_blocking(&mut [], Duration::ZERO), None);
}

#[tokio::test]
async fn lanes_end_with_their_connection() {
    let certificate = Certificate::new();
    let mut relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    session.echo_on_lane(b"alive").await;
    assert_eq!(relay.lanes.len(), 1);
    session.connection.close(0u32.into(), b"bye");
    soon(session.receiving.until_closed(&session.connection)).await;
    soon(relay.ended.recv()).await.unwrap();
    assert!(relay.lanes.is_empty());
    session
        .socket
        .send(&session.sending, &session.to, b"into the void")
        .unwrap();
    // A later connection is served by the same thread, so by then the stray packet has been looked at.
    Session::connect(&session.socket, &certificate, relay.address).await;
    assert_eq!(relay.running.totals().lane_unknown, 1);
}

#[tokio::test]
async fn lanes_and_connection_survive_a_new_socket() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let mut session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    session.echo_on_lane(b"before").await;
    let before = session.socket.local_addr().unwrap();
    session.socket.rebind().unwrap();
    assert_ne!(session.socket.local_addr().unwrap(), before);
    session.echo_on_lane(b"behind").await;
    session.echo_on_stream(b"behind").await.unwrap();
}
