use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::Fingerprint;

const NOW: u64 = 1_800_000_000;

fn key() -> GrantKey {
    GrantKey::from_seed(&[1; 32])
}

fn trusted() -> TrustedKeys {
    TrustedKeys::new(key().public().clone())
}

fn claims() -> GrantClaims {
    GrantClaims {
        subject: Fingerprint::from_bytes([7; 16]),
        role: GrantRole::Member,
        room: RoomScope::Exactly("standup".to_owned()),
        relays: vec!["relay-a".to_owned()],
        sender: None,
        epoch: 0,
        validity: Validity {
            not_before: NOW,
            expires: NOW + 60,
        },
        id: "g-1".to_owned(),
    }
}

/// A token with any header and claims, properly signed by the trusted key.
fn forge(header: &str, claims: &str) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(key().sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn header(alg: &str, typ: &str) -> String {
    format!(
        r#"{{"alg":"{alg}","typ":"{typ}","kid":"{}"}}"#,
        key().public().id()
    )
}

const GOOD: &str = r#"{"sub":"07070707070707070707070707070707","room":"*","iat":1800000000,"nbf":1800000000,"exp":1800000060}"#;

#[test]
fn what_is_issued_is_verified() {
    let token = key().issue(claims()).unwrap();
    let grant = verify(&token, &trusted(), NOW, 0).unwrap();
    assert_eq!(grant.claims(), &claims());
    assert!(grant.allows_room("standup") && !grant.allows_room("other"));
    assert!(grant.allows_relay("relay-a") && !grant.allows_relay("relay-b"));
    assert!(
        verify(&forge(&header("EdDSA", TYPE), GOOD), &trusted(), NOW, 0)
            .unwrap()
            .allows_room("other")
    );
}

#[test]
fn who_is_no_relay_is_a_member_and_there_is_no_third_role() {
    let issued = |role| key().issue(GrantClaims { role, ..claims() }).unwrap();
    for role in [GrantRole::Member, GrantRole::Relay] {
        let grant = verify(&issued(role), &trusted(), NOW, 0).unwrap();
        assert_eq!(grant.role(), role);
    }
    let body = |token: &str| {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        String::from_utf8(claims).unwrap()
    };
    assert!(!body(&issued(GrantRole::Member)).contains("role"));
    assert!(body(&issued(GrantRole::Relay)).contains(r#""role":"relay""#));
    for role in [r#""member""#, r#""Relay""#, r#""""#, "1", r#"["relay"]"#] {
        let said = GOOD.replacen('{', &format!(r#"{{"role":{role},"#), 1);
        let refused = verify(&forge(&header("EdDSA", TYPE), &said), &trusted(), NOW, 0).unwrap_err();
        let expected = match role.starts_with('"') {
            true => GrantError::Claims(ClaimError::Role),
            false => GrantError::Malformed,
        };
        assert_eq!(refused, expected, "{role}");
    }
}

#[test]
fn time_is_judged_with_leeway_at_both_ends() {
    let token = key().issue(claims()).unwrap();
    let at = |now, leeway| verify(&token, &trusted(), now, leeway).map(|_| ());
    assert_eq!(at(NOW - 1, 0), Err(GrantError::NotYetValid));
    assert_eq!(at(NOW - 5, 5), Ok(()));
    assert_eq!(at(NOW + 59, 0), Ok(()));
    assert_eq!(at(NOW + 60, 0), Err(GrantError::Expired));
    assert_eq!(at(NOW + 64, 5), Ok(()));
    assert_eq!(at(u64::MAX, u64::MAX), Err(GrantError::Expired));
    assert_eq!(at(0, u64::MAX), Ok(()));
}

#[test]
fn no_other_algorithm_or_type_is_taken() {
    for alg in ["none", "None", "HS256", "RS256", "ES256", "eddsa", "Ed25519", ""] {
        let token = forge(&header(alg, TYPE), GOOD);
        assert_eq!(
            verify(&token, &trusted(), NOW, 0),
            Err(GrantError::Algorithm),
            "{alg}"
        );
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(
            verify(&unsigned, &trusted(), NOW, 0),
            Err(GrantError::Algorithm),
            "{alg}"
        );
    }
    assert_eq!(
        verify(&forge(&header("EdDSA", "JWT"), GOOD), &trusted(), NOW, 0),
        Err(GrantError::Type)
    );
}

#[test]
fn headers_with_anything_more_or_less_are_malformed() {
    let kid = key().public().id().to_string();
    for text in [
        format!(r#"{{"alg":"EdDSA","typ":"wzp-grant+jwt","kid":"{kid}","crit":["b64"],"b64":false}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"wzp-grant+jwt","kid":"{kid}","jwk":{{}}}}"#),
        format!(r#"{{"alg":"EdDSA","alg":"none","typ":"wzp-grant+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
        format!("{} ", "x".repeat(600)),
        String::new(),
    ] {
        assert_eq!(
            verify(&forge(&text, GOOD), &trusted(), NOW, 0),
            Err(GrantError::Malformed),
            "{text}"
        );
    }
}

#[test]
fn keys_that_are_not_trusted_are_named_as_such() {
    let stranger = GrantKey::from_seed(&[2; 32]);
    let token = stranger.issue(claims()).unwrap();
    assert_eq!(verify(&token, &trusted(), NOW, 0), Err(GrantError::UnknownKey));
    let both = TrustedKeys::overlapping(key().public().clone(), stranger.public().clone());
    assert!(verify(&token, &both, NOW, 0).is_ok());
    // The stranger's signature under the trusted key's name.
    let own = key().issue(claims()).unwrap();
    let mixed = format!(
        "{}.{}",
        own.rsplit_once('.').unwrap().0,
        token.rsplit_once('.').unwrap().1
    );
    assert_eq!(verify(&mixed, &trusted(), NOW, 0), Err(GrantError::Signature));
}

#[test]
fn signed_nonsense_is_refused() {
    let head = header("EdDSA", TYPE);
    let with = |from: &str, to: &str| {
        verify(&forge(&head, &GOOD.replace(from, to)), &trusted(), NOW, 0).unwrap_err()
    };
    assert_eq!(with(r#""*""#, r#""""#), GrantError::Claims(ClaimError::Room));
    assert_eq!(
        with(r#""*""#, r#""a\u0007b""#),
        GrantError::Claims(ClaimError::Room)
    );
    assert_eq!(
        with("1800000060", "1800000000"),
        GrantError::Claims(ClaimError::Validity)
    );
    assert_eq!(with("0707", "07"), GrantError::Malformed);
    assert_eq!(with("1800000060", "-1"), GrantError::Malformed);
    assert_eq!(
        with(r#""room""#, r#""sender":0,"room""#),
        GrantError::Claims(ClaimError::Sender)
    );
    assert_eq!(with(r#""room""#, r#""sub":"x","room""#), GrantError::Malformed);
    assert_eq!(
        verify(&"a".repeat(5_000), &trusted(), NOW, 0),
        Err(GrantError::TooLong)
    );
}

#[test]
fn issuers_cannot_write_what_verifiers_refuse() {
    let mut bad = claims();
    bad.room = RoomScope::Exactly("*".to_owned());
    assert_eq!(key().issue(bad), Err(ClaimError::Room));
    let mut bad = claims();
    bad.relays = vec!["r".to_owned(); 17];
    assert_eq!(key().issue(bad), Err(ClaimError::Relays));
    let mut full = claims();
    full.room = RoomScope::Exactly("\u{1f399}".repeat(16));
    full.relays = vec!["r".repeat(64); 16];
    full.id = "i".repeat(64);
    assert!(key().issue(full).unwrap().len() <= MAX_TOKEN_BYTES);
}

proptest! {
    #[test]
    fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..7) {
        let mut token = key().issue(claims()).unwrap().into_bytes();
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        if let Ok(token) = String::from_utf8(token) {
            prop_assert!(verify(&token, &trusted(), NOW, 0).is_err());
        }
    }

    #[test]
    fn no_text_panics(token in "[A-Za-z0-9_.=-]{0,400}") {
        prop_assert!(verify(&token, &trusted(), NOW, 0).is_err());
    }
}
