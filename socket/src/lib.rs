//! One UDP socket for QUIC and lanes: batches, TTL, SO_REUSEPORT.
