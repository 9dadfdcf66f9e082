//! What an attacker between two peers can do to the address a lane pair goes to: nothing that lasts.
#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::time::Duration;

use wzp_lane::path::{Address, Content, Received, Roaming, Tracker};
use wzp_lane::{Aead, LaneId, OpenError, Opener, Sealer, Secret};
use wzp_wire::{Datagram, Instant, Ping, Pong};

const CLIENT_LANE: [u8; 32] = [1; 32];
const RELAY_LANE: [u8; 32] = [2; 32];

struct Peer {
    now: Instant,
    sealer: Sealer,
    opener: Opener,
    tracker: Tracker,
    nonces: u8,
}

impl Peer {
    fn new(sends: [u8; 32], receives: [u8; 32], roaming: Roaming, trusted: Address) -> Self {
        let id = LaneId::from_random(&[7; 8]).unwrap();
        Self {
            now: Instant::from_micros(1_000_000),
            sealer: Sealer::new(Secret::from(sends), Aead::Aes128Gcm, id),
            opener: Opener::new(Secret::from(receives), Aead::Aes128Gcm, 8),
            tracker: Tracker::new(roaming, trusted),
            nonces: 0,
        }
    }

    fn seal(&self, datagram: &Datagram<'_>) -> Vec<u8> {
        let mut buf = [0; 256];
        let len = datagram.encode(&mut buf[self.sealer.header_len()..]).unwrap();
        let len = self.sealer.seal(&mut buf, len, false).unwrap();
        buf[..len].to_vec()
    }

    fn media(&self) -> Vec<u8> {
        self.seal(&Datagram::Media {
            sender: wzp_wire::SenderId::new(1).unwrap(),
            packet: &[0; 100],
        })
    }

    /// Takes a packet in as a shell does; returns the PONG to a PING.
    fn receive(&mut self, from: Address, packet: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let mut buf = packet.to_vec();
        let opened = self.opener.open(&mut buf)?;
        let datagram = Datagram::decode(&buf[opened.range]).unwrap();
        let content = match &datagram {
            Datagram::Ping(Ping { probe: true, .. }) | Datagram::Pong(_) => Content::Probe,
            _ => Content::Settled,
        };
        let received = Received {
            from,
            newest: opened.newest,
            content,
            bytes: packet.len(),
        };
        self.tracker.handle_packet(self.now, &received);
        match datagram {
            Datagram::Ping(ping) => Ok(Some(self.seal(&Datagram::Pong(Pong {
                nonce: ping.nonce,
                probe: ping.probe,
                sent_us: ping.sent_us,
                hold_us: 0,
                confirmed: opened.counter,
                observed: from.remote(),
            })))),
            Datagram::Pong(pong) => {
                self.tracker.handle_pong(self.now, from, pong.nonce);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The PINGs it wants to send, sealed.
    fn pings(&mut self) -> Vec<(Address, Vec<u8>)> {
        let mut pings = Vec::new();
        loop {
            self.nonces += 1;
            let Some(ping) = self.tracker.poll_ping(self.now, [self.nonces; 8], 75) else {
                return pings;
            };
            let datagram = Datagram::Ping(Ping {
                nonce: ping.nonce,
                probe: true,
                sent_us: 0,
            });
            pings.push((ping.to, self.seal(&datagram)));
        }
    }
}

fn address(n: u8) -> Address {
    Address::new(format!("198.51.100.{n}:4433").parse().unwrap(), None)
}

const CLIENT: u8 = 1;
const MOVED: u8 = 2;
const RELAY: u8 = 9;
const ATTACKER: u8 = 66;

fn pair() -> (Peer, Peer) {
    let client = Peer::new(CLIENT_LANE, RELAY_LANE, Roaming::Fixed, address(RELAY));
    let relay = Peer::new(RELAY_LANE, CLIENT_LANE, Roaming::Follow, address(CLIENT));
    (client, relay)
}

#[test]
fn a_client_that_really_moved_is_followed_in_one_round_trip() {
    let (mut client, mut relay) = pair();
    relay.receive(address(CLIENT), &client.media()).unwrap();
    relay.receive(address(MOVED), &client.media()).unwrap();
    for (to, ping) in relay.pings() {
        let pong = client.receive(address(RELAY), &ping).unwrap().unwrap();
        if to == address(MOVED) {
            relay.receive(address(MOVED), &pong).unwrap();
        }
    }
    assert_eq!(relay.tracker.trusted(), Some(address(MOVED)));
    assert_eq!(client.tracker.trusted(), Some(address(RELAY)));
}

#[test]
fn a_replay_from_elsewhere_does_not_reach_the_tracker() {
    let (client, mut relay) = pair();
    let packet = client.media();
    relay.receive(address(CLIENT), &packet).unwrap();
    assert_eq!(relay.receive(address(ATTACKER), &packet), Err(OpenError::Replay));
    assert!(relay.tracker.is_settled() && relay.pings().is_empty());
}

#[test]
fn a_copy_that_wins_the_race_from_a_spoofed_source_costs_three_times_its_bytes() {
    let (client, mut relay) = pair();
    let original = client.media();
    relay.receive(address(ATTACKER), &original).unwrap();
    assert_eq!(relay.receive(address(CLIENT), &original), Err(OpenError::Replay));
    let mut sent: usize = relay
        .pings()
        .iter()
        .filter(|(to, _)| *to == address(ATTACKER))
        .map(|(_, p)| p.len())
        .sum();
    while relay.tracker.poll_copy(relay.now, 127).is_some() {
        sent += 127;
    }
    assert!(sent <= 3 * original.len());
    relay.now += Duration::from_millis(20);
    relay.receive(address(CLIENT), &client.media()).unwrap();
    assert!(relay.tracker.is_settled(), "the next original ends it");
    assert_eq!(relay.tracker.trusted(), Some(address(CLIENT)));
}

#[test]
fn a_ping_relayed_to_the_real_client_proves_nothing() {
    let (mut client, mut relay) = pair();
    relay.receive(address(ATTACKER), &client.media()).unwrap();
    for (to, ping) in relay.pings() {
        if to == address(ATTACKER) {
            let pong = client.receive(address(RELAY), &ping).unwrap().unwrap();
            relay.receive(address(CLIENT), &pong).unwrap();
        }
    }
    relay.now += Duration::from_secs(3);
    assert!(relay.pings().is_empty());
    assert_eq!(relay.tracker.trusted(), Some(address(CLIENT)));
}

#[test]
fn an_attacker_who_relays_everything_loses_the_lane_to_the_next_original() {
    let (mut client, mut relay) = pair();
    relay.receive(address(ATTACKER), &client.media()).unwrap();
    for (to, ping) in relay.pings() {
        if to == address(ATTACKER) {
            let pong = client.receive(address(RELAY), &ping).unwrap().unwrap();
            relay.receive(address(ATTACKER), &pong).unwrap();
        }
    }
    assert_eq!(
        relay.tracker.trusted(),
        Some(address(ATTACKER)),
        "it is on the path: a router could do that"
    );
    relay.receive(address(CLIENT), &client.media()).unwrap();
    assert_eq!(relay.tracker.trusted(), Some(address(CLIENT)));
}

#[test]
fn a_probe_from_another_address_moves_nothing() {
    let (client, mut relay) = pair();
    let probe = client.seal(&Datagram::Ping(Ping {
        nonce: [3; 8],
        probe: true,
        sent_us: 0,
    }));
    assert!(
        relay.receive(address(MOVED), &probe).unwrap().is_some(),
        "it is answered"
    );
    assert!(relay.tracker.is_settled());

    let keepalive = client.seal(&Datagram::Ping(Ping {
        nonce: [4; 8],
        probe: false,
        sent_us: 0,
    }));
    relay.receive(address(MOVED), &keepalive).unwrap();
    assert!(!relay.tracker.is_settled(), "a listener's keepalive does move");
}
