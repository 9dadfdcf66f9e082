//! Where the sound of a call comes from and goes to: 10 ms frames of mono samples at 48 kHz.

use std::{f32::consts::TAU, fs::File, future::pending, path::Path, sync::Arc};

use tokio::sync::watch;

use crate::wav::{ReadError, Reader, WriteError, Writer};

/// Samples in a frame.
pub const FRAME: usize = 480;

/// 10 ms of sound, mono, 48 kHz, from -1 to 1.
pub type Frame = [f32; FRAME];

/// What a [`Source`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The frame is filled.
    Sound,
    /// There is nothing to hear now; the frame is not touched and counts as silence.
    Silence,
    /// The source is at its end and is not asked again; the call goes on in silence.
    End,
}

/// Gives the sound that a call sends. Asked once every 10 ms on the media thread, so it must not wait.
pub trait Source: Send {
    /// Fills the next frame.
    fn read(&mut self, frame: &mut Frame) -> Read;
}

/// Takes the sound that a call hears. Given a frame every 10 ms on the media thread, so it must not wait.
pub trait Sink: Send {
    /// Takes the next frame: everybody in the room, mixed.
    fn write(&mut self, frame: &Frame);
}

/// Sends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl Source for Silence {
    fn read(&mut self, _frame: &mut Frame) -> Read {
        Read::Silence
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn write(&mut self, _frame: &Frame) {}
}

/// A sine for some time.
#[derive(Debug, Clone)]
pub struct Tone {
    phase: f32,
    step: f32,
    amplitude: f32,
    frames_left: u64,
}

impl Tone {
    /// A tone of so many hertz at `amplitude` (0 to 1), for so many frames of 10 ms.
    pub fn new(hertz: f32, amplitude: f32, frames: u64) -> Self {
        Self {
            phase: 0.0,
            step: TAU * hertz / 48_000.0,
            amplitude,
            frames_left: frames,
        }
    }
}

impl Source for Tone {
    fn read(&mut self, frame: &mut Frame) -> Read {
        let Some(left) = self.frames_left.checked_sub(1) else {
            return Read::End;
        };
        self.frames_left = left;
        for sample in frame {
            *sample = self.amplitude * self.phase.sin();
            self.phase = (self.phase + self.step) % TAU;
        }
        Read::Sound
    }
}

/// A WAV file, from its beginning to its end.
pub struct WavSource {
    reader: Reader<WavFile>,
}

/// What a [`Reader`] reads from when it was opened by path.
type WavFile = std::io::BufReader<File>;

impl WavSource {
    /// Opens a file of any rate and number of channels.
    ///
    /// # Errors
    /// [`ReadError`] says what is wrong with the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Ok(Self {
            reader: Reader::open(path)?,
        })
    }
}

impl Source for WavSource {
    fn read(&mut self, frame: &mut Frame) -> Read {
        match self.reader.read(frame) {
            Ok(0) | Err(_) => Read::End,
            Ok(read) => {
                if let Some(rest) = frame.get_mut(read..) {
                    rest.fill(0.0);
                }
                Read::Sound
            }
        }
    }
}

/// Records to a WAV file, which can be played at any time. The last second is written when it is dropped.
pub struct WavSink {
    writer: Option<Writer<File>>,
    failed: watch::Sender<Option<Arc<WriteError>>>,
}

/// Tells from outside whether everything that a [`WavSink`] was given is in the file, also after it was dropped.
#[derive(Clone)]
pub struct WavStatus(watch::Receiver<Option<Arc<WriteError>>>);

impl WavSink {
    /// Begins a file.
    ///
    /// # Errors
    /// [`WriteError`] when not even its header can be written.
    pub fn create(path: impl AsRef<Path>) -> Result<(Self, WavStatus), WriteError> {
        let writer = Writer::create(path)?;
        let (failed, status) = watch::channel(None);
        let sink = Self {
            writer: Some(writer),
            failed,
        };
        Ok((sink, WavStatus(status)))
    }
}

impl Drop for WavSink {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.writer.take().map(Writer::finish) {
            self.failed.send_replace(Some(Arc::new(error)));
        }
    }
}

impl Sink for WavSink {
    fn write(&mut self, frame: &Frame) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write(frame) {
            self.failed.send_replace(Some(Arc::new(error)));
            self.writer = None;
        }
    }
}

impl WavStatus {
    /// Why it records no longer; `None` while it does. What was recorded until then can be played.
    pub fn error(&self) -> Option<Arc<WriteError>> {
        self.0.borrow().clone()
    }

    /// Resolves as soon as it records no longer; never, if nothing goes wrong. Cancel-safe.
    pub async fn failed(&self) -> Arc<WriteError> {
        let mut status = self.0.clone();
        let failed = match status.wait_for(Option::is_some).await {
            Ok(failed) => failed.clone(),
            // The sink was dropped, and everything is in the file.
            Err(_) => None,
        };
        match failed {
            Some(error) => error,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tone_ends_after_its_frames_and_does_not_click_between_them() {
        let mut tone = Tone::new(440.0, 0.5, 2);
        let (mut first, mut second) = ([0.0; FRAME], [0.0; FRAME]);
        assert_eq!(tone.read(&mut first), Read::Sound);
        assert_eq!(tone.read(&mut second), Read::Sound);
        assert!((second[0] - first[FRAME - 1]).abs() < 0.5 * TAU * 440.0 / 48_000.0 + 1e-3);
        assert_eq!(tone.read(&mut first), Read::End);
    }
}
