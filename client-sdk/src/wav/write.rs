//! Mono 48 kHz, 16 bit, into a file that is valid at every moment.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use crate::dsp::RATE_HZ;

const HEADER: u32 = 44;
const BYTES_PER_SAMPLE: u32 = 2;
/// A second of sound is gathered before it is written.
const BUFFER_BYTES: usize = (RATE_HZ * BYTES_PER_SAMPLE) as usize;
/// The header counts in 32 bits, and counts itself but for 8 bytes.
const MAX_DATA: u32 = u32::MAX - HEADER;

/// Why sound could not be written. What was written before is a valid file.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no room left where the file is.
    #[error("the disk is full after {seconds:.1} s of sound")]
    DiskFull {
        /// Length of what is in the file.
        seconds: f64,
    },
    /// A WAV file cannot hold more than 4 GiB, some 12 hours.
    #[error("a WAV file cannot hold more than 12 hours")]
    TooLong,
    /// The file could not be made or written.
    #[error("cannot write the file")]
    Io(#[source] io::Error),
}

/// Writes a WAV file as sound comes in.
///
/// The header is brought up to date with every second written, when a write fails, and on drop, so that what
/// could be saved can be played.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    file: W,
    buffer: Vec<u8>,
    /// Bytes of sound in the file.
    data: u32,
    failed: bool,
}

impl Writer<File> {
    /// Makes the file, or empties the one that is there.
    ///
    /// # Errors
    ///
    /// [`WriteError::DiskFull`] when not even the header fits, otherwise [`WriteError::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, WriteError> {
        Self::new(File::create(path).map_err(|error| failure(error, 0))?)
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the header of an empty recording.
    ///
    /// # Errors
    ///
    /// As for [`Writer::create`].
    pub fn new(mut file: W) -> Result<Self, WriteError> {
        file.write_all(&header(0)).map_err(|error| failure(error, 0))?;
        Ok(Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            data: 0,
            failed: false,
        })
    }

    /// Appends samples in `-1.0..=1.0`.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the file then ends before the first sample that did not fit, and every later call
    /// does nothing.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), WriteError> {
        if self.failed {
            return Ok(());
        }
        for sample in samples {
            // The conversion saturates, and turns what is not a number into silence.
            self.buffer
                .extend_from_slice(&((sample * 32_767.0).round() as i16).to_le_bytes());
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes everything and reports whether it arrived.
    ///
    /// # Errors
    ///
    /// As for [`Writer::write`].
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.flush()
    }

    /// Length of the sound handed over so far, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        seconds(self.data) + self.buffer.len() as f64 / f64::from(RATE_HZ * BYTES_PER_SAMPLE)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        if self.failed || self.buffer.is_empty() {
            return Ok(());
        }
        let fits = (MAX_DATA - self.data).min(self.buffer.len() as u32);
        let (arrived, outcome) = write_as_much(&mut self.file, &self.buffer[..fits as usize]);
        let whole = fits as usize == self.buffer.len();
        self.buffer.clear();
        // Half a sample may have arrived: the header does not count it.
        self.data += arrived - arrived % BYTES_PER_SAMPLE;
        let stamped = self.stamp();
        let outcome = match outcome {
            Ok(()) if !whole => Err(WriteError::TooLong),
            Ok(()) => stamped.map_err(|error| failure(error, self.data)),
            Err(error) => Err(failure(error, self.data)),
        };
        self.failed = outcome.is_err();
        outcome
    }

    /// Brings the header up to date; it lies where room was found long ago.
    fn stamp(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(self.data))?;
        self.file.seek(SeekFrom::Start(u64::from(HEADER + self.data)))?;
        self.file.flush()
    }
}

impl<W: Write + Seek> Drop for Writer<W> {
    fn drop(&mut self) {
        // `finish` is where a failure is reported.
        let _ = self.flush();
    }
}

/// Writes until an error, and returns how much arrived with it.
fn write_as_much(file: &mut impl Write, mut bytes: &[u8]) -> (u32, io::Result<()>) {
    let mut arrived = 0;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return (arrived, Err(ErrorKind::WriteZero.into())),
            Ok(written) => {
                arrived += written as u32;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (arrived, Err(error)),
        }
    }
    (arrived, Ok(()))
}

fn failure(error: io::Error, data: u32) -> WriteError {
    match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::WriteZero => WriteError::DiskFull {
            seconds: seconds(data),
        },
        _ => WriteError::Io(error),
    }
}

fn seconds(data: u32) -> f64 {
    f64::from(data) / f64::from(RATE_HZ * BYTES_PER_SAMPLE)
}

/// RIFF, a PCM format chunk and the head of a data chunk of `data` bytes.
fn header(data: u32) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &(data + HEADER - 8).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &RATE_HZ.to_le_bytes(),
        &(RATE_HZ * BYTES_PER_SAMPLE).to_le_bytes(),
        &2_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    let mut rest = &mut header[..];
    for field in fields {
        let (now, later) = rest.split_at_mut(field.len());
        now.copy_from_slice(field);
        rest = later;
    }
    header
}
