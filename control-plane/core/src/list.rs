//! What clients and relays are told of the relays.
//!
//! [`crate::Registry`] raises the generation when, and only when, anything changes that an [`Entry`] says.

use crate::registry::{Offer, Registry, Relay};

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

impl Band {
    /// The band of `load` for a relay that was in this one: it is left downwards only when well below its edge.
    pub(crate) fn next(self, load: f32) -> Self {
        let edge = |upwards: f32, from: Self| if self >= from { upwards - 0.1 } else { upwards };
        if load >= edge(0.8, Self::High) {
            Self::High
        } else if load >= edge(0.5, Self::Mid) {
            Self::Mid
        } else {
            Self::Low
        }
    }
}

/// One line of the list. Its addresses are [`Relay::verified`].
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which one.
    pub relay: &'a Relay,
    /// How it is offered.
    pub offer: Offer,
    /// How loaded it is.
    pub band: Band,
    /// What it can carry in thousandths of the strongest one, 1 to 1,000.
    pub weight: u32,
}

/// The list, by name.
pub fn entries(registry: &Registry) -> impl Iterator<Item = Entry<'_>> {
    let listed = || {
        registry
            .relays()
            .filter_map(|relay| Some((relay, relay.offer()?)))
    };
    let strongest = listed().map(|(relay, _)| strength(relay)).max().unwrap_or(1);
    listed().map(move |(relay, offer)| Entry {
        relay,
        offer,
        band: relay.band(),
        weight: u32::try_from(1_000 * strength(relay) / strongest)
            .map_or(1_000, |weight| weight.clamp(1, 1_000)),
    })
}

/// In packets a second; a core that does not say does 100,000.
fn strength(relay: &Relay) -> u64 {
    let capacity = relay.capacity();
    match capacity.packets_per_second {
        0 => u64::from(capacity.cores.max(1)) * 100_000,
        stated => stated.min(1 << 40),
    }
}

#[cfg(test)]
mod tests {
    use super::Band::{High, Low, Mid};

    #[test]
    fn a_band_is_left_downwards_only_when_well_below_its_edge() {
        assert_eq!([0.2, 0.5, 0.8].map(|load| Low.next(load)), [Low, Mid, High]);
        assert_eq!([0.75, 0.65, 0.1].map(|load| High.next(load)), [High, Mid, Low]);
        assert_eq!([0.45, 0.39, 0.79].map(|load| Mid.next(load)), [Mid, Low, Mid]);
    }
}
