//! The 24-word phrase. The words are the 32-byte seed itself (BIP39 entropy), not a password for one:
//! there is no PBKDF2, so that a messenger sharing the scheme gets the same identity.

use std::fmt;

use bip39::{Language, Mnemonic};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// How many words a phrase has.
pub const WORDS: usize = 24;
/// The longest BIP39 word has 8 letters; what is longer is cut before it appears in an error.
const SHOWN_LETTERS: usize = 16;
/// Longer words are not compared with the list: edit distance is quadratic.
const COMPARED_LETTERS: usize = 32;

/// 24 words that are an identity. Zeroized on drop; its `Debug` shows nothing.
#[derive(Clone)]
pub struct Phrase(Zeroizing<[u8; 32]>);

/// Why a text is not a phrase. Never carries more of it than the one word that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a phrase has 24 words, this one has {found}")]
    WordCount {
        /// How many there were.
        found: usize,
    },
    /// A word that is not in the English BIP39 list.
    #[error("word {position} ({word:?}) is not in the word list{}", .suggestion.map(|s| format!(", did you mean {s:?}?")).unwrap_or_default())]
    UnknownWord {
        /// Counted from 1.
        position: usize,
        /// The word as typed, cut to 16 letters.
        word: String,
        /// The nearest word of the list, if one is near.
        suggestion: Option<&'static str>,
    },
    /// Every word is in the list, but together they are no phrase: one is wrong or two are swapped.
    #[error("all words are valid, but the checksum is wrong: a word was replaced or two were swapped")]
    Checksum,
}

impl Phrase {
    /// A new phrase from 32 random bytes.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self(seed)
    }

    /// The phrase that stands for `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*seed))
    }

    /// Reads a phrase; case and the amount of white space do not matter.
    ///
    /// # Errors
    /// The first thing wrong, in the order count, words, checksum.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let found = text.split_whitespace().count();
        if found != WORDS {
            return Err(PhraseError::WordCount { found });
        }
        // Reserved for 24 words of 8 letters, so that no copy is left behind by a growing buffer.
        let mut canonical = Zeroizing::new(String::with_capacity(WORDS * 9));
        for (index, typed) in text.split_whitespace().enumerate() {
            let word = Zeroizing::new(typed.to_lowercase());
            if Language::English.find_word(&word).is_none() {
                return Err(unknown_word(index + 1, typed, &word));
            }
            if index > 0 {
                canonical.push(' ');
            }
            canonical.push_str(&word);
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &canonical)
            .map_err(|_| PhraseError::Checksum)?;
        let (entropy, _) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&entropy[..32]);
        Ok(Self(seed))
    }

    /// The words, one space between them. Whoever calls this shows the secret.
    #[expect(clippy::expect_used, reason = "32 bytes are a valid BIP39 entropy length")]
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.0.as_ref()).expect("32 bytes");
        let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
        for (index, word) in mnemonic.words().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phrase(..)")
    }
}

fn unknown_word(position: usize, typed: &str, lower: &str) -> PhraseError {
    PhraseError::UnknownWord {
        position,
        word: typed.chars().take(SHOWN_LETTERS).collect(),
        suggestion: nearest(lower),
    }
}

/// The word of the list with the smallest edit distance (at most 2); between equals the one that
/// shares more first letters, because people mistype ends more than beginnings.
fn nearest(word: &str) -> Option<&'static str> {
    let letters: Vec<char> = word.chars().take(COMPARED_LETTERS + 1).collect();
    if letters.len() > COMPARED_LETTERS {
        return None;
    }
    Language::English
        .word_list()
        .iter()
        .map(|candidate| {
            (
                distance(&letters, candidate),
                shared_prefix(word, candidate),
                *candidate,
            )
        })
        .filter(|(distance, _, _)| *distance <= 2)
        .min_by_key(|(distance, prefix, _)| (*distance, usize::MAX - prefix))
        .map(|(_, _, candidate)| candidate)
}

fn shared_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count()
}

/// Edits between the two: insert, delete, replace, swap of neighbours (optimal string alignment).
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZEROES: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

    #[test]
    fn the_words_are_the_seed() {
        assert_eq!(Phrase::parse(ZEROES).unwrap().seed(), &[0; 32]);
        assert_eq!(
            Phrase::from_seed(&[0x7f; 32]).words().as_str(),
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful \
             legal winner thank year wave sausage worth title"
        );
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let shouted = format!("\n  {}\t\n", ZEROES.to_uppercase().replace(' ', "  \n"));
        assert_eq!(Phrase::parse(&shouted).unwrap().seed(), &[0; 32]);
    }

    #[test]
    fn a_short_phrase_says_how_short() {
        assert_eq!(
            Phrase::parse("abandon art").unwrap_err(),
            PhraseError::WordCount { found: 2 }
        );
        assert_eq!(
            Phrase::parse("").unwrap_err(),
            PhraseError::WordCount { found: 0 }
        );
        let long = format!("{ZEROES} art");
        assert_eq!(
            Phrase::parse(&long).unwrap_err(),
            PhraseError::WordCount { found: 25 }
        );
    }

    #[test]
    fn a_misspelt_word_is_named_with_its_neighbour() {
        for (typed, meant) in [
            ("abandn", "abandon"),
            ("tset", "test"),
            ("aritst", "artist"),
            ("sausige", "sausage"),
        ] {
            let mut words: Vec<&str> = ZEROES.split_whitespace().collect();
            words[6] = typed;
            let error = Phrase::parse(&words.join(" ")).unwrap_err();
            let PhraseError::UnknownWord {
                position,
                word,
                suggestion,
            } = &error
            else {
                panic!("{error:?}")
            };
            assert_eq!((*position, word.as_str(), *suggestion), (7, typed, Some(meant)));
            assert!(error.to_string().contains("word 7"));
        }
    }

    #[test]
    fn nonsense_gets_no_suggestion_and_stays_short() {
        let mut words: Vec<String> = ZEROES.split_whitespace().map(str::to_owned).collect();
        words[0] = "x".repeat(100_000);
        let Err(PhraseError::UnknownWord { word, suggestion, .. }) = Phrase::parse(&words.join(" ")) else {
            panic!("accepted")
        };
        assert_eq!((word.len(), suggestion), (16, None));
    }

    #[test]
    fn swapped_words_fail_the_checksum() {
        let good = Phrase::from_seed(&[0x7f; 32]).words();
        let swapped = good.replacen("legal winner", "winner legal", 1);
        assert_eq!(Phrase::parse(&swapped).unwrap_err(), PhraseError::Checksum);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Phrase::from_seed(&[1; 32])), "Phrase(..)");
    }

    proptest! {
        #[test]
        fn any_seed_comes_back(seed: [u8; 32]) {
            let again = Phrase::parse(&Phrase::from_seed(&seed).words()).unwrap();
            prop_assert_eq!(again.seed(), &seed);
        }

        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = Phrase::parse(&text);
        }
    }
}
