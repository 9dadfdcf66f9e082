use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use wzp_socket::client::{Detour, OneWay, Packet};
use wzp_socket::clock;
use wzp_socket::quic::EndpointSecret;
use wzp_testkit::{Link, Profile};
use wzp_wire::Instant;

use crate::rig::{Certificate, Relay, Session, client_behind, soon};

const UP: Duration = Duration::from_millis(30);
const DOWN: Duration = Duration::from_millis(20);

/// The bad link of our tests, in one direction.
#[derive(Clone)]
struct Way(Arc<Mutex<Link<Packet>>>);

impl Way {
    fn new(profile: Profile) -> Self {
        Self(Arc::new(Mutex::new(Link::new(profile, 1))))
    }

    fn delaying(delay: Duration) -> Self {
        Self::new(Profile {
            delay,
            ..Profile::default()
        })
    }
}

impl OneWay for Way {
    fn handle_packet(&self, now: Instant, packet: Packet) {
        let bytes = packet.wire_bytes();
        self.0.lock().unwrap().send_sized(now, packet, bytes);
    }

    fn poll_packet(&self, now: Instant) -> Option<Packet> {
        self.0.lock().unwrap().poll(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.lock().unwrap().poll_timeout()
    }
}

fn detour(up: Way, down: Way) -> Option<Detour> {
    Some(Detour {
        up: Box::new(up),
        down: Box::new(down),
    })
}

#[tokio::test]
async fn quic_and_lanes_take_the_detour_both_ways_and_keep_their_order() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let socket = client_behind(&certificate, detour(Way::delaying(UP), Way::delaying(DOWN)));
    let mut session = Session::connect(&socket, &certificate, relay.address).await;
    let before = clock::now();
    session.echo_on_stream(b"held up").await.unwrap();
    assert!(clock::now().duration_since(before) >= UP + DOWN);
    // A socket taken anew is behind it as well.
    for _ in 0..2 {
        let before = clock::now();
        session.echo_on_lane(b"held up too").await;
        assert!(clock::now().duration_since(before) >= UP + DOWN);
        socket.rebind().unwrap();
    }
    for i in 0..100u8 {
        socket.send(&session.sending, &session.to, &[i; 900]).unwrap();
    }
    let mut buf = [0; 1_500];
    for i in 0..100u8 {
        let incoming = soon(socket.recv(&mut buf)).await.unwrap();
        assert_eq!((incoming.len, buf[0], incoming.newest), (900, i, true));
    }
}

#[tokio::test]
async fn a_cut_stops_everything_one_way() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    for cut_up in [true, false] {
        let (up, down) = (Way::new(Profile::default()), Way::new(Profile::default()));
        let socket = client_behind(&certificate, detour(up.clone(), down.clone()));
        let mut session = Session::connect(&socket, &certificate, relay.address).await;
        let way = if cut_up { up } else { down };
        way.0.lock().unwrap().cut();
        let taken = || way.0.lock().unwrap().stats().cut;
        socket.send(&session.sending, &session.to, b"taken").unwrap();
        // Lane and stream one after the other, so that none is counted for the other.
        let lane = async {
            while taken() == 0 {
                tokio::task::yield_now().await;
            }
        };
        soon(lane).await;
        way.0.lock().unwrap().restore();
        session.echo_on_lane(b"passes").await;
        way.0.lock().unwrap().cut();
        let before = taken();
        let echo = session.echo_on_stream(b"sent again");
        let stream = async {
            while taken() == before {
                tokio::task::yield_now().await;
            }
            way.0.lock().unwrap().restore();
        };
        let (echoed, ()) = tokio::join!(echo, stream);
        echoed.unwrap();
    }
}

/// Says by its end that it was dropped.
struct Telling(
    Way,
    #[expect(dead_code, reason = "it is there to be dropped")] mpsc::Sender<()>,
);

impl OneWay for Telling {
    fn handle_packet(&self, now: Instant, packet: Packet) {
        self.0.handle_packet(now, packet);
    }

    fn poll_packet(&self, now: Instant) -> Option<Packet> {
        self.0.poll_packet(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }
}

#[tokio::test]
async fn a_detour_ends_with_its_socket_whatever_is_under_way() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let (alive, mut gone) = mpsc::channel(1);
    let up = Way::new(Profile::default());
    let detour = Detour {
        up: Box::new(Telling(up.clone(), alive)),
        down: Box::new(Way::new(Profile::default())),
    };
    let session = Session::connect(
        &client_behind(&certificate, Some(detour)),
        &certificate,
        relay.address,
    )
    .await;
    up.0.lock().unwrap().set_profile(Profile {
        delay: Duration::from_secs(600),
        ..Profile::default()
    });
    session
        .socket
        .send(&session.sending, &session.to, b"late")
        .unwrap();
    drop(session);
    assert_eq!(soon(gone.recv()).await, None);
}
