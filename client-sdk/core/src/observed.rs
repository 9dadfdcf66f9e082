//! Under which address a relay sees us.
//!
//! A lane moves to a new address with its first packet from there; QUIC's server side moves only when QUIC says
//! something. So a PONG that shows a new address is followed by a word of signalling at once.

use std::{net::SocketAddr, time::Duration};

use wzp_wire::Instant;

/// A NAT that takes another address for each packet does not make us chatter.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The address that one relay saw last.
#[derive(Debug)]
pub struct Observed {
    address: SocketAddr,
    said_at: Option<Instant>,
}

impl Observed {
    /// Starts with what the relay saw when it said welcome.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            said_at: None,
        }
    }

    /// A PONG over the lane says where its PING came from. Says whether signalling should send something now.
    pub fn handle_pong(&mut self, now: Instant, address: SocketAddr) -> bool {
        let moved = address != self.address;
        let early = self.said_at.is_some_and(|at| now < at + SAY_EVERY);
        if !moved || early {
            return false;
        }
        self.address = address;
        self.said_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn each_new_address_is_answered_once() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let mut observed = Observed::new(port(1));
        assert!(!observed.handle_pong(at(1), port(1)));
        assert!(observed.handle_pong(at(2), port(2)));
        assert!(!observed.handle_pong(at(3), port(2)));
        assert!(observed.handle_pong(at(4), port(1)), "back again");
    }

    #[test]
    fn address_that_changes_all_the_time_is_answered_once_a_second_and_never_forgotten() {
        let mut observed = Observed::new(port(1));
        let mut said = 0;
        for tick in 0..1_000_u64 {
            let now = Instant::ZERO + Duration::from_millis(10 * tick);
            said += u32::from(observed.handle_pong(now, port(2 + tick as u16)));
        }
        assert_eq!(said, 10);
        let later = Instant::ZERO + Duration::from_secs(20);
        assert!(observed.handle_pong(later, port(9_999)));
    }
}
