//! Decisions of the relay: rooms, fan-out, admission and limits, without IO.
