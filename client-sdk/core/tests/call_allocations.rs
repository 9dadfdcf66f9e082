//! A call in steady state allocates nothing. In its own file because the allocator is the process's.
#![expect(clippy::unwrap_used, reason = "what fails in the set-up fails the test")]

use std::time::Duration;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_identity::{Identity, Phrase};
use wzp_sdk_core::{
    call::{Call, Config, MAX_DATAGRAM, TierChoice},
    carrier::{Carrier, Why},
    paths::{Kind as PathKind, PathId},
    voice::{receiver::PULL, sender::Pauses, sim::Tones},
};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::{
    Instant, RoomName, SenderId,
    signal::{Join, Joined, Kind, Member, PeerMessage, SignalMessage, message, proto},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MEMBERS: usize = 3;

struct Seat {
    call: Call<Tones>,
    path: PathId,
    join: Option<Join>,
}

struct Room {
    now: Instant,
    rng: ChaCha8Rng,
    seats: Vec<Seat>,
    tick: u32,
}

fn id(seat: usize) -> SenderId {
    SenderId::new(seat as u16 + 1).unwrap()
}

impl Room {
    fn new() -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let seats = (0..MEMBERS).map(|seat| {
            let config = Config {
                room: RoomName::parse("standup").unwrap(),
                tier: TierChoice::Auto,
                echo: false,
                pauses: Pauses::Suppress,
            };
            let identity = Identity::from_phrase(&Phrase::from_seed(&[seat as u8 + 1; 32]));
            let mut call = Call::new(now, config, &identity, Tones, &mut rng).unwrap();
            let path = call.add_path(now, PathKind::Relay, Carrier::Lane, Why::Answered);
            call.join(now);
            let join = None;
            Seat { call, path, join }
        });
        let seats = seats.collect();
        let tick = 0;
        Self {
            now,
            rng,
            seats,
            tick,
        }
    }

    /// Sound, packets, timers and reports of 10 ms, straight from member to member.
    fn tick(&mut self) {
        self.now += Duration::from_millis(10);
        self.tick += 1;
        let now = self.now;
        let mut packet = [0; MAX_DATAGRAM];
        for from in 0..MEMBERS {
            let seat = &mut self.seats[from];
            // Everybody pauses now and then, at other times than the others.
            let talks = !(self.tick / 100 + from as u32).is_multiple_of(4);
            let strength = if talks { 1.0 } else { 0.0 };
            let pcm: [f32; PULL] = std::array::from_fn(|i| strength * Tones::sample(i as u32));
            seat.call.handle_rtt(now, Duration::from_millis(40));
            seat.call.handle_tick(now);
            seat.call.handle_capture(now, &pcm, strength);
            if seat.call.poll_timeout().is_some_and(|at| at <= now) {
                seat.call.handle_timeout(now, &mut self.rng);
            }
            while let Some((_, len)) = self.seats[from].call.poll_packet(now, &mut packet) {
                for to in (0..MEMBERS).filter(|to| *to != from) {
                    // Some are lost, so that repair and concealment have something to do.
                    let lost = (self.tick + to as u32).is_multiple_of(23);
                    let mut copy = packet;
                    let seat = &mut self.seats[to];
                    if !lost {
                        seat.call.handle_datagram(now, seat.path, &mut copy[..len]);
                    }
                }
            }
        }
        let mut heard = [0.0; PULL];
        for seat in &mut self.seats {
            seat.call.pull(now, &mut heard);
            while seat.call.poll_event().is_some() {}
        }
        self.carry_signals();
    }

    fn carry_signals(&mut self) {
        for from in 0..MEMBERS {
            while let Some((_, SignalMessage { kind: Some(kind) })) = self.seats[from].call.poll_signal() {
                match kind {
                    Kind::Join(join) => self.admit(from, Join::try_from(join).unwrap()),
                    Kind::PeerMessage(peer) => {
                        let PeerMessage { sender: to, payload } = PeerMessage::try_from(peer).unwrap();
                        let sender = id(from);
                        let peer = Kind::PeerMessage(PeerMessage { sender, payload }.into());
                        let to = usize::from(to.get()) - 1;
                        let to = &mut self.seats[to];
                        to.call.handle_signal(self.now, to.path, message(peer));
                    }
                    _ => {}
                }
            }
        }
    }

    fn admit(&mut self, from: usize, join: Join) {
        let now = self.now;
        let member = |seat: usize, join: &Join| Member {
            sender: id(seat),
            announcement: join.announcement.clone(),
        };
        let seats = self.seats.iter().enumerate();
        let members = seats.filter_map(|(seat, it)| Some(member(seat, it.join.as_ref()?)));
        let joined = Joined {
            request: join.request,
            sender: id(from),
            members: members.collect(),
            more: false,
            epoch: wzp_wire::Epoch::NONE,
        };
        let newcomer = member(from, &join);
        for seat in self.seats.iter_mut().filter(|seat| seat.join.is_some()) {
            let member = Some(newcomer.clone().into());
            let kind = Kind::MemberJoined(proto::MemberJoined { member });
            seat.call.handle_signal(now, seat.path, message(kind));
        }
        self.seats[from].join = Some(join);
        let kind = Kind::Joined(joined.into());
        let seat = &mut self.seats[from];
        seat.call.handle_signal(now, seat.path, message(kind));
    }
}

#[test]
fn a_call_in_steady_state_allocates_nothing() {
    let mut room = Room::new();
    (0..6_000).for_each(|_| room.tick());
    let before = allocations::count();
    assert!(before > 0, "nothing is counted");
    (0..6_000).for_each(|_| room.tick());
    let allocated = allocations::count() - before;
    for seat in &mut room.seats {
        let mut heard = 0;
        seat.call.remotes(|_, remote| {
            heard += 1;
            assert!(remote.stats.recovered > 10, "{:?}", remote.stats);
        });
        assert_eq!(heard, MEMBERS - 1);
    }
    assert_eq!(allocated, 0);
}
