//! Rooms of several members around a relay that delays, reorders across senders, loses or lies.

mod crowds;
mod hostile;
mod nonces;
mod relay;
mod rooms;
