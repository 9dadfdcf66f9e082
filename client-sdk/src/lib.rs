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
//! In a cluster ([`Builder::control`]) a call is connected to every relay that serves its room: one carries, the others are
//! there at once when it dies, and when the room moves nobody hears it.
//! Everything async is cancel-safe unless it says otherwise. Errors say whose fault they are ([`Fault`]).
//! Tests of an application make the network under its clients as bad as they like ([`chaos`]).

#![deny(missing_docs)]

pub mod audio;
mod call;
pub mod chaos;
mod client;
pub mod codec;
mod control;
#[cfg(feature = "device")]
pub mod device;
pub mod dsp;
mod error;
pub mod identity_file;
mod media;
mod session;
mod trust;
pub mod wav;

pub use call::{Call, EndReason, Event, JoinOptions, PathStats, Processing, RemoteStats, Stats};
pub use client::{Builder, Client};
pub use control::Ticket;
pub use error::{ConnectError, ControlError, Fault, JoinError};
pub use session::RelayInfo;
pub use trust::{CertificateHash, NotACertificateHash, Trust, TrustError};
pub use wzp_identity as identity;
pub use wzp_sdk_core as core;
pub use wzp_sdk_core::{
    call::TierChoice,
    carrier::{Carrier, Preference, Why as CarrierWhy},
    paths::{Cause as PathCause, Role as PathRole},
    voice::{mode::Tier, receiver::LastSecond},
};
pub use wzp_wire::{
    RoomName, RoomNameError, SenderId,
    signal::{Reason, proto::NoticeKind},
};
