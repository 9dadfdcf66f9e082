//! How the program ends, and the one line it says when that is not well.

use std::{
    error::Error,
    fmt,
    path::Path,
    process::{ExitCode, Termination},
};

use wzp_sdk::{ConnectError, Fault, JoinError, Reason, identity_file::IdentityFileError};

/// Codes of `sysexits.h` where they say more than 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 64,
    Unreachable = 69,
    Refused = 77,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// Why the program did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line, for people.
    pub(crate) text: String,
}

impl Failure {
    /// What was asked for cannot be done as it was asked.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            text: text.into(),
        }
    }

    /// It was tried and did not work.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

impl From<IdentityFileError> for Failure {
    fn from(error: IdentityFileError) -> Self {
        let text = match &error {
            IdentityFileError::Exists { file } => format!(
                "identity file {} exists already and is not replaced; move it away, or choose another with --identity",
                file.display()
            ),
            other => chain(other),
        };
        Self::usage(text)
    }
}

impl From<Fault> for Exit {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Usage => Self::Usage,
            Fault::Unreachable => Self::Unreachable,
            Fault::Refused => Self::Refused,
            Fault::Failed => Self::Failed,
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let text = match &error {
            ConnectError::Certificate {
                relay,
                expected,
                seen,
                file,
            } => changed(relay, &expected.to_string(), &seen.to_string(), file.as_deref()),
            ConnectError::Refused {
                reason: Reason::GrantMissing,
                ..
            } => {
                format!(
                    "{}; give its secret by --secret or WZP_SECRET, or a --grant",
                    chain(&error)
                )
            }
            ConnectError::Refused {
                reason: Reason::GrantInvalid,
                ..
            } => {
                format!(
                    "{}; is the secret (or the grant) meant for this relay?",
                    chain(&error)
                )
            }
            other => chain(other),
        };
        Self {
            exit: error.fault().into(),
            text,
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self {
            exit: error.fault().into(),
            text: chain(&error),
        }
    }
}

/// What to do about a relay that is not the one we know.
fn changed(relay: &str, expected: &str, seen: &str, file: Option<&Path>) -> String {
    let Some(file) = file else {
        return format!(
            "relay {relay} has the certificate {seen}, but --relay-cert asks for {expected}; nothing was sent to it: \
             compare with the hash that the relay prints when it starts"
        );
    };
    let line = line_of(relay, file).map_or_else(String::new, |line| format!("line {line} of "));
    format!(
        "relay {relay} has another certificate than at the first visit: known is {expected}, now it shows {seen}; \
         nothing was sent to it, because somebody may be in between: if its owner says that it was renewed, remove \
         {line}{}",
        file.display()
    )
}

/// Where a known relays file names the relay, counted from 1.
fn line_of(relay: &str, file: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let at = text
        .lines()
        .position(|line| line.split_whitespace().next() == Some(relay))?;
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_certificate_says_what_to_remove() {
        let file = std::env::temp_dir().join(format!("wzp-client-known-{}", std::process::id()));
        std::fs::write(&file, "# mine\na:1 00\nb:2 11\n").unwrap();
        let text = changed("b:2", "11", "22", Some(&file));
        let _ = std::fs::remove_file(&file);
        assert!(
            text.contains("known is 11") && text.contains("shows 22"),
            "{text}"
        );
        assert!(
            text.ends_with(&format!("remove line 3 of {}", file.display())),
            "{text}"
        );
        assert!(changed("b:2", "11", "22", None).contains("--relay-cert asks for 11"));
    }

    #[test]
    fn causes_are_said_after_one_another() {
        let error = IdentityFileError::Io {
            file: "f".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(chain(&error), "identity file f: entity not found");
    }
}
