//! The address of a relay, as the user writes it.

use std::{fmt, str::FromStr};

/// `host:port`; kept as written, because that is the name by which known relays are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relay(String);

impl Relay {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no address of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayError {
    NoPort,
    NoHost,
    Port,
    Brackets,
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "there is no port; write host:port, the usual port is 4433",
            Self::NoHost => "there is no host before the colon",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Brackets => "an IPv6 address needs brackets, as in [::1]:4433",
        })
    }
}

impl FromStr for Relay {
    type Err = RelayError;

    fn from_str(text: &str) -> Result<Self, RelayError> {
        let (host, port) = text.rsplit_once(':').ok_or(RelayError::NoPort)?;
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(RelayError::Brackets);
        }
        if host.is_empty() || host == "[]" || host.contains(char::is_whitespace) {
            return Err(RelayError::NoHost);
        }
        match port.parse::<u16>() {
            Ok(1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self(text.to_owned())),
            _ => Err(RelayError::Port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_addresses_are_read() {
        for good in [
            "127.0.0.1:4433",
            "relay.example.org:1",
            "[::1]:65535",
            "[fe80::1%eth0]:4433",
        ] {
            assert_eq!(good.parse::<Relay>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!("relay".parse::<Relay>(), Err(RelayError::NoPort));
        assert_eq!(":4433".parse::<Relay>(), Err(RelayError::NoHost));
        assert_eq!("::1:4433".parse::<Relay>(), Err(RelayError::Brackets));
        for port in ["", "0", "65536", "http", "+80"] {
            assert_eq!(
                format!("a:{port}").parse::<Relay>(),
                Err(RelayError::Port),
                "{port:?}"
            );
        }
    }
}
