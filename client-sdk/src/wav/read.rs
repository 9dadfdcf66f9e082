//! Any WAV file as mono 48 kHz.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::time::Duration;

use hound::{SampleFormat, WavIntoSamples, WavReader};

use crate::dsp::{RATE_HZ, Resampler, UnsupportedRate};

/// Frames taken from the file at a time.
const BATCH: usize = 1_024;

/// Why a file could not be read as sound.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read at all.
    #[error("cannot read the file")]
    Io(#[source] io::Error),
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// The file is something else, or its header is broken.
    #[error("not a WAV file: {0}")]
    NotWav(&'static str),
    /// A well-formed header with no sound behind it.
    #[error("the file holds no samples")]
    NoSamples,
    /// The file ends before the sound its header promises.
    #[error("the file is cut off: {found} of {promised} samples are there")]
    Truncated {
        /// Samples of all channels that the header promises.
        promised: u32,
        /// Samples that are there.
        found: u32,
    },
    /// A WAV file, but neither PCM of 8, 16, 24 or 32 bits nor 32-bit float.
    #[error("unsupported kind of WAV file: only 8, 16, 24 and 32-bit PCM and 32-bit float are read")]
    Unsupported,
    /// The sample rate is out of range.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
}

/// Reads a WAV file as mono 48 kHz, holding a few thousand samples of it at a time.
///
/// 8, 16, 24 and 32-bit integers and 32-bit float, any number of channels (mixed down evenly), 8 to 192 kHz.
pub struct Reader<R> {
    samples: Samples<R>,
    channels: u16,
    promised: u32,
    found: u32,
    duration: Duration,
    resampler: Resampler,
    batch: Vec<f32>,
    /// Converted sound, of which `taken` samples were handed out.
    ready: Vec<f32>,
    taken: usize,
    finished: bool,
}

enum Samples<R> {
    Int {
        samples: WavIntoSamples<R, i32>,
        full_scale: f32,
    },
    Float(WavIntoSamples<R, f32>),
}

impl Reader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says what is wrong with it; a file that is shorter than it claims is refused here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(ReadError::Io)?;
        let size = file.metadata().map_err(ReadError::Io)?.len();
        if size == 0 {
            return Err(ReadError::Empty);
        }
        let wav = WavReader::new(BufReader::new(file)).map_err(refusal)?;
        let (promised, bytes_each) = (wav.len(), wav.spec().bits_per_sample.div_ceil(8));
        let mut source = wav.into_inner();
        let behind_header = size.saturating_sub(source.stream_position().map_err(ReadError::Io)?);
        let found = behind_header / u64::from(bytes_each.max(1));
        if found < u64::from(promised) {
            return Err(ReadError::Truncated {
                promised,
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        source.rewind().map_err(ReadError::Io)?;
        Self::new(source)
    }
}

impl<R: Read> Reader<R> {
    /// Reads a WAV stream; that its end is missing shows only when it is reached.
    ///
    /// # Errors
    ///
    /// As for [`Reader::open`].
    pub fn new(source: R) -> Result<Self, ReadError> {
        let wav = WavReader::new(source).map_err(refusal)?;
        let (spec, promised) = (wav.spec(), wav.len());
        if promised == 0 {
            return Err(ReadError::NoSamples);
        }
        let resampler = Resampler::new(spec.sample_rate, RATE_HZ)?;
        let duration = Duration::from_secs_f64(f64::from(wav.duration()) / f64::from(spec.sample_rate));
        let samples = match (spec.sample_format, spec.bits_per_sample) {
            (SampleFormat::Float, 32) => Samples::Float(wav.into_samples()),
            (SampleFormat::Int, bits @ (8 | 16 | 24 | 32)) => {
                let full_scale = (1_u64 << (bits - 1)) as f32;
                Samples::Int {
                    samples: wav.into_samples(),
                    full_scale,
                }
            }
            _ => return Err(ReadError::Unsupported),
        };
        Ok(Self {
            samples,
            channels: spec.channels,
            promised,
            found: 0,
            duration,
            resampler,
            batch: Vec::with_capacity(BATCH),
            ready: Vec::new(),
            taken: 0,
            finished: false,
        })
    }

    /// Fills the front of `out` with the next samples, mono at 48 kHz in `-1.0..=1.0`, and returns how many;
    /// fewer than asked for only at the end, then 0.
    ///
    /// # Errors
    ///
    /// [`ReadError::Truncated`] when the file ends early, after everything before it was handed out.
    pub fn read(&mut self, out: &mut [f32]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.taken == self.ready.len() {
                match self.refill() {
                    Ok(()) if self.ready.is_empty() => break,
                    Ok(()) => {}
                    Err(_) if filled > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            let ready = &self.ready[self.taken..];
            let now = ready.len().min(out.len() - filled);
            out[filled..filled + now].copy_from_slice(&ready[..now]);
            filled += now;
            self.taken += now;
        }
        Ok(filled)
    }

    /// How long the sound is.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Converts the next part of the file; leaves `ready` empty only at the end.
    fn refill(&mut self) -> Result<(), ReadError> {
        self.ready.clear();
        self.taken = 0;
        while self.ready.is_empty() && !self.finished {
            let read = self.read_batch();
            let Self {
                resampler,
                ready,
                batch,
                ..
            } = self;
            resampler.push(batch, |samples| ready.extend_from_slice(samples));
            if self.batch.len() < BATCH {
                let ready = &mut self.ready;
                self.resampler.finish(|samples| ready.extend_from_slice(samples));
                self.finished = true;
            }
            // What came before the fault is still handed out: the fault shows again at the next call.
            if self.ready.is_empty() {
                read?;
            }
        }
        if self.ready.is_empty() && self.found < self.promised {
            return Err(ReadError::Truncated {
                promised: self.promised,
                found: self.found,
            });
        }
        for sample in &mut self.ready {
            *sample = sample.clamp(-1.0, 1.0);
        }
        Ok(())
    }

    /// Mixes up to `BATCH` frames down into `batch`; fewer at the end of the file, and before a fault.
    fn read_batch(&mut self) -> Result<(), ReadError> {
        self.batch.clear();
        while self.batch.len() < BATCH {
            let mut sum = 0.0;
            for _ in 0..self.channels {
                match self.samples.next() {
                    None => return Ok(()),
                    Some(Ok(sample)) => sum += sample,
                    Some(Err(error)) => return Err(self.fault(error)),
                }
                self.found += 1;
            }
            self.batch.push(sum / f32::from(self.channels));
        }
        Ok(())
    }

    fn fault(&self, error: hound::Error) -> ReadError {
        match refusal(error) {
            ReadError::NotWav(_) => ReadError::Truncated {
                promised: self.promised,
                found: self.found,
            },
            other => other,
        }
    }
}

impl<R: Read> Samples<R> {
    /// The next sample of any channel in `-1.0..=1.0`.
    fn next(&mut self) -> Option<Result<f32, hound::Error>> {
        match self {
            Self::Int { samples, full_scale } => samples
                .next()
                .map(|sample| sample.map(|sample| sample as f32 / *full_scale)),
            Self::Float(samples) => samples.next().map(|sample| {
                sample.map(|sample| {
                    if sample.is_finite() {
                        sample.clamp(-1.0, 1.0)
                    } else {
                        0.0
                    }
                })
            }),
        }
    }
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("channels", &self.channels)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

fn refusal(error: hound::Error) -> ReadError {
    match error {
        // The library reports the end of the file as an error that no system call made.
        hound::Error::IoError(error) if error.raw_os_error().is_none() => {
            ReadError::NotWav("it ends too early")
        }
        hound::Error::IoError(error) => ReadError::Io(error),
        hound::Error::FormatError(reason) => ReadError::NotWav(reason),
        _ => ReadError::Unsupported,
    }
}
