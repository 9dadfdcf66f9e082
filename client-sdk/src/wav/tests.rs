use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::*;

/// A file below the build directory, removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("wzp-wav-{}-{name}.wav", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
    WavSpec {
        channels,
        sample_rate,
        bits_per_sample,
        sample_format,
    }
}

/// One second of a 1 kHz tone at half of full scale, the same on every channel.
fn tone_file(spec: WavSpec) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    for n in 0..spec.sample_rate {
        let sample = 0.5 * (std::f32::consts::TAU * 1_000.0 * n as f32 / spec.sample_rate as f32).sin();
        for _ in 0..spec.channels {
            match spec.sample_format {
                SampleFormat::Float => writer.write_sample(sample).unwrap(),
                SampleFormat::Int => {
                    let full_scale = (1_u64 << (spec.bits_per_sample - 1)) as f32;
                    writer.write_sample((sample * full_scale) as i32).unwrap();
                }
            }
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn read_all<R: Read>(mut reader: Reader<R>) -> Result<Vec<f32>, ReadError> {
    let (mut sound, mut piece) = (Vec::new(), [0.0; 480]);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(sound),
            len => sound.extend_from_slice(&piece[..len]),
        }
    }
}

fn open(name: &str, bytes: &[u8]) -> Result<Reader<std::io::BufReader<std::fs::File>>, ReadError> {
    Reader::open(&Scratch::new(name, bytes).0)
}

#[test]
fn every_depth_rate_and_channel_count_reads_as_the_same_tone() {
    let mut shapes = Vec::new();
    for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000] {
        shapes.push(spec(1, rate, 16, SampleFormat::Int));
        shapes.push(spec(2, rate, 16, SampleFormat::Int));
    }
    for bits in [8, 24, 32] {
        shapes.push(spec(1, 48_000, bits, SampleFormat::Int));
        shapes.push(spec(6, 44_100, bits, SampleFormat::Int));
    }
    shapes.push(spec(1, 48_000, 32, SampleFormat::Float));
    shapes.push(spec(6, 44_100, 32, SampleFormat::Float));
    for shape in shapes {
        let reader = open("shape", &tone_file(shape)).unwrap();
        assert_eq!(reader.duration().as_millis(), 1_000, "{shape:?}");
        let sound = read_all(reader).unwrap();
        assert_eq!(sound.len(), 48_000, "{shape:?}");
        let worst = (2_000..46_000)
            .map(|n| (sound[n] - 0.5 * (std::f32::consts::TAU * 1_000.0 * n as f32 / 48_000.0).sin()).abs())
            .fold(0.0, f32::max);
        let step = if shape.bits_per_sample == 8 { 0.012 } else { 0.004 };
        assert!(worst < step, "{shape:?} is off by {worst}");
    }
}

#[test]
fn channels_are_mixed_evenly() {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec(2, 48_000, 16, SampleFormat::Int)).unwrap();
    for _ in 0..1_000 {
        writer.write_sample(16_384).unwrap();
        writer.write_sample(-8_192).unwrap();
    }
    writer.finalize().unwrap();
    let sound = read_all(Reader::new(Cursor::new(bytes.into_inner())).unwrap()).unwrap();
    assert!(sound.len() == 1_000 && sound.iter().all(|s| (s - 0.125).abs() < 1e-4));
}

#[test]
fn files_that_are_no_sound_say_why() {
    let good = tone_file(spec(1, 16_000, 16, SampleFormat::Int));
    assert!(matches!(open("empty", b""), Err(ReadError::Empty)));
    assert!(matches!(
        open("text", b"This is a letter, not a recording.\n"),
        Err(ReadError::NotWav(_))
    ));
    assert!(matches!(open("stub", &good[..20]), Err(ReadError::NotWav(_))));
    assert!(matches!(
        open("cut", &good[..good.len() / 2]),
        Err(ReadError::Truncated { promised: 16_000, .. })
    ));
    let silent = tone_file(spec(1, 16_000, 16, SampleFormat::Int))[..40].to_vec();
    assert!(matches!(
        open("no-samples", &[&silent[..], &[0; 4]].concat()),
        Err(ReadError::NoSamples)
    ));
    let mut slow = good.clone();
    slow[24..28].copy_from_slice(&4_000_u32.to_le_bytes());
    slow[28..32].copy_from_slice(&8_000_u32.to_le_bytes());
    assert!(matches!(open("slow", &slow), Err(ReadError::Rate(_))));
    let mut law = good.clone();
    law[20] = 6;
    assert!(matches!(open("a-law", &law), Err(ReadError::Unsupported)));
    assert!(matches!(
        Reader::open("/nowhere/at/all.wav"),
        Err(ReadError::Io(_))
    ));
    assert!(matches!(
        Reader::open(std::env::temp_dir()),
        Err(ReadError::Io(_))
    ));
}

#[test]
fn a_stream_that_is_cut_off_is_heard_up_to_there() {
    let good = tone_file(spec(1, 48_000, 16, SampleFormat::Int));
    let mut reader = Reader::new(Cursor::new(&good[..44 + 2 * 10_000])).unwrap();
    let (mut heard, mut piece) = (0, [0.0; 480]);
    let fault = loop {
        match reader.read(&mut piece) {
            Ok(len) => {
                assert!(len > 0, "the end looks regular");
                heard += len;
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!(heard, 10_000);
    assert!(
        matches!(
            fault,
            ReadError::Truncated {
                promised: 48_000,
                found: 10_000
            }
        ),
        "{fault}"
    );
}

#[test]
fn broken_headers_never_panic() {
    let good = &tone_file(spec(2, 16_000, 16, SampleFormat::Int))[..600];
    let mut seed = 1_u32;
    for _ in 0..5_000 {
        let mut bytes = good.to_vec();
        for _ in 0..4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes[(seed >> 8) as usize % 48] = (seed >> 24) as u8;
        }
        if let Ok(reader) = Reader::new(Cursor::new(bytes)) {
            let _ = read_all(reader);
        }
    }
}

/// A disk with room for so many bytes.
#[derive(Debug)]
struct Disk {
    bytes: Cursor<Vec<u8>>,
    room: u64,
}

impl Write for &mut Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.room.saturating_sub(self.bytes.position()) as usize;
        if left == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.bytes.write(&bytes[..bytes.len().min(left)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for &mut Disk {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.bytes.seek(to)
    }
}

fn disk(room: u64) -> Disk {
    Disk {
        bytes: Cursor::new(Vec::new()),
        room,
    }
}

#[test]
fn a_recording_reads_back() {
    let mut disk = disk(u64::MAX);
    let mut writer = Writer::new(&mut disk).unwrap();
    let sound: Vec<f32> = (0..100_000).map(|n| (n as f32 * 0.05).sin() * 0.8).collect();
    for piece in sound.chunks(480) {
        writer.write(piece).unwrap();
    }
    assert!((writer.seconds() - 100.0 / 48.0).abs() < 1e-6);
    writer.finish().unwrap();
    let back = read_all(Reader::new(Cursor::new(disk.bytes.into_inner())).unwrap()).unwrap();
    assert_eq!(back.len(), sound.len());
    assert!(back.iter().zip(&sound).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn full_scale_and_nonsense_are_held_in_bounds() {
    let mut disk = disk(u64::MAX);
    let mut writer = Writer::new(&mut disk).unwrap();
    writer.write(&[2.0, -2.0, f32::NAN, f32::INFINITY]).unwrap();
    writer.finish().unwrap();
    let back = read_all(Reader::new(Cursor::new(disk.bytes.into_inner())).unwrap()).unwrap();
    assert!(back[0] > 0.999 && back[1] <= -0.999 && back[2] == 0.0 && back[3] > 0.999);
}

#[test]
fn a_full_disk_is_said_and_leaves_a_file_that_plays() {
    // Room for the header, one second and 1001 bytes: half a sample too much.
    let mut disk = disk(44 + 96_000 + 1_001);
    let mut writer = Writer::new(&mut disk).unwrap();
    let mut faults = Vec::new();
    for _ in 0..400 {
        faults.extend(writer.write(&[0.25; 480]).err());
    }
    assert!(matches!(faults[..], [WriteError::DiskFull { seconds }] if (1.0..1.1).contains(&seconds)));
    assert!(faults[0].to_string().starts_with("the disk is full after 1.0 s"));
    drop(writer);
    let sound = read_all(Reader::new(Cursor::new(disk.bytes.into_inner())).unwrap()).unwrap();
    assert_eq!(sound.len(), 48_500);
    assert!(sound.iter().all(|s| (s - 0.25).abs() < 1e-3));
}

#[test]
fn a_disk_that_is_full_from_the_start_is_said_at_once() {
    assert!(matches!(
        Writer::create("/dev/full"),
        Err(WriteError::DiskFull { .. })
    ));
    assert!(matches!(
        Writer::create("/nowhere/at/all.wav"),
        Err(WriteError::Io(_))
    ));
}

#[test]
fn a_dropped_recording_plays() {
    let mut disk = disk(u64::MAX);
    let mut writer = Writer::new(&mut disk).unwrap();
    writer.write(&[0.5; 700]).unwrap();
    drop(writer);
    let sound = read_all(Reader::new(Cursor::new(disk.bytes.into_inner())).unwrap()).unwrap();
    assert_eq!(sound.len(), 700);
}
