//! The identity of this user in a file that only the user can read: the 24 words on one line.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use wzp_identity::{Phrase, PhraseError};
use zeroize::Zeroizing;

/// No phrase is longer: 24 words of at most 8 letters.
const MAX_BYTES: u64 = 1_024;

/// Why an identity file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// Reading or writing failed.
    #[error("identity file {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("identity file {} can be read by others: chmod 600 {}", file.display(), file.display())]
    Permissions {
        /// The file.
        file: PathBuf,
    },
    /// There is one already and it is not written over.
    #[error("identity file {} exists already", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// What is in it is not a phrase.
    #[error("identity file {}", file.display())]
    Phrase {
        /// The file.
        file: PathBuf,
        /// Which word is wrong.
        #[source]
        source: PhraseError,
    },
}

/// The identity file of this user: `$XDG_CONFIG_HOME/wzp/identity`, or below `~/.config`.
pub fn default_path() -> PathBuf {
    crate::Trust::default_file().with_file_name("identity")
}

/// Reads the phrase from a file that nobody else can read.
///
/// # Errors
/// `Io`, `Permissions` when the mode has any bit for group or others, `Phrase` with the word that is wrong.
pub fn read(path: &Path) -> Result<Phrase, IdentityFileError> {
    let io = |source| IdentityFileError::Io {
        file: path.into(),
        source,
    };
    let file = fs::File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(IdentityFileError::Permissions { file: path.into() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
    Phrase::parse(&text).map_err(|source| IdentityFileError::Phrase {
        file: path.into(),
        source,
    })
}

/// Writes the phrase to a new file with mode 0600; its folder is made when it is missing.
///
/// # Errors
/// `Exists` rather than losing an identity, `Io`.
pub fn create(path: &Path, phrase: &Phrase) -> Result<(), IdentityFileError> {
    let io = |source| IdentityFileError::Io {
        file: path.into(),
        source,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(io)?;
    }
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(IdentityFileError::Exists { file: path.into() });
        }
        Err(e) => return Err(io(e)),
    };
    let line = Zeroizing::new(format!("{}\n", *phrase.words()));
    file.write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io)
}
