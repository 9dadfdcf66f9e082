//! No text is a grant unless it was signed, and whatever signed claims are taken could have been issued.
#![no_main]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use wzp_identity::{GrantKey, GrantPublicKey, Identity, Phrase, TrustedKeys, verify};

const NOW: u64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let signer = Identity::from_phrase(&Phrase::from_seed(&[1; 32]));
    let Ok(public) = GrantPublicKey::from_bytes(&signer.public().to_bytes()) else {
        unreachable!()
    };
    let header = format!(
        r#"{{"alg":"EdDSA","typ":"wzp-grant+jwt","kid":"{}"}}"#,
        public.id()
    );
    let trusted = TrustedKeys::new(public);

    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(verify(text, &trusted, NOW, 60).is_err());
    }
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(bytes)
    );
    let token = format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes()))
    );
    if let Ok(grant) = verify(&token, &trusted, NOW, 60) {
        let issuer = GrantKey::from_seed(&[2; 32]);
        let again = issuer
            .issue(grant.claims().clone())
            .expect("what is verified can be issued");
        let again = verify(&again, &TrustedKeys::new(issuer.public().clone()), NOW, 60);
        assert_eq!(again.as_ref(), Ok(&grant));
    }
});
