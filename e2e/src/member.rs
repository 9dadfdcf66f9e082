//! A member of a call, through the SDK.

use std::{net::SocketAddr, time::Duration};

use wzp_sdk::{
    Builder, Call, Carrier, CarrierWhy, Client, ConnectError, EndReason, Event, JoinError, JoinOptions,
    Preference, Processing, RoomName, Stats, TierChoice, Trust, chaos, identity::Identity,
};

use crate::{
    PATIENCE,
    ears::{Ears, Voice},
    relay::Relay,
    until_within,
};

/// Who comes to a room, and how.
#[derive(Default)]
pub struct Guest {
    /// Which room; empty is `tea`.
    pub room: &'static str,
    /// The tone to say; 0.0 is silence.
    pub hertz: f32,
    /// How loud; 0.0 is as loud as everybody.
    pub amplitude: f32,
    /// The tier to send in.
    pub tier: TierChoice,
    /// The carrier.
    pub carrier: Preference,
    /// Not straight to the relay but to this address.
    pub via: Option<SocketAddr>,
    /// Faults under its socket.
    pub chaos: Option<chaos::Link>,
    /// Who it is; default somebody new.
    pub identity: Option<Identity>,
    /// What the relay shares with its members.
    pub secret: Option<&'static str>,
}

/// Somebody in a room.
pub struct Member {
    /// The connection.
    pub client: Client,
    /// The stay.
    pub call: Call,
    /// What it hears.
    pub ears: Ears,
    /// What happened so far.
    pub events: Vec<Event>,
}

impl Guest {
    /// Somebody who says this tone.
    pub fn saying(hertz: f32) -> Self {
        Self {
            hertz,
            ..Self::default()
        }
    }

    /// Connects without joining.
    ///
    /// # Errors
    /// Those of the SDK.
    pub async fn connect(&self, relay: &Relay) -> Result<Client, ConnectError> {
        let mut builder: Builder = Client::builder()
            .relay(self.via.unwrap_or(relay.address).to_string())
            .trust(Trust::Pinned(relay.certificate))
            .carrier(self.carrier);
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        if let Some(link) = &self.chaos {
            builder = builder.chaos(link);
        }
        if let Some(secret) = self.secret {
            builder = builder.secret(secret);
        }
        builder.connect().await
    }

    /// Connects and joins.
    pub async fn join(self, relay: &Relay) -> Member {
        let client = self.connect(relay).await.unwrap();
        self.join_with(client).await.unwrap()
    }

    /// Joins over a connection that is there.
    ///
    /// # Errors
    /// Those of the SDK.
    pub async fn join_with(self, client: Client) -> Result<Member, JoinError> {
        let ears = Ears::default();
        let room = if self.room.is_empty() { "tea" } else { self.room };
        let source: Box<dyn wzp_sdk::audio::Source> = if self.amplitude > 0.0 {
            Box::new(Voice::as_loud_as(self.amplitude, self.hertz))
        } else if self.hertz > 0.0 {
            Box::new(Voice::new(self.hertz))
        } else {
            Box::new(wzp_sdk::audio::Silence)
        };
        let call = client
            .join(JoinOptions {
                room: RoomName::parse(room).unwrap(),
                tier: self.tier,
                echo: false,
                source,
                sink: Box::new(ears.clone()),
                // A tone is noise to the one, and a pause to the other.
                processing: Processing {
                    denoise: false,
                    echo_canceller: false,
                    suppress_pauses: self.hertz == 0.0,
                },
            })
            .await?;
        Ok(Member {
            client,
            call,
            ears,
            events: Vec::new(),
        })
    }
}

impl Member {
    /// Waits until the tone is to be heard.
    pub async fn hears(&self, hertz: f32) {
        self.hears_within(PATIENCE, hertz).await;
    }

    /// As [`Self::hears`], for what takes its time.
    pub async fn hears_within(&self, patience: Duration, hertz: f32) {
        let what = format!("{hertz} Hz at member {}", self.call.sender());
        until_within(patience, &what, || self.ears.hear(hertz).then_some(())).await;
    }

    /// Waits until the tone is gone.
    pub async fn hears_no_more(&self, hertz: f32) {
        let what = format!("the end of {hertz} Hz at member {}", self.call.sender());
        until_within(PATIENCE, &what, || (!self.ears.hear(hertz)).then_some(())).await;
    }

    /// Waits until the figures are as wanted.
    pub async fn stats(&self, patience: Duration, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        until_within(patience, what, || {
            Some(self.call.stats()).filter(|stats| wanted(stats))
        })
        .await
    }

    /// Waits for an event that `pick` wants; the others are kept in [`Self::events`].
    pub async fn event<V>(
        &mut self,
        patience: Duration,
        what: &str,
        pick: impl Fn(&Event) -> Option<V>,
    ) -> V {
        let waiting = async {
            loop {
                let event = self.call.event().await;
                let event =
                    event.unwrap_or_else(|| panic!("no {what}, and the call is over: {:?}", self.events));
                let picked = pick(&event);
                self.events.push(event);
                if let Some(picked) = picked {
                    return picked;
                }
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(picked) => picked,
            Err(_) => panic!("waited {} s for {what}: {:?}", patience.as_secs(), self.events),
        }
    }

    /// Waits for the end of the call.
    pub async fn end(&mut self, patience: Duration) -> EndReason {
        self.event(patience, "end of the call", |event| match event {
            Event::Ended { reason } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until media takes this carrier, and says why it does.
    pub async fn carrier(&mut self, patience: Duration, wanted: Carrier) -> CarrierWhy {
        self.event(patience, &format!("{wanted:?}"), |event| match event {
            Event::Path { carrier, why, .. } if *carrier == wanted => Some(*why),
            _ => None,
        })
        .await
    }

    /// What happened since it was last asked.
    pub fn news(&mut self) -> Vec<Event> {
        let mut news = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(event)) =
            std::pin::pin!(self.call.event()).as_mut().poll(&mut context)
        {
            news.push(event);
        }
        self.events.extend(news.iter().cloned());
        news
    }
}
