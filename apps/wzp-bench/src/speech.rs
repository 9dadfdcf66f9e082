//! Recorded speech to measure with.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use wzp_sdk::wav;

/// Samples of 10 ms.
pub(crate) const BLOCK: usize = 480;

/// One recording, whole blocks of it.
#[derive(Debug)]
pub(crate) struct Clip {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its sound at 48 kHz.
    pub blocks: Vec<[f32; BLOCK]>,
}

impl Clip {
    /// The file's name without its ending.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_stem()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// Every WAV file in `folder`, by name.
///
/// # Errors
/// When there is none, or one cannot be read.
pub(crate) fn clips(folder: &Path) -> anyhow::Result<Vec<Clip>> {
    let missing = || {
        format!(
            "no recorded speech in {}: run `make setup` first",
            folder.display()
        )
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(missing)? {
        paths.push(entry.with_context(missing)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "wav"));
    paths.sort();
    ensure!(!paths.is_empty(), missing());
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> anyhow::Result<Clip> {
    let what = || format!("reading {}", path.display());
    let mut reader = wav::Reader::open(&path).with_context(what)?;
    let mut blocks = Vec::new();
    loop {
        let mut block = [0.0; BLOCK];
        let len = reader.read(&mut block).with_context(what)?;
        if len == 0 {
            break;
        }
        blocks.push(block);
    }
    Ok(Clip { path, blocks })
}
