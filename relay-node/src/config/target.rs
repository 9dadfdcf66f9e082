//! Values on the command line that have a form of their own.

use std::{fmt, str::FromStr};

/// Another relay, as the operator wrote it: `host:port`, or `name=host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called in metrics and logs; `host:port` where no name was given.
    pub name: String,
    /// Name or address of the host, an IPv6 address without brackets.
    pub host: String,
    /// UDP port, not 0.
    pub port: u16,
}

/// Not a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected HOST:PORT, or NAME=HOST:PORT with a name of 1 to 64 letters, digits, dots, dashes or colons"
)]
pub struct BadTarget;

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (name, address) = text.split_once('=').unwrap_or((text, text));
        let (host, port) = address.rsplit_once(':').ok_or(BadTarget)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]%".contains(c);
        let fits =
            |text: &str, longest: usize| (1..=longest).contains(&text.len()) && text.chars().all(plain);
        if !fits(name, 64) || !fits(host, 253) || (bracketed.is_none() && host.contains(':')) {
            return Err(BadTarget);
        }
        let port = port.parse().ok().filter(|&port| port != 0).ok_or(BadTarget)?;
        Ok(Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits, colons and spaces between them are skipped")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits = text.chars().filter(|c| !matches!(c, ':' | ' '));
        let digits: Option<Vec<u8>> = digits.map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(BadFingerprint)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
