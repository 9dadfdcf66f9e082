//! Nothing is allocated between a lane packet in and its copies out.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wzp_lane::{Aead, LaneId, Opener, Sealer, Secret, ids};
use wzp_socket::relay::{self, Arrival, Entry, Handler, LaneTable, Load};
use wzp_socket::send::SendBatch;
use wzp_socket::{Address, Outgoing};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::Instant;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FAN_OUT: usize = 100;
const WARM_UP: u64 = 50;
const PACKETS: u64 = 500;

/// Sends each datagram on `FAN_OUT` times, and notes how much its thread has allocated so far.
struct FanOut {
    seen: u64,
    before: u64,
    after: Arc<AtomicU64>,
}

impl Handler<Outgoing> for FanOut {
    fn datagram(
        &mut self,
        _: Instant,
        lane: &Arc<Entry<Outgoing>>,
        _: &Arrival,
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        for _ in 0..FAN_OUT {
            out.seal(&lane.state, |buf| {
                buf.get_mut(..datagram.len())?.copy_from_slice(datagram);
                Some(datagram.len())
            });
        }
        self.seen += 1;
        if self.seen == WARM_UP {
            self.before = allocations::count();
        }
    }

    fn tick(&mut self, _: Instant, _: Load, _: &mut SendBatch) {
        if self.seen == PACKETS {
            self.after
                .store(allocations::count() - self.before, Ordering::Release);
        }
    }
}

#[test]
fn forwarding_allocates_nothing() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = relay::Config {
        io_threads: 1,
        ..relay::Config::default()
    };
    let bound = relay::bind(([127, 0, 0, 1], 0).into(), &config).unwrap();
    let to = bound.local_addr();
    let lanes = LaneTable::new(1, ids::Layout::default());
    let opener = Opener::new(Secret::from([1; 32]), Aead::Aes128Gcm, lanes.layout().len());
    let lane = lanes.open(opener, |_| {
        let sealer = Sealer::new(
            Secret::from([2; 32]),
            Aead::Aes128Gcm,
            LaneId::new(&[1, 2]).unwrap(),
        );
        Outgoing::new(sealer, Address::new(sink.local_addr().unwrap(), None))
    });
    let lane = lane.unwrap_or_else(|full| panic!("{full}"));
    let after = Arc::new(AtomicU64::new(u64::MAX));
    let running = bound
        .start(&lanes, |_| FanOut {
            seen: 0,
            before: 0,
            after: Arc::clone(&after),
        })
        .unwrap();

    let sealer = Sealer::new(Secret::from([1; 32]), Aead::Aes128Gcm, lane.id());
    let mut buf = [0; 200];
    for counter in 0..PACKETS {
        // The relay refuses to send on when nobody confirms.
        lane.state
            .sealer
            .confirm(lane.state.sealer.next_counter().saturating_sub(1));
        let len = sealer.seal(&mut buf, 120, counter % 2 == 0).unwrap();
        sink.send_to(&buf[..len], to).unwrap();
        while running.totals().lane_opened <= counter {
            std::thread::yield_now();
        }
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while after.load(Ordering::Acquire) == u64::MAX && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(after.load(Ordering::Acquire), 0);
    drop(running);
}
