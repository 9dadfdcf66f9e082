//! The WZP client: encrypted voice calls over one UDP socket.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use wzp_sdk::{Client, Event, JoinOptions, Processing, RoomName, TierChoice, audio};
//!
//! let client = Client::builder().relay("relay.example.org:4433").connect().await?;
//! let mut call = client
//!     .join(JoinOptions {
//!         room: RoomName::parse("tea")?,
//!         tier: TierChoice::Auto,
//!         echo: false,
//!         source: Box::new(audio::Tone::new(440.0, 0.3, 500)),
//!         sink: Box::new(audio::Discard),
//!         processing: Processing::default(),
//!     })
//!     .await?;
//! while let Some(event) = call.event().await {
//!     println!("{event:?}");
//!     if event == Event::SourceEnded {
//!         break;
//!     }
//! }
//! println!("{:?}", call.leave().await);
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] owns the socket and the connection to a relay, a [`Call`] is its stay in one room; dropping either ends it.
//! Everything async is cancel-safe unless it says otherwise. Errors say whose fault they are ([`Fault`]).
//! Tests of an application make the network under its clients as bad as they like ([`chaos`]).

#![deny(missing_docs)]

pub mod audio;
mod call;
pub mod chaos;
mod client;
pub mod codec;
#[cfg(feature = "device")]
pub mod device;
pub mod dsp;
mod error;
pub mod identity_file;
mod media;
mod session;
mod trust;
pub mod wav;

pub use call::{Call, EndReason, Event, JoinOptions, Processing, RemoteStats, Stats};
pub use client::{Builder, Client};
pub use error::{ConnectError, Fault, JoinError};
pub use session::RelayInfo;
pub use trust::{CertificateHash, NotACertificateHash, Trust, TrustError};
pub use wzp_identity as identity;
pub use wzp_sdk_core as core;
pub use wzp_sdk_core::{
    call::TierChoice,
    carrier::{Carrier, Preference, Why as CarrierWhy},
    voice::{mode::Tier, receiver::LastSecond},
};
pub use wzp_wire::{
    RoomName, RoomNameError, SenderId,
    signal::{Reason, proto::NoticeKind},
};
