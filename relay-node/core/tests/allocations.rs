//! Forwarding a packet does not allocate, in small rooms, large rooms and rooms with trunks.
#![expect(clippy::unwrap_used, reason = "a test")]

use rand_core::{TryRng, utils};
use wzp_relay_core::{
    FanOut, Heard, Origin, Rooms, Targets, forward,
    limits::{Rate, SharedBucket},
    overload::Shed,
    rooms::{Config, Member, TrunkId, Via},
    stats::{Counters, Leg},
};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::{Instant, RoomName, SenderId};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Steps(u64);

impl TryRng for Steps {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.0 += 1;
        Ok(self.0 as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 += 1;
        Ok(self.0)
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        utils::fill_bytes_via_next_word(out, || self.try_next_u64())
    }
}

fn room_of(members: u64, trunks: u64) -> (FanOut<u64>, Vec<SenderId>) {
    let mut rooms = Rooms::new(Config::default());
    let name = RoomName::parse("room").unwrap();
    let mut rng = Steps(0);
    let mut join = |member| rooms.join(Instant::ZERO, &mut rng, &name, None, member).unwrap();
    let direct = (0..members).map(|port| Member::new(&port.to_be_bytes(), port == 0, Via::Direct(port)));
    let via = |trunk| Via::Trunk {
        id: TrunkId(trunk),
        port: 1_000_000 + trunk,
        handle: 0,
    };
    let far = (0..trunks).map(|trunk| Member::new(&(1_000_000 + trunk).to_be_bytes(), false, via(trunk)));
    let senders = direct.chain(far).map(&mut join).collect();
    let (_, fan_out) = rooms.poll_publish(Instant::ZERO).unwrap();
    (fan_out, senders)
}

#[test]
fn forwarding_allocates_nothing() {
    let counters = Counters::default();
    let bucket = SharedBucket::default();
    let rate = Rate::new(400, 200);
    let mut targets = Targets::with_capacity(1_100);
    for (members, trunks) in [(2, 0), (8, 2), (20, 0), (900, 50)] {
        let (fan_out, senders) = room_of(members, trunks);
        let before = allocations::count();
        let mut copies = 0;
        for tick in 0..2_000u64 {
            let now = Instant::from_micros(tick * 20_000);
            let sender = senders[tick as usize % senders.len()];
            let packet = [0x85, (tick % 16) as u8 * 16, 0, 1];
            let heard = Heard::read(&packet).unwrap();
            let shed = if tick % 2 == 0 { Shed::NOTHING } else { Shed::MOST };
            let allowed = bucket.take(rate, now, 1);
            if allowed && forward(&fan_out, sender, Origin::Here, heard, now, shed, &mut targets).is_ok() {
                copies += targets.as_slice().len();
                counters.send(Leg::Client, targets.as_slice().len(), packet.len());
            }
        }
        assert_eq!(
            allocations::count() - before,
            0,
            "{members} members and {trunks} trunks"
        );
        assert!(copies > 0);
    }
}
