//! Receivers' memory, fetched before it is needed.
//!
//! With thousands of lanes everything about a receiver lies in main memory, one thing behind the other, and each wait
//! would be as long as encrypting a packet. So while some receivers are served, the lanes of the next few are on
//! their way, and the ports of those behind them.

use std::{slice::Chunks, sync::Arc};

use wzp_relay_core::{FanOut, Outlet};
use wzp_socket::prefetch;

use crate::port::Port;

/// Receivers of one step. More would crowd each other out.
const STEP: usize = 4;

/// The targets of one packet, a few at a time.
pub(super) struct Ahead<'a> {
    outlets: &'a [Outlet<Arc<Port>>],
    ports: Chunks<'a, u16>,
    lanes: Chunks<'a, u16>,
    next: Chunks<'a, u16>,
}

impl<'a> Ahead<'a> {
    /// Begins to fetch what `targets`, indices into the outlets of `fan_out`, need.
    pub(super) fn new(fan_out: &'a FanOut<Arc<Port>>, targets: &'a [u16]) -> Self {
        let steps = targets.chunks(STEP);
        let mut ahead = Self {
            outlets: fan_out.outlets(),
            ports: steps.clone(),
            lanes: steps.clone(),
            next: steps,
        };
        ahead.fetch_ports();
        ahead.fetch_ports();
        ahead.fetch_lanes();
        ahead
    }

    fn fetch_ports(&mut self) {
        for outlet in of(self.outlets, self.ports.next()) {
            prefetch(&*outlet.port);
        }
    }

    fn fetch_lanes(&mut self) {
        for outlet in of(self.outlets, self.lanes.next()) {
            if let Some(lane) = &*outlet.port.lane() {
                lane.fetch();
            }
        }
    }
}

impl<'a> Iterator for Ahead<'a> {
    type Item = &'a [u16];

    fn next(&mut self) -> Option<&'a [u16]> {
        let few = self.next.next()?;
        self.fetch_lanes();
        self.fetch_ports();
        Some(few)
    }
}

fn of<'a>(
    outlets: &'a [Outlet<Arc<Port>>],
    few: Option<&'a [u16]>,
) -> impl Iterator<Item = &'a Outlet<Arc<Port>>> {
    few.unwrap_or_default()
        .iter()
        .filter_map(|at| outlets.get(usize::from(*at)))
}
