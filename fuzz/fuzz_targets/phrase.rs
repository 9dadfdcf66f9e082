//! A phrase that is read is written the same way again; errors stay short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_identity::{Fingerprint, Phrase};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Phrase::parse(text) {
        Ok(phrase) => {
            let words = phrase.words();
            let typed: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
            assert_eq!(typed.join(" "), *words);
        }
        Err(error) => assert!(error.to_string().len() < 400),
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
});
