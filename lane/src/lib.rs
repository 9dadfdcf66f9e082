//! Media lanes: QUIC-shaped packets, keys, replay window and address validation, without IO.
