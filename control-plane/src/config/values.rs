//! Values of flags that are more than a number or a string.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// A span of time with its unit: 90s, 30m, 6h or 7d.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time such as 90s, 30m, 6h or 7d");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let digits = text.strip_suffix(unit).ok_or_else(wrong)?;
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
}

/// An `http://` or `https://` URL without a path, query or user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(String);

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a URL such as https://voice.example.org");
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let host = trimmed
            .strip_prefix("https://")
            .or_else(|| trimmed.strip_prefix("http://"))
            .ok_or_else(wrong)?;
        let strange = |letter: char| "/?#@ ".contains(letter) || letter.is_control();
        if host.is_empty() || host.contains(strange) {
            return Err(wrong());
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where everything durable is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file, for one process.
    Sqlite(PathBuf),
    /// A URL with a password in it, for several replicas.
    Postgres {
        /// `postgres://…`.
        url: String,
        /// At most.
        connections: u32,
    },
}

impl fmt::Display for Database {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite {}", path.display()),
            Self::Postgres { url, .. } => {
                let behind = url.split_once("://").map_or("", |(_, rest)| rest);
                let place = behind.rsplit_once('@').map_or(behind, |(_, place)| place);
                write!(f, "postgres {}", place.split('?').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("6h", 21_600), ("7d", 604_800)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))));
        }
        for bad in ["", "h", "6", "-6h", "6 h", "6é", "4294967296s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_a_scheme_and_a_place() {
        for good in ["http://127.0.0.1:8080", "https://voice.example.org/"] {
            let url: Url = good.parse().unwrap();
            assert_eq!(url.to_string(), good.trim_end_matches('/'));
        }
        for bad in [
            "voice.example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u@a",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_database_is_shown_without_its_password() {
        let database = Database::Postgres {
            url: "postgres://wzp:hunter2@db:5432/wzp?sslmode=require".to_owned(),
            connections: 1,
        };
        assert_eq!(format!("{database:?}"), "postgres db:5432/wzp");
    }
}
