//! From captured sound to packets ready to be sealed.

mod queue;

use wzp_wire::{Codec, FecFields, Header, Kind, Level, ReceiverReport};

use self::queue::Queue;
use super::{
    codec::{CodecError, Codecs, Encoder as _},
    fec,
    mode::{Mode, Repair, Tier},
    vad::{self, Activity, Background, Detector, LOOK_BACK_TICKS},
};

/// Samples that [`Sender::push`] takes: 10 ms.
pub const TICK_SAMPLES: usize = 480;

/// Longest payload that [`Sender::poll_packet`] writes: a receiver report and four frames.
pub const MAX_PAYLOAD_BYTES: usize = wzp_wire::REPORT_LEN + fec::MAX_SYMBOL_BYTES;

/// Reports that wait for a packet at most, one about each of so many senders.
const MAX_REPORTS: usize = 16;

/// What happens while nobody speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pauses {
    /// Only a description of the noise is sent. Halves the bytes of a conversation, and shows whoever watches the
    /// link when somebody speaks.
    Suppress,
    /// Everything is sent, so that packets say nothing about speech.
    Send,
}

/// Codes, protects and queues the sound of one microphone. Nothing is allocated after construction, except when the
/// tier changes.
pub struct Sender<C: Codecs> {
    codecs: C,
    encoder: C::Encoder,
    mode: Mode,
    /// What replaces encoder and mode at the end of the current block.
    next: Option<(Mode, Option<C::Encoder>)>,
    fec: fec::Encoder,
    queue: Queue,
    reports: Vec<ReceiverReport>,

    /// Samples captured so far: the timestamp of the next one.
    clock: u32,
    frame: Vec<f32>,
    /// Timestamp of the first sample in `frame`.
    frame_start: u32,
    level: Level,

    pauses: Pauses,
    paused: bool,
    detector: Detector,
    background: Background,
    look_back: LookBack,
}

/// The last few blocks of a pause.
struct LookBack {
    blocks: [[f32; TICK_SAMPLES]; LOOK_BACK_TICKS],
    /// Blocks in it, and where the next one goes.
    len: usize,
    next: usize,
}

impl<C: Codecs> Sender<C> {
    /// A sender that starts in `tier` at timestamp `start`, which is best random.
    ///
    /// # Errors
    /// When the codec library refuses.
    pub fn new(mut codecs: C, tier: Tier, pauses: Pauses, start: u32) -> Result<Self, CodecError> {
        let mode = tier.mode();
        let encoder = codecs.encoder(mode.codec)?;
        // The longest frame of any codec, so that a change of tier needs no more.
        let longest = Codec::ALL.iter().map(|codec| codec.frame_samples()).max();
        Ok(Self {
            codecs,
            encoder,
            mode,
            next: None,
            fec: fec::Encoder::new(mode.codec, mode.frames, mode.fec),
            queue: Queue::new(),
            reports: Vec::with_capacity(MAX_REPORTS),
            clock: start,
            frame: Vec::with_capacity(longest.unwrap_or_default() as usize),
            frame_start: start,
            level: Level::SILENCE,
            pauses,
            paused: false,
            detector: Detector::default(),
            background: Background::default(),
            look_back: LookBack::new(),
        })
    }

    /// Takes the next 10 ms of sound and the probability that there is a voice in it (0 to 1).
    ///
    /// # Errors
    /// [`CodecError`] when `pcm` is not [`TICK_SAMPLES`] long (and is ignored) or the codec library refuses a frame
    /// (which is then missing); the sender stays usable.
    pub fn push(&mut self, pcm: &[f32], speech: f32) -> Result<(), CodecError> {
        let Some(block) = pcm.as_array::<TICK_SAMPLES>() else {
            return Err(CodecError::FrameLength {
                expected: TICK_SAMPLES,
                found: pcm.len(),
            });
        };
        let power = vad::power(pcm);
        let activity = self.detector.update(speech, vad::dbov(power));
        if !self.detector.has_voice() {
            self.background.listen(power);
        }
        let speaking = self.pauses == Pauses::Send || activity != Activity::Silence;
        self.clock = self.clock.wrapping_add(TICK_SAMPLES as u32);
        let coded = match (self.paused, speaking) {
            (true, false) => {
                self.look_back.push(block);
                self.describe_background();
                Ok(())
            }
            (true, true) => self.resume(block),
            (false, _) => {
                let coded = self.code(block);
                if !speaking && self.between_blocks() {
                    self.pause();
                }
                coded
            }
        };
        self.queue_repairs();
        coded
    }

    /// Writes the payload of the next packet into `out` (a receiver report may lead it) and returns its header, whose
    /// `seq`, `epoch` and `context` are for whoever seals it, and the length. `None` when there is none, or when `out`
    /// is shorter than [`MAX_PAYLOAD_BYTES`].
    pub fn poll_packet(&mut self, out: &mut [u8]) -> Option<(Header, usize)> {
        if out.len() < MAX_PAYLOAD_BYTES {
            return None;
        }
        let packet = self.queue.front()?;
        let mut header = packet.header;
        let mut len = 0;
        if !self.reports.is_empty() {
            let report = self.reports.remove(0).encode();
            out[..report.len()].copy_from_slice(&report);
            header.report = true;
            len = report.len();
        }
        out[len..len + packet.len].copy_from_slice(&packet.payload[..packet.len]);
        len += packet.len;
        self.queue.pop();
        Some((header, len))
    }

    /// Sends `tier` with all its repair packets from the end of the current block on, at most 200 ms from now.
    ///
    /// # Errors
    /// When the codec library refuses; the sender then stays as it is.
    pub fn set_tier(&mut self, tier: Tier) -> Result<(), CodecError> {
        self.set_mode(tier.mode())
    }

    /// Like [`Sender::set_tier`], with or without repair packets.
    ///
    /// # Errors
    /// When the codec library refuses; the sender then stays as it is.
    pub fn set_plan(&mut self, tier: Tier, repair: Repair) -> Result<(), CodecError> {
        self.set_mode(tier.mode().with(repair))
    }

    /// Puts `report` on the next packet that has none; a report about the same sender that still waits is replaced.
    pub fn attach_report(&mut self, report: ReceiverReport) {
        if let Some(waiting) = self
            .reports
            .iter_mut()
            .find(|waiting| waiting.about == report.about)
        {
            *waiting = report;
        } else if self.reports.len() < MAX_REPORTS {
            self.reports.push(report);
        }
    }

    /// What is being sent now.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Nobody speaks, and only descriptions of the noise are sent.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Packets that nobody took in time.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn set_mode(&mut self, mode: Mode) -> Result<(), CodecError> {
        let same_codec = mode.codec == self.mode.codec;
        let encoder = if same_codec {
            None
        } else {
            Some(self.codecs.encoder(mode.codec)?)
        };
        self.next = Some((mode, encoder));
        if self.between_blocks() {
            self.switch();
        }
        Ok(())
    }

    fn between_blocks(&self) -> bool {
        self.frame.is_empty() && self.fec.is_between_blocks()
    }

    fn switch(&mut self) {
        let Some((mode, encoder)) = self.next.take() else {
            return;
        };
        if let Some(encoder) = encoder {
            self.encoder = encoder;
        }
        self.mode = mode;
        self.fec.set(mode.codec, mode.frames, mode.fec);
    }

    fn pause(&mut self) {
        self.paused = true;
        self.look_back.clear();
        self.background.pause();
        self.describe_background();
    }

    /// Sends `block`, and before it what was heard just before, in case the word began there.
    fn resume(&mut self, block: &[f32; TICK_SAMPLES]) -> Result<(), CodecError> {
        self.paused = false;
        let look_back = std::mem::replace(&mut self.look_back, LookBack::new());
        let back = (look_back.len + 1) * TICK_SAMPLES;
        self.frame_start = self.clock.wrapping_sub(back as u32);
        let mut coded = Ok(());
        // All of them even if the library refuses a frame, or later frames would not be where they say.
        for block in look_back.blocks().chain(std::iter::once(block)) {
            let one = self.code(block);
            coded = coded.and(one);
        }
        self.look_back = look_back;
        coded
    }

    /// Adds a block to the frame, and sends the frame when it is complete.
    fn code(&mut self, block: &[f32; TICK_SAMPLES]) -> Result<(), CodecError> {
        self.frame.extend_from_slice(block);
        if self.frame.len() < self.encoder.frame_samples() {
            return Ok(());
        }
        let coded = self.code_frame();
        self.frame_start = self.frame_start.wrapping_add(self.frame.len() as u32);
        self.frame.clear();
        if self.fec.is_between_blocks() {
            self.switch();
        }
        coded
    }

    fn code_frame(&mut self) -> Result<(), CodecError> {
        let packet = self.queue.slot();
        packet.len = self.encoder.encode(&self.frame, &mut packet.payload)?;
        self.level = Level::from_dbov(vad::dbov(vad::power(&self.frame)));
        let fec = self.fec.push(self.frame_start, &packet.payload[..packet.len]);
        packet.header = header(Kind::Source, self.mode.codec, self.level, self.frame_start, fec);
        self.queue.commit();
        Ok(())
    }

    fn queue_repairs(&mut self) {
        loop {
            let packet = self.queue.slot();
            let Some(repair) = self.fec.poll_repair(self.clock, &mut packet.payload) else {
                return;
            };
            packet.len = repair.len;
            // As loud as the last frame, so that a relay which forwards the loudest does not separate them.
            packet.header = header(
                Kind::Repair,
                repair.codec,
                self.level,
                repair.timestamp,
                repair.fec,
            );
            packet.header.frames = repair.frames;
            self.queue.commit();
        }
    }

    /// Says how quiet it is from now on, when that is due.
    fn describe_background(&mut self) {
        let Some(payload) = self.background.poll() else {
            return;
        };
        let [level] = payload;
        let packet = self.queue.slot();
        packet.payload[..payload.len()].copy_from_slice(&payload);
        packet.len = payload.len();
        let level = Level::from_dbov(-f32::from(level));
        packet.header = header(
            Kind::ComfortNoise,
            self.mode.codec,
            level,
            self.clock,
            FecFields::default(),
        );
        self.queue.commit();
    }
}

impl LookBack {
    const fn new() -> Self {
        Self {
            blocks: [[0.0; TICK_SAMPLES]; LOOK_BACK_TICKS],
            len: 0,
            next: 0,
        }
    }

    const fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, block: &[f32; TICK_SAMPLES]) {
        self.blocks[self.next] = *block;
        self.next = (self.next + 1) % LOOK_BACK_TICKS;
        self.len = (self.len + 1).min(LOOK_BACK_TICKS);
    }

    /// Oldest first.
    fn blocks(&self) -> impl Iterator<Item = &[f32; TICK_SAMPLES]> {
        let first = self.next + LOOK_BACK_TICKS - self.len;
        (0..self.len).map(move |i| &self.blocks[(first + i) % LOOK_BACK_TICKS])
    }
}

fn header(kind: Kind, codec: Codec, level: Level, timestamp: u32, fec: FecFields) -> Header {
    Header {
        kind,
        report: false,
        codec,
        level,
        frames: 1,
        seq: 0,
        timestamp,
        epoch: 0,
        context: kind.stream().no_context(),
        fec,
    }
}

#[cfg(test)]
mod tests;
