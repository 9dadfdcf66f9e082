//! Protobuf definitions of WZP and the code generated from them, nothing else.

/// Signalling between clients and relays: one bidirectional QUIC stream a connection.
///
/// Framing and limits are in `wzp-wire`; the meaning of each message in `docs/wire.md`.
pub mod signal {
    #![allow(
        missing_docs,
        clippy::all,
        reason = "generated from wzp/signal/v1/signal.proto"
    )]
    include!(concat!(env!("OUT_DIR"), "/wzp.signal.v1.rs"));
}

/// Between relays and the control plane: gRPC over mTLS.
#[cfg(feature = "control")]
pub mod control {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        unused_qualifications,
        unreachable_pub,
        reason = "generated from wzp/control/v1/control.proto"
    )]
    include!(concat!(env!("OUT_DIR"), "/wzp.control.v1.rs"));
}
