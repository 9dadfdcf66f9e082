//! Fan-out: which outlets of a room get a packet.

use criterion::Criterion;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use wzp_relay_core::overload::Shed;
use wzp_relay_core::rooms::{Config, Member, Via};
use wzp_relay_core::{Heard, Origin, Rooms, Targets, forward};
use wzp_wire::{Instant, RoomName};

pub(crate) fn forwarding(criterion: &mut Criterion) {
    for members in [4_u64, 20, 1_000] {
        let mut rooms = Rooms::new(Config::default());
        let (name, mut rng) = (RoomName::parse("room").unwrap(), ChaCha8Rng::seed_from_u64(1));
        let senders: Vec<_> = (0..members)
            .map(|port| Member::new(&port.to_be_bytes(), false, Via::Direct(port)))
            .map(|member| rooms.join(Instant::ZERO, &mut rng, &name, None, member).unwrap())
            .collect();
        let (_, fan_out) = rooms.poll_publish(Instant::ZERO).unwrap();
        let mut targets = Targets::with_capacity(1_100);
        let mut tick = 0_u64;
        criterion.bench_function(&format!("relay/fan-out to {members}"), |bench| {
            bench.iter(|| {
                let now = Instant::from_micros(tick * 10_000);
                let sender = senders[tick as usize % 2];
                tick += 1;
                let heard = Heard::read(&[0x81, 0xf0, 0, 1]).unwrap();
                forward(
                    &fan_out,
                    sender,
                    Origin::Here,
                    heard,
                    now,
                    Shed::NOTHING,
                    &mut targets,
                )
                .unwrap();
                targets.as_slice().len()
            });
        });
    }
}
