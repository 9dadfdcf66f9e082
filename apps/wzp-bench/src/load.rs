//! Load on a forwarder that costs little itself: one socket per room, read in batches.

mod pace;
mod rooms;

pub(crate) use pace::Pace;
pub(crate) use rooms::{Rooms, Shape};
