//! What clients and relays are told of the relays.

use crate::registry::{Offer, Relay};

/// How loaded a relay is, coarsely, so that the list changes rarely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Below half.
    #[default]
    Low,
    /// Between.
    Mid,
    /// 80 % and more.
    High,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which one.
    pub relay: &'a Relay,
    /// How it is offered.
    pub offer: Offer,
    /// How loaded it is.
    pub band: Band,
    /// How much it can carry beside others, 1 to 1,000.
    pub weight: u32,
}
