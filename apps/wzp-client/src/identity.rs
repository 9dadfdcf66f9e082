//! Who we are in a call, and `wzp-client identity`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use wzp_identity::{Fingerprint, Identity, Phrase, PublicIdentity, safety_number};
use wzp_sdk::identity_file;
use zeroize::Zeroizing;

use crate::{
    exit::{Failure, chain},
    report::{Event, Report},
};

/// No phrase is longer.
const MAX_PHRASE_BYTES: u64 = 1_024;
const PHRASE_VARIABLE: &str = "WZP_PHRASE";

/// Where the identity comes from.
#[derive(Debug)]
pub(crate) enum Choice {
    /// The user's own file if there is one, otherwise an identity for once.
    Default,
    File(PathBuf),
    StandardInput,
    Phrase(Phrase),
}

/// What `wzp-client identity` was asked to do.
#[derive(Debug)]
pub(crate) enum Action {
    New { file: PathBuf, restore: bool },
    Show { choice: Choice, phrase: bool },
    Verify { choice: Choice, other: Other },
}

/// Somebody, as far as the user knows.
#[derive(Debug, Clone)]
pub(crate) enum Other {
    Public(Box<PublicIdentity>),
    Fingerprint(Fingerprint),
}

/// The text is neither a public key nor a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NobodyKnown;

impl std::fmt::Display for NobodyKnown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "expected a public key of 64 hex digits (`identity show` prints it) or a fingerprint of 32",
        )
    }
}

impl FromStr for Other {
    type Err = NobodyKnown;

    fn from_str(text: &str) -> Result<Self, NobodyKnown> {
        if let Ok(fingerprint) = text.parse() {
            return Ok(Self::Fingerprint(fingerprint));
        }
        let digits = text
            .chars()
            .filter(|c| !matches!(c, ' ' | ':' | '-'))
            .map(|c| c.to_digit(16));
        let digits: Vec<u8> = digits
            .map(|d| d.and_then(|d| u8::try_from(d).ok()).ok_or(NobodyKnown))
            .collect::<Result<_, _>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(NobodyKnown);
        }
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        PublicIdentity::try_from(&bytes[..])
            .map(|key| Self::Public(Box::new(key)))
            .map_err(|_| NobodyKnown)
    }
}

/// The phrase in the environment, if there is one.
pub(crate) fn phrase_of_environment() -> Option<Zeroizing<String>> {
    std::env::var(PHRASE_VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty())
        .map(Zeroizing::new)
}

impl Choice {
    /// What the flag and the environment say together.
    ///
    /// # Errors
    /// A phrase that is none, or a phrase beside a file.
    pub(crate) fn of(flag: Option<&Path>, phrase: Option<Zeroizing<String>>) -> Result<Self, Failure> {
        match (flag, phrase) {
            (None, None) => Ok(Self::Default),
            (None, Some(text)) => parse(&text, PHRASE_VARIABLE).map(Self::Phrase),
            (Some(file), None) if file == Path::new("-") => Ok(Self::StandardInput),
            (Some(file), None) => Ok(Self::File(file.into())),
            (Some(_), Some(_)) => Err(Failure::usage(format!(
                "--identity and the variable {PHRASE_VARIABLE} both name an identity; drop one of them"
            ))),
        }
    }

    /// The file in which a new identity is kept.
    ///
    /// # Errors
    /// When the choice is no file.
    pub(crate) fn file(&self) -> Result<PathBuf, Failure> {
        match self {
            Self::Default | Self::Phrase(_) => Ok(identity_file::default_path()),
            Self::File(file) => Ok(file.clone()),
            Self::StandardInput => Err(Failure::usage("--identity must name the file to write, not `-`")),
        }
    }

    /// The identity of a call, and whether it is for once only.
    ///
    /// # Errors
    /// What is wrong with the file or the phrase.
    pub(crate) fn identity(self) -> Result<(Identity, Kept), Failure> {
        Ok(match self.phrase()? {
            Some(phrase) => (Identity::from_phrase(&phrase), Kept::Yes),
            None => (Identity::from_phrase(&generate()?), Kept::No),
        })
    }

    /// The phrase; `None` when the user has none.
    fn phrase(self) -> Result<Option<Phrase>, Failure> {
        match self {
            Self::Phrase(phrase) => Ok(Some(phrase)),
            Self::StandardInput => read_standard_input().map(Some),
            Self::File(file) => Ok(Some(identity_file::read(&file)?)),
            Self::Default => {
                let file = identity_file::default_path();
                // A file that is there but cannot be read must not silently become another identity.
                if file.try_exists().unwrap_or(true) {
                    Ok(Some(identity_file::read(&file)?))
                } else {
                    Ok(None)
                }
            }
        }
    }
}

/// Whether an identity outlives this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    No,
}

/// Does what `wzp-client identity` was asked to do.
///
/// # Errors
/// [`Failure`] with exit code 64 for what is wrong with the input, 1 when somebody is not who they should be.
pub(crate) fn run(action: Action, report: &mut Report) -> Result<(), Failure> {
    match action {
        Action::New { file, restore } => new(&file, restore, report),
        Action::Show { choice, phrase } => {
            let own = own_phrase(choice)?;
            let words = phrase.then(|| own.words());
            let identity = Identity::from_phrase(&own);
            report.event(&shown(
                &identity,
                None,
                words.as_ref().map(|words| words.as_str()),
            ));
            Ok(())
        }
        Action::Verify { choice, other } => {
            verify(&Identity::from_phrase(&own_phrase(choice)?), &other, report)
        }
    }
}

fn new(file: &Path, restore: bool, report: &mut Report) -> Result<(), Failure> {
    let phrase = match (restore, phrase_of_environment()) {
        (false, None) => generate()?,
        (false, Some(_)) => {
            return Err(Failure::usage(format!(
                "{PHRASE_VARIABLE} holds an identity already; `identity new --restore` keeps it in a file"
            )));
        }
        (true, Some(text)) => parse(&text, PHRASE_VARIABLE)?,
        (true, None) => read_standard_input()?,
    };
    identity_file::create(file, &phrase)?;
    report.event(&shown(&Identity::from_phrase(&phrase), Some(file), None));
    Ok(())
}

fn verify(own: &Identity, other: &Other, report: &mut Report) -> Result<(), Failure> {
    match other {
        Other::Public(public) => {
            let number = safety_number(&own.public(), public);
            report.event(&Event::SafetyNumber {
                fingerprint: public.fingerprint().to_string(),
                own_fingerprint: own.fingerprint().to_string(),
                safety_number: number.to_string(),
            });
            Ok(())
        }
        Other::Fingerprint(fingerprint) if *fingerprint == own.fingerprint() => {
            report.event(&shown(own, None, None));
            Ok(())
        }
        Other::Fingerprint(fingerprint) => Err(Failure::failed(format!(
            "{fingerprint} is not this identity, which is {}; to compare with somebody else give their public key",
            own.fingerprint()
        ))),
    }
}

fn shown<'a>(identity: &Identity, file: Option<&'a Path>, phrase: Option<&'a str>) -> Event<'a> {
    let public = identity.public().to_bytes();
    Event::Identity {
        fingerprint: identity.fingerprint().to_string(),
        public_key: public.iter().map(|byte| format!("{byte:02x}")).collect(),
        file,
        phrase,
    }
}

fn own_phrase(choice: Choice) -> Result<Phrase, Failure> {
    choice.phrase()?.ok_or_else(|| {
        Failure::usage(format!(
            "there is no identity in {}; `wzp-client identity new` makes one",
            identity_file::default_path().display()
        ))
    })
}

fn generate() -> Result<Phrase, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())
        .map_err(|e| Failure::failed(format!("the system gives no random numbers: {e}")))?;
    Ok(Phrase::from_seed(&seed))
}

fn read_standard_input() -> Result<Phrase, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_PHRASE_BYTES as usize));
    std::io::stdin()
        .take(MAX_PHRASE_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| Failure::usage(format!("the phrase cannot be read from standard input: {e}")))?;
    parse(&text, "standard input")
}

fn parse(text: &str, place: &str) -> Result<Phrase, Failure> {
    Phrase::parse(text).map_err(|e| Failure::usage(format!("the phrase in {place}: {}", chain(&e))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> Identity {
        Identity::from_phrase(&Phrase::from_seed(&[seed; 32]))
    }

    #[test]
    fn somebody_is_a_public_key_or_a_fingerprint() {
        let one = identity(1);
        let hex: String = one
            .public()
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let Ok(Other::Public(public)) = hex.parse() else {
            panic!("{hex}")
        };
        assert_eq!(public.fingerprint(), one.fingerprint());
        let Ok(Other::Fingerprint(fingerprint)) = one.fingerprint().to_string().parse() else {
            panic!()
        };
        assert_eq!(fingerprint, one.fingerprint());
        for bad in ["", "abc", &hex[..62], &hex[..63], "zz", &"0".repeat(64)] {
            assert!(bad.parse::<Other>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_sources_of_identity_are_refused_and_words_are_named() {
        let words = Phrase::from_seed(&[7; 32]).words();
        assert!(matches!(
            Choice::of(None, Some(words.clone())),
            Ok(Choice::Phrase(_))
        ));
        assert!(Choice::of(Some(Path::new("file")), Some(words.clone())).is_err());
        let misspelt = Zeroizing::new(words.replacen(words.split(' ').next().unwrap(), "alminum", 1));
        let failure = Choice::of(None, Some(misspelt)).unwrap_err();
        assert!(failure.text.contains("word 1 (\"alminum\")"), "{failure}");
    }
}
