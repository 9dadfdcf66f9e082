//! Which relay certificates are believed: pinned by hash, or remembered at the first visit as SSH does.
//!
//! A relay shows a self-made certificate, so no authority vouches for it; what counts is the SHA-256 of the certificate,
//! which the relay prints when it starts. `docs/crypto.md` says what this protects and what not.

use std::{
    fmt, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use sha2::{Digest as _, Sha256};

/// How the certificate of a relay is judged.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Only the certificate with this hash.
    Pinned(CertificateHash),
    /// Only certificates with exactly these hashes.
    Exactly(Vec<CertificateHash>),
    /// The certificate that this file remembers for the relay; a relay that is new is remembered.
    KnownRelays(PathBuf),
}

impl Trust {
    /// The known relays file of this user: `$XDG_CONFIG_HOME/wzp/known_relays`, or below `~/.config`.
    pub fn default_file() -> PathBuf {
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
        base.unwrap_or_else(|| PathBuf::from("."))
            .join("wzp")
            .join("known_relays")
    }

    /// What this relay (as the user wrote it) is expected to show; `None` for a relay met for the first time.
    pub(crate) fn expected(&self, relay: &str) -> Result<Option<Vec<CertificateHash>>, TrustError> {
        match self {
            Self::Pinned(hash) => Ok(Some(vec![*hash])),
            Self::Exactly(hashes) => Ok(Some(hashes.clone())),
            Self::KnownRelays(file) => {
                KnownRelays::read(file).map(|known| known.find(relay).map(|hash| vec![hash]))
            }
        }
    }

    /// Remembers a relay met for the first time.
    pub(crate) fn remember(&self, relay: &str, hash: CertificateHash) -> Result<(), TrustError> {
        match self {
            Self::Pinned(_) | Self::Exactly(_) => Ok(()),
            Self::KnownRelays(file) => KnownRelays::append(file, relay, hash),
        }
    }
}

/// Why the known relays file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Reading or writing failed.
    #[error("known relays file {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is not `relay sha256`.
    #[error("known relays file {}, line {line}: expected `host:port sha256`", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// SHA-256 of a relay's certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateHash([u8; 32]);

impl CertificateHash {
    /// The hash of this certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The hash with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateHash({self})")
    }
}

/// The text is not 64 hex digits (colons and spaces are passed over).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate hash has 64 hex digits (SHA-256), colons and spaces do not count")]
pub struct NotACertificateHash;

impl std::str::FromStr for CertificateHash {
    type Err = NotACertificateHash;

    fn from_str(text: &str) -> Result<Self, NotACertificateHash> {
        let mut bytes = [0; 32];
        let mut digits = text
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_digit(16));
        let mut next = || digits.next().flatten().and_then(|digit| u8::try_from(digit).ok());
        for byte in &mut bytes {
            *byte = next()
                .zip(next())
                .map(|(high, low)| high << 4 | low)
                .ok_or(NotACertificateHash)?;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NotACertificateHash),
        }
    }
}

/// Judges one handshake and keeps what the relay showed.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// Any of these; `None`: whatever it is.
    expected: Option<Vec<CertificateHash>>,
    seen: OnceLock<CertificateHash>,
}

impl Verifier {
    pub(crate) fn new(expected: Option<Vec<CertificateHash>>) -> Arc<Self> {
        Arc::new(Self {
            expected,
            seen: OnceLock::new(),
        })
    }

    /// What the relay showed, once the handshake got that far.
    pub(crate) fn seen(&self) -> Option<CertificateHash> {
        self.seen.get().copied()
    }

    pub(crate) fn refused(&self) -> Option<(CertificateHash, CertificateHash)> {
        let (expected, seen) = (self.expected.as_ref()?, self.seen()?);
        let first = expected.first().copied()?;
        (!expected.contains(&seen)).then_some((first, seen))
    }

    /// For the connection whose handshake this judges.
    pub(crate) fn client_config(self: &Arc<Self>) -> Result<quinn::ClientConfig, rustls::Error> {
        let this = Arc::clone(self);
        wzp_socket::quic::client_config(move |shown| {
            let seen = *this.seen.get_or_init(|| CertificateHash::of(shown));
            this.expected
                .as_ref()
                .is_none_or(|expected| expected.contains(&seen))
        })
    }
}

/// The file: one relay a line, `host:port sha256`; empty lines and `#` lines are comments.
struct KnownRelays(Vec<(String, CertificateHash)>);

impl KnownRelays {
    fn read(file: &Path) -> Result<Self, TrustError> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(TrustError::Io {
                    file: file.into(),
                    source,
                });
            }
        };
        let mut known = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line
                .split_once(' ')
                .and_then(|(relay, hash)| Some((relay.to_owned(), hash.parse().ok()?)));
            known.push(parsed.ok_or_else(|| TrustError::Line {
                file: file.into(),
                line: number + 1,
            })?);
        }
        Ok(Self(known))
    }

    fn find(&self, relay: &str) -> Option<CertificateHash> {
        self.0
            .iter()
            .find(|(name, _)| name == relay)
            .map(|&(_, hash)| hash)
    }

    fn append(file: &Path, relay: &str, hash: CertificateHash) -> Result<(), TrustError> {
        let failed = |source| TrustError::Io {
            file: file.into(),
            source,
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .map_err(failed)?;
        // One write: two clients that meet relays at the same time do not mix their lines.
        out.write_all(format!("{relay} {hash}\n").as_bytes())
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> CertificateHash {
        CertificateHash([byte; 32])
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wzp-trust-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder.join("known_relays")
    }

    #[test]
    fn hash_reads_what_it_prints_and_colons() {
        let text = hash(0xa5).to_string();
        assert_eq!(text.parse(), Ok(hash(0xa5)));
        let colons = ["A5"; 32].join(":");
        assert_eq!(colons.parse(), Ok(hash(0xa5)));
        assert_eq!(text[1..].parse::<CertificateHash>(), Err(NotACertificateHash));
        assert_eq!(
            format!("{text}00").parse::<CertificateHash>(),
            Err(NotACertificateHash)
        );
        assert_eq!(
            "+f".repeat(32).parse::<CertificateHash>(),
            Err(NotACertificateHash)
        );
    }

    #[test]
    fn relay_is_remembered_at_the_first_visit_and_found_again() {
        let file = scratch("first");
        let trust = Trust::KnownRelays(file.clone());
        assert_eq!(trust.expected("a:1").unwrap(), None);
        trust.remember("a:1", hash(1)).unwrap();
        trust.remember("b:2", hash(2)).unwrap();
        assert_eq!(trust.expected("a:1").unwrap(), Some(vec![hash(1)]));
        assert_eq!(trust.expected("b:2").unwrap(), Some(vec![hash(2)]));
        assert_eq!(trust.expected("c:3").unwrap(), None);
    }

    #[test]
    fn broken_line_is_named() {
        let file = scratch("broken");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("# mine\na:1 {}\nnonsense\n", hash(1))).unwrap();
        let error = Trust::KnownRelays(file).expected("a:1").unwrap_err();
        assert!(matches!(error, TrustError::Line { line: 3, .. }), "{error}");
    }
}
