//! Enters a room and says back whatever it hears, one second later.
//!
//! ```text
//! cargo run --release -p wzp-sdk --example echo_bot -- 127.0.0.1:4433 tea
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use wzp_sdk::{
    Client, Event, JoinOptions, Processing, RoomName, TierChoice,
    audio::{FRAME, Frame, Read, Sink, Source},
};

/// A second of sound on its way back.
#[derive(Clone)]
struct Delay(Arc<Mutex<VecDeque<Frame>>>);

impl Delay {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(VecDeque::from(vec![[0.0; FRAME]; 100]))))
    }
}

impl Sink for Delay {
    fn write(&mut self, frame: &Frame) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(*frame);
    }
}

impl Source for Delay {
    fn read(&mut self, frame: &mut Frame) -> Read {
        let Some(oldest) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
            return Read::Silence;
        };
        *frame = oldest;
        Read::Sound
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(relay), Some(room)) = (arguments.next(), arguments.next()) else {
        return Err("usage: echo_bot HOST:PORT ROOM".into());
    };
    let client = Client::builder().relay(relay).connect().await?;
    let delay = Delay::new();
    let mut call = client
        .join(JoinOptions {
            room: RoomName::parse(&room)?,
            tier: TierChoice::Auto,
            echo: false,
            source: Box::new(delay.clone()),
            sink: Box::new(delay),
            processing: Processing {
                denoise: false,
                ..Processing::default()
            },
        })
        .await?;
    println!(
        "in the room as {}, with {} others",
        call.sender(),
        call.members_at_join()
    );
    while let Some(event) = call.event().await {
        println!("{event:?}");
        if matches!(event, Event::Ended { .. }) {
            break;
        }
    }
    Ok(())
}
