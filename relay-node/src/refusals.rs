//! Refusals: each one is counted, and the first of a minute is logged where a limit of the relay refuses.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tracing::{debug, warn};
use wzp_relay_core::admission;
use wzp_socket::clock;
use wzp_wire::{Instant, signal::Reason};

use crate::{lanes::NoLane, relay::Shared};

/// Between two lines about the same limit.
const QUIET: Duration = Duration::from_secs(60);

/// What was logged of each limit.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<&'static str, Complaint>>);

#[derive(Debug)]
struct Complaint {
    logged: Instant,
    unsaid: u64,
}

impl Complaints {
    /// One more refusal by `limit`: how many to speak of now, if it is time to.
    fn count(&self, limit: &'static str, now: Instant) -> Option<u64> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let complaint = match limits.entry(limit) {
            Entry::Vacant(entry) => {
                entry.insert(Complaint {
                    logged: now,
                    unsaid: 0,
                });
                return Some(1);
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        complaint.unsaid += 1;
        if now.duration_since(complaint.logged) < QUIET {
            return None;
        }
        complaint.logged = now;
        Some(std::mem::take(&mut complaint.unsaid))
    }
}

impl Shared {
    /// Somebody is told no.
    pub(crate) fn refused(&self, reason: Reason) {
        self.metrics.refused(reason);
        if let Some(limit) = limit(reason) {
            self.complain(&admission::label(reason), limit);
        }
    }

    /// Somebody gets no lane, and QUIC datagrams for it.
    pub(crate) fn no_lane(&self, why: NoLane) {
        debug!(%why, "no lane");
        self.metrics.no_lane(why);
        if why == NoLane::Full {
            self.complain("no_lane", "--max-lanes");
        }
    }

    fn complain(&self, reason: &str, limit: &'static str) {
        if let Some(refused) = self.complaints.count(limit, clock::now()) {
            warn!(%reason, limit, refused, "a limit refuses");
        }
    }
}

/// The limit behind a reason that says more of the relay than of who is refused.
fn limit(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::MessageRate => Some("--message-rate"),
        Reason::TooManyConnections => {
            Some("--max-connections, --max-connections-per-prefix, --max-connections-per-identity")
        }
        Reason::TooManyHandshakes => Some("--handshakes-per-prefix"),
        Reason::TooManyRooms => Some("--max-rooms"),
        Reason::RoomFull => Some("--max-members"),
        Reason::TooManyJoins => Some("--join-rate"),
        Reason::Overloaded => Some("wzp_relay_overload_level"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_complained_of_once_a_minute_with_what_was_left_unsaid() {
        let complaints = Complaints::default();
        let at = |limit, second: u64| complaints.count(limit, Instant::from_micros(second * 1_000_000));
        assert_eq!(at("rooms", 5), Some(1));
        assert_eq!(at("rooms", 6), None);
        assert_eq!(at("joins", 7), Some(1));
        assert_eq!(at("rooms", 64), None);
        assert_eq!(at("rooms", 65), Some(3));
        assert_eq!(at("rooms", 66), None);
        assert_eq!(at("rooms", 200), Some(2));
    }
}
