//! The microphone and the loudspeaker as the two ends of a call.

use wzp_sdk::{
    Processing,
    audio::{FRAME, Frame, Read, Sink, Source},
    device::{Capture, Devices, Playback},
};

use crate::{
    exit::{Failure, chain},
    session::Ends,
};

/// Sound that may wait for the loudspeaker: beyond it the two clocks have drifted apart, and 10 ms are left out.
const QUEUED_MAX: usize = 10 * FRAME;

/// Opens both devices.
///
/// # Errors
/// Which of the two is missing or refused, and why.
pub(super) fn open(denoise: bool) -> Result<Ends, Failure> {
    let (capture, playback) = Devices::open().map_err(|e| {
        Failure::failed(format!(
            "--live: {}; --send-file and --record work without sound devices",
            chain(&e)
        ))
    })?;
    let processing = Processing {
        denoise,
        echo_canceller: true,
        suppress_pauses: true,
    };
    Ok(Ends {
        source: Box::new(Microphone(capture)),
        sink: Box::new(Loudspeaker(playback)),
        processing,
        echo: false,
    })
}

struct Microphone(Capture);

impl Source for Microphone {
    fn read(&mut self, frame: &mut Frame) -> Read {
        if self.0.has_failed() {
            return Read::End;
        }
        if self.0.read(frame) {
            Read::Sound
        } else {
            Read::Silence
        }
    }
}

struct Loudspeaker(Playback);

impl Sink for Loudspeaker {
    fn write(&mut self, frame: &Frame) {
        if self.0.queued_samples() <= QUEUED_MAX {
            self.0.write(frame);
        }
    }
}
