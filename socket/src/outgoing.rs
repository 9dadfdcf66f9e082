//! The sending half of a lane together with the address it goes to.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use wzp_lane::Sealer;

use crate::address::Address;

/// A lane that we send on, shared by every thread that sends on it.
pub struct Outgoing {
    /// Its keys and counter.
    pub sealer: Sealer,
    address: Trusted,
}

/// The address sits on cache lines of its own: the sealer's counter is written for every packet.
#[repr(align(128))]
struct Trusted(ArcSwap<Address>);

impl Outgoing {
    /// A lane whose packets go to `address`, at first that of the QUIC connection.
    pub fn new(sealer: Sealer, address: Address) -> Self {
        Self {
            sealer,
            address: Trusted(ArcSwap::from_pointee(address)),
        }
    }

    /// Where packets go now. Both halves of the address belong together: they are one swapped pointer.
    pub fn address(&self) -> Guard<Arc<Address>> {
        self.address.0.load()
    }

    /// Packets go to `address` from now on. Call it only with an address that answered a PING.
    pub fn move_to(&self, address: Address) {
        self.address.0.store(Arc::new(address));
    }
}
