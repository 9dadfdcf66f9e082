//! `--send-tone`, `--send-file`, `--record` and `--live`: a call with sound going in, out, or both.

#[cfg(feature = "device")]
mod live;

use std::{future::pending, path::Path, time::Duration};

use wzp_sdk::{
    Processing, RoomName,
    audio::{self, Discard, Silence, Tone, WavSink, WavSource, WavStatus},
};

use crate::{
    args::{Link, Sound, Source},
    exit::{Failure, chain},
    replacement::Replacement,
    report::{Notice, Report},
    session::{End, Ends, Go, Session, Stop},
};

const TONE_HZ: f32 = 440.0;
const TONE_AMPLITUDE: f32 = 0.3;
const FRAMES_PER_SECOND: u64 = 100;
/// How long we stay after the last sound, so that its repair packets leave too.
const LINGER: Duration = Duration::from_millis(500);

/// A recording under way. An older one stays what it is until the call has begun.
struct Recording {
    file: String,
    replacement: Replacement,
    status: WavStatus,
}

/// Places the call.
///
/// # Errors
/// [`Failure`] with the exit code of what went wrong; what was recorded until then is kept.
pub(crate) async fn run(
    link: Link,
    room: RoomName,
    sound: Sound,
    report: &Report,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let sends = sound.source != Source::Nothing;
    let (ends, mut recording) = open(&sound)?;
    let mut session = Session::open(link, room, ends, report, stop).await?;
    if let Some(Err(failure)) = recording.as_mut().map(Recording::keep) {
        session.close(report).await;
        return Err(failure);
    }
    let alarm = async {
        match &recording {
            Some(recording) => recording.alarm(sends, report).await,
            None => pending().await,
        }
    };
    let mut end = session
        .run(sound.time, report, stop, alarm, |_, _, _| Go::On)
        .await;
    if let End::SourceEnded = end {
        end = match sound.source {
            // It has no end of its own.
            Source::Devices { .. } => End::Broken(Failure::failed("the microphone is gone")),
            _ => {
                session
                    .run(Some(LINGER), report, stop, pending(), |_, _, _| Go::On)
                    .await
            }
        };
    }
    session.close(report).await;
    match (end, recording.as_ref().and_then(Recording::failure)) {
        (End::Broken(mut failure), Some(text)) => {
            failure.text += &format!("; {text}");
            Err(failure)
        }
        (End::Broken(failure), None) => Err(failure),
        (_, Some(text)) => Err(Failure::failed(text)),
        (_, None) => Ok(()),
    }
}

/// Opens everything that can be wrong before anybody is called.
fn open(sound: &Sound) -> Result<(Ends, Option<Recording>), Failure> {
    if let Source::Devices { denoise } = sound.source {
        return Ok((devices(denoise)?, None));
    }
    let source: Box<dyn audio::Source> = match &sound.source {
        Source::Tone(time) => Box::new(Tone::new(
            TONE_HZ,
            TONE_AMPLITUDE,
            time.as_secs() * FRAMES_PER_SECOND,
        )),
        Source::File(file) => Box::new(WavSource::open(file).map_err(|e| unreadable(file, &e))?),
        Source::Nothing | Source::Devices { .. } => Box::new(Silence),
    };
    // Noise reduction takes a tone for noise, and a file is sent as it was made.
    let suppress_pauses = !matches!(sound.source, Source::Tone(_));
    let processing = Processing {
        denoise: false,
        echo_canceller: false,
        suppress_pauses,
    };
    let (sink, recording): (Box<dyn audio::Sink>, _) = match &sound.record {
        Some(file) => {
            let (sink, recording) = Recording::begin(file)?;
            (Box::new(sink), Some(recording))
        }
        None => (Box::new(Discard), None),
    };
    Ok((
        Ends {
            source,
            sink,
            processing,
            echo: false,
        },
        recording,
    ))
}

/// What to say of a WAV file that is none.
pub(crate) fn unreadable(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("--send-file {}: {}", file.display(), chain(error)))
}

#[cfg(feature = "device")]
fn devices(denoise: bool) -> Result<Ends, Failure> {
    live::open(denoise)
}

#[cfg(not(feature = "device"))]
fn devices(_denoise: bool) -> Result<Ends, Failure> {
    Err(Failure::failed(
        "--live: this wzp-client was built without sound devices; build it with `cargo build --release --features \
         wzp-client/device` (on Linux that needs libasound2-dev)",
    ))
}

impl Recording {
    /// Opens the file, so that nobody is called in vain.
    fn begin(file: &Path) -> Result<(WavSink, Self), Failure> {
        let unwritable =
            |e: &dyn std::error::Error| Failure::usage(format!("--record {}: {}", file.display(), chain(e)));
        let replacement = Replacement::begin(file).map_err(|e| unwritable(&e))?;
        let (sink, status) = WavSink::create(replacement.path()).map_err(|e| unwritable(&e))?;
        let recording = Self {
            file: file.display().to_string(),
            replacement,
            status,
        };
        Ok((sink, recording))
    }

    /// From now on the recording is where it was asked for, and can be played at any time.
    fn keep(&mut self) -> Result<(), Failure> {
        let failed = |e| Failure::failed(format!("--record {}: {e}", self.file));
        self.replacement.keep().map_err(failed)
    }

    /// A recording that fails is told of at once, and ends a call that is there for nothing else.
    async fn alarm(&self, sends: bool, report: &Report) -> Go {
        report.notice(self.stopped(&*self.status.failed().await));
        if sends { Go::On } else { Go::Enough }
    }

    /// What to say at the end, if not everything that was heard is in the file.
    fn failure(&self) -> Option<String> {
        Some(self.stopped(&*self.status.error()?).to_string())
    }

    fn stopped(&self, error: &dyn std::error::Error) -> Notice {
        Notice::Recording {
            file: self.file.clone(),
            why: chain(error),
        }
    }
}
