//! Microphone and loudspeaker: whatever they run at, the call sees mono 48 kHz.
//!
//! The sound card calls from its own thread, which must neither wait nor allocate; it meets the call in a
//! lock-free ring. A ring that overflows loses the newest sound, one that runs dry plays silence, and both
//! are counted.

mod pump;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig};
use rtrb::{Consumer, Producer, RingBuffer};

use self::pump::{Drain, Feed};
use crate::dsp::{BLOCK, UnsupportedRate};

/// Half a second: far more than the call ever lets wait, far less than anybody would listen to.
const RING: usize = 50 * BLOCK;

/// `record` or `play` for samples of the format that the device has.
macro_rules! of_its_format {
    ($open:ident, $format:expr, $device:expr) => {
        match $format {
            SampleFormat::I8 => $open::<i8>,
            SampleFormat::I16 => $open::<i16>,
            SampleFormat::I32 => $open::<i32>,
            SampleFormat::U8 => $open::<u8>,
            SampleFormat::U16 => $open::<u16>,
            SampleFormat::U32 => $open::<u32>,
            SampleFormat::F32 => $open::<f32>,
            SampleFormat::F64 => $open::<f64>,
            other => {
                return Err(DeviceError::Format {
                    device: $device,
                    format: other.to_string(),
                });
            }
        }
    };
}

/// Why the sound devices cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The machine has no microphone.
    #[error("this machine has no microphone that can be used")]
    NoMicrophone,
    /// The machine has nothing to play sound on.
    #[error("this machine has no loudspeaker that can be used")]
    NoLoudspeaker,
    /// Another program holds the device.
    #[error("the {0} is in use by another program")]
    Busy(&'static str),
    /// The system does not let this program use it.
    #[error("the system does not let this program use the {0}")]
    Denied(&'static str),
    /// It wants samples of a kind we do not know.
    #[error("the {device} wants samples as {format}, which is not supported")]
    Format {
        /// Which device.
        device: &'static str,
        /// The system's name of the format.
        format: String,
    },
    /// It runs at a rate out of range.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
    /// Anything else the sound system reports.
    #[error("the {device} cannot be opened")]
    System {
        /// Which device.
        device: &'static str,
        /// What the sound system says.
        #[source]
        source: cpal::Error,
    },
}

/// The sound devices of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Devices;

impl Devices {
    /// Opens the system's default microphone and loudspeaker and starts both.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] says which of the two is missing, and why.
    pub fn open() -> Result<(Capture, Playback), DeviceError> {
        let host = cpal::default_host();
        let capture = Capture::open(&host)?;
        let playback = Playback::open(&host)?;
        Ok((capture, playback))
    }
}

/// The microphone, until dropped.
#[derive(Debug)]
pub struct Capture {
    running: Running,
    ring: Consumer<f32>,
}

impl Capture {
    fn open(host: &cpal::Host) -> Result<Self, DeviceError> {
        const NAME: &str = "microphone";
        let refused = |error| refusal(error, NAME, DeviceError::NoMicrophone);
        let device = host.default_input_device().ok_or(DeviceError::NoMicrophone)?;
        let config = device.default_input_config().map_err(refused)?;
        let (producer, ring) = RingBuffer::new(RING);
        let feed = Feed::new(config.channels(), config.sample_rate(), producer)?;
        let open = of_its_format!(record, config.sample_format(), NAME);
        let running = Running::start(|shared| open(&device, config.config(), feed, shared));
        Ok(Self {
            running: running.map_err(refused)?,
            ring,
        })
    }

    /// Takes the next 10 ms when they are there, and says whether they were. Never waits.
    pub fn read(&mut self, block: &mut [f32; BLOCK]) -> bool {
        pump::take(&mut self.ring, block)
    }

    /// Samples lost because nobody read in time.
    #[must_use]
    pub fn missed_samples(&self) -> u64 {
        self.running.missed_samples()
    }

    /// Whether the device is gone: nothing more will come.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.running.has_failed()
    }
}

/// The loudspeaker, until dropped.
#[derive(Debug)]
pub struct Playback {
    running: Running,
    ring: Producer<f32>,
}

impl Playback {
    fn open(host: &cpal::Host) -> Result<Self, DeviceError> {
        const NAME: &str = "loudspeaker";
        let refused = |error| refusal(error, NAME, DeviceError::NoLoudspeaker);
        let device = host.default_output_device().ok_or(DeviceError::NoLoudspeaker)?;
        let config = device.default_output_config().map_err(refused)?;
        let (ring, consumer) = RingBuffer::new(RING);
        let drain = Drain::new(config.channels(), config.sample_rate(), consumer)?;
        let open = of_its_format!(play, config.sample_format(), NAME);
        let running = Running::start(|shared| open(&device, config.config(), drain, shared));
        Ok(Self {
            running: running.map_err(refused)?,
            ring,
        })
    }

    /// Queues samples and returns how many there was room for. Never waits.
    pub fn write(&mut self, samples: &[f32]) -> usize {
        pump::put(&mut self.ring, samples)
    }

    /// Samples queued and not yet taken by the device.
    #[must_use]
    pub fn queued_samples(&self) -> usize {
        RING - self.ring.slots()
    }

    /// Samples played as silence because nothing was queued.
    #[must_use]
    pub fn missed_samples(&self) -> u64 {
        self.running.missed_samples()
    }

    /// Whether the device is gone: nothing more will be heard.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.running.has_failed()
    }
}

/// A device that runs until this is dropped.
struct Running {
    _stream: cpal::Stream,
    shared: Arc<Shared>,
}

/// What both threads of a device count and watch.
#[derive(Debug, Default)]
struct Shared {
    missed: AtomicU64,
    failed: AtomicBool,
}

impl Running {
    fn start(
        open: impl FnOnce(Arc<Shared>) -> Result<cpal::Stream, cpal::Error>,
    ) -> Result<Self, cpal::Error> {
        let shared = Arc::new(Shared::default());
        let stream = open(Arc::clone(&shared))?;
        stream.play()?;
        Ok(Self {
            _stream: stream,
            shared,
        })
    }

    fn missed_samples(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

fn record<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut feed: Feed,
    shared: Arc<Shared>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let watched = Arc::clone(&shared);
    let heard = move |samples: &[T], _: &cpal::InputCallbackInfo| {
        let missed = feed.feed(samples);
        shared.missed.fetch_add(missed, Ordering::Relaxed);
    };
    device.build_input_stream(config, heard, move |error| watch(&watched, &error), None)
}

fn play<T>(
    device: &cpal::Device,
    config: StreamConfig,
    mut drain: Drain,
    shared: Arc<Shared>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let watched = Arc::clone(&shared);
    let wanted = move |samples: &mut [T], _: &cpal::OutputCallbackInfo| {
        let missed = drain.drain(samples);
        shared.missed.fetch_add(missed, Ordering::Relaxed);
    };
    device.build_output_stream(config, wanted, move |error| watch(&watched, &error), None)
}

/// A stream goes on after a hiccup or a change of route; every other error ends it.
fn watch(shared: &Shared, error: &cpal::Error) {
    match error.kind() {
        ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        _ => shared.failed.store(true, Ordering::Relaxed),
    }
}

fn refusal(error: cpal::Error, device: &'static str, missing: DeviceError) -> DeviceError {
    match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => missing,
        ErrorKind::DeviceBusy => DeviceError::Busy(device),
        ErrorKind::PermissionDenied => DeviceError::Denied(device),
        _ => DeviceError::System {
            device,
            source: error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_devices_is_told_so() {
        // On a machine that has them, opening them is the proof.
        match Devices::open() {
            Ok((capture, playback)) => assert!(!capture.has_failed() && !playback.has_failed()),
            Err(error @ (DeviceError::NoMicrophone | DeviceError::NoLoudspeaker)) => {
                assert!(error.to_string().starts_with("this machine has no "));
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_system_reports_is_said_in_our_words() {
        let said =
            |kind: ErrorKind| refusal(kind.into(), "microphone", DeviceError::NoMicrophone).to_string();
        assert_eq!(
            said(ErrorKind::DeviceNotAvailable),
            "this machine has no microphone that can be used"
        );
        assert_eq!(
            said(ErrorKind::DeviceBusy),
            "the microphone is in use by another program"
        );
        assert_eq!(
            said(ErrorKind::PermissionDenied),
            "the system does not let this program use the microphone"
        );
        assert_eq!(
            said(ErrorKind::UnsupportedConfig),
            "the microphone cannot be opened"
        );
    }

    #[test]
    fn a_hiccup_does_not_end_a_stream_but_unplugging_does() {
        let shared = Shared::default();
        watch(&shared, &ErrorKind::Xrun.into());
        assert!(!shared.failed.load(Ordering::Relaxed));
        watch(&shared, &ErrorKind::DeviceNotAvailable.into());
        assert!(shared.failed.load(Ordering::Relaxed));
    }
}
