//! One process for one file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::error::OpenError;

/// A lock that ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct FileLock(#[expect(dead_code, reason = "held")] File);

impl FileLock {
    /// Takes the lock, and writes into it who has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut file = open(path, true)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut said = String::new();
                // For people only, so what cannot be read is left out.
                let _ = file.read_to_string(&mut said);
                let id = said.trim();
                let who = if id.is_empty() {
                    String::new()
                } else {
                    format!(" (process {id})")
                };
                return Err(OpenError::InUse { who });
            }
            Err(TryLockError::Error(source)) => return Err(at(path, source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|source| at(path, source))?;
        Ok(Self(file))
    }
}

/// Makes an empty file that only this user reads, if there is none.
pub(super) fn create_private(path: &Path) -> Result<(), OpenError> {
    if path.exists() {
        Ok(())
    } else {
        open(path, false).map(drop)
    }
}

fn open(path: &Path, read: bool) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(read)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| at(path, source))
}

fn at(path: &Path, source: io::Error) -> OpenError {
    OpenError::File {
        path: path.to_owned(),
        source,
    }
}
