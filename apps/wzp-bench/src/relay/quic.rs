//! The load over QUIC datagrams: every member's own connection, on one socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::measure::{Traffic, talker};
use super::members::Member;
use super::packet;
use crate::load::Shape;

/// The load.
pub(super) struct Quic {
    shape: Shape,
    members: Vec<Member>,
    received: Arc<AtomicU64>,
    ages: Arc<Mutex<Vec<u32>>>,
    /// Ends them when dropped.
    _listening: JoinSet<()>,
}

impl Quic {
    /// Members room by room, who listen from now on.
    pub(super) fn new(runtime: &Runtime, shape: Shape, members: Vec<Member>) -> Self {
        let (received, ages) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let mut listening = JoinSet::new();
        let listener = (shape.members as usize).saturating_sub(1);
        for (number, member) in members.iter().enumerate() {
            let connection = member.connection.clone();
            let received = Arc::clone(&received);
            let ages: Option<Arc<Mutex<Vec<u32>>>> = (number == listener).then(|| Arc::clone(&ages));
            let listen = async move {
                while let Ok(datagram) = connection.read_datagram().await {
                    if datagram.len() != packet::DATAGRAM {
                        continue;
                    }
                    received.fetch_add(1, Ordering::Relaxed);
                    if let Some(ages) = &ages {
                        let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
                        ages.extend(packet::age_us(&datagram));
                    }
                }
            };
            listening.spawn_on(listen, runtime.handle());
        }
        Self {
            shape,
            members,
            received,
            ages,
            _listening: listening,
        }
    }
}

impl Traffic for Quic {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn talk(&mut self, turn: u64) -> bool {
        let Some(member) = self.members.get(talker(self.shape, turn)) else {
            return false;
        };
        let datagram = packet::datagram(member.sender).to_vec();
        member.connection.send_datagram(datagram.into()).is_ok()
    }

    fn drain(&mut self) {}

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What QUIC drops here shows as loss and cannot be told from the relay's.
    fn dropped_here(&self) -> bool {
        false
    }

    fn ages_us(&mut self) -> Vec<u32> {
        std::mem::take(&mut *self.ages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
