use super::*;
use crate::sweep::Buffer;

/// What the words after the name of the program mean, in an environment without ours.
fn meant(words: &str) -> Result<Command, Failure> {
    let words = std::iter::once("wzp-client").chain(words.split_whitespace());
    let line: Vec<OsString> = words.map(OsString::from).collect();
    match parse(&line)? {
        Parsed::Run(invocation) => Ok(invocation.command),
        Parsed::Print(text) => panic!("{text}"),
    }
}

fn refused(words: &str) -> String {
    let failure = meant(words).unwrap_err();
    assert_eq!(failure.exit, crate::exit::Exit::Usage, "{words}: {failure}");
    assert!(!failure.text.contains('\n'), "{words}: {failure}");
    failure.text
}

#[test]
fn quick_start_is_a_tone_into_the_lobby() {
    let Command::Call { link, room, sound } = meant("--send-tone 5 127.0.0.1:4433").unwrap() else {
        panic!()
    };
    let Home::Relay { relay, admission, .. } = link.home else {
        panic!()
    };
    assert_eq!((relay.as_str(), room.as_str()), ("127.0.0.1:4433", "lobby"));
    assert_eq!(
        (sound.source, sound.record),
        (Source::Tone(Duration::from_secs(5)), None)
    );
    assert!(matches!(admission, Admission::Open) && matches!(link.identity, identity::Choice::Default));
}

#[test]
fn sending_and_recording_go_together() {
    let words =
        "--room tea --send-file in.wav --record out.wav --secs 20 --tier degraded --carrier quic relay:1";
    let Command::Call { link, room, sound } = meant(words).unwrap() else {
        panic!()
    };
    assert_eq!(room.as_str(), "tea");
    assert_eq!(
        (sound.source, sound.record),
        (Source::File("in.wav".into()), Some("out.wav".into()))
    );
    assert_eq!(sound.time, Some(Duration::from_secs(20)));
    assert_eq!(
        (link.tier, link.carrier),
        (TierChoice::Fixed(wzp_sdk::Tier::Degraded), Preference::Quic)
    );
}

#[test]
fn tests_get_a_room_of_their_own_unless_one_is_named() {
    assert!(matches!(
        meant("--echo-test 5 a:1"),
        Ok(Command::Echo { room: None, .. })
    ));
    let Ok(Command::Drift { room: Some(room), .. }) = meant("--drift-test 20 --room tea a:1") else {
        panic!()
    };
    assert_eq!(room.as_str(), "tea");
}

#[test]
fn sweep_needs_no_relay_and_takes_lists() {
    let Ok(Command::Sweep(options)) = meant("--sweep --tier good --loss 0,10 --buffer auto,80 --secs 3")
    else {
        panic!()
    };
    assert_eq!(
        (options.tiers, options.loss_percent),
        (vec![wzp_sdk::Tier::Good], vec![0, 10])
    );
    assert_eq!(
        (options.buffers, options.time),
        (vec![Buffer::Auto, Buffer::Fixed(80)], Duration::from_secs(3))
    );
    assert!(refused("--sweep --buffer 5").contains("from 10 to 1000 ms"));
}

#[test]
fn what_cannot_be_is_refused_in_one_line_that_says_what_to_do() {
    assert!(refused("").contains("--send-tone SECS"));
    assert!(refused("a:1").contains("say what to do"));
    assert!(refused("--live --record f.wav a:1").contains("--record and --live cannot be combined"));
    assert!(refused("--send-tone 5").contains("name the relay"));
    assert!(refused("--send-tone 5 relay").contains("write host:port"));
    assert!(refused("--send-tone 0 a:1").ends_with("0 is not in 1..=86400"));
    assert!(refused("--echo-test 3 a:1").ends_with("3 is not in 4..=86400"));
    assert!(refused("--send-tone five a:1").contains("--send-tone"));
    assert!(
        refused("--send-tone 5 --tier best a:1")
            .contains("possible values: good, degraded, catastrophic, auto")
    );
    assert!(refused("--send-tone 5 --relay-cert 12 a:1").contains("64 hex digits"));
    assert!(refused("--send-tone 5 --secret x a:1").contains("--secret"));
    assert!(
        refused("--send-tone 5 --secret 0123456789abcdef --grant x a:1").contains("--secret and --grant")
    );
    assert!(refused("--send-tune 5 a:1").contains("exists: '--send-tone'"));
    assert!(
        refused(&format!("--send-tone 5 --room {} a:1", "x".repeat(65))).contains("longer than 64 bytes")
    );
    assert!(refused("--send-tone 5 --log wzp=loud a:1").contains("--log"));
    assert!(refused("--send-tone 5 identity show").contains("--send-tone does not apply to identity"));
}

#[test]
fn what_means_nothing_in_a_mode_is_refused() {
    for (words, said) in [
        (
            "--echo-test 5 --secs 1 a:1",
            "--secs does not apply to --echo-test",
        ),
        (
            "--drift-test 5 --csv f a:1",
            "--csv does not apply to --drift-test",
        ),
        (
            "--echo-test 5 --loss 10 a:1",
            "--loss does not apply to --echo-test",
        ),
        (
            "--send-tone 5 --no-denoise a:1",
            "--no-denoise does not apply to --send-tone",
        ),
        ("--record f.wav --seed 2 a:1", "--seed does not apply to --record"),
        (
            "--send-file i.wav --record f.wav --svg s a:1",
            "--svg does not apply to --send-file",
        ),
        ("--sweep a:1", "a relay does not apply to --sweep"),
        ("--sweep --room tea", "--room does not apply to --sweep"),
        (
            "--sweep --control http://c",
            "--control does not apply to --sweep",
        ),
        (
            "--send-tone 5 --control http://c a:1",
            "a relay and --control cannot be combined",
        ),
        (
            "--send-tone 5 --control http://c --grant g",
            "--grant does not apply to --control",
        ),
        (
            "--send-tone 5 --region eu a:1",
            "--region does not apply to a relay",
        ),
        ("identity show --secs 1", "--secs"),
        ("--room tea identity show", "--room does not apply to identity"),
        ("a:1 identity show", "a relay does not apply to identity"),
    ] {
        assert!(refused(words).contains(said), "{words}: {}", refused(words));
    }
    for words in [
        "--live --no-denoise --secs 5 a:1",
        "--send-tone 5 --control http://c --api-key k --region eu",
        "--echo-test 5 --control http://c",
        "--drift-test 5 --control http://c",
        "--send-tone 5 --secs 2 --record f.wav a:1",
        "--sweep --send-file f.wav --secs 2 --seed 3 --json --log info",
        "--echo-test 5 --tier good --room tea --carrier quic --identity f --known-relays k --grant g a:1",
    ] {
        assert!(meant(words).is_ok(), "{words}");
    }
}

#[test]
fn pin_in_the_variable_of_the_relays_file_is_no_file() {
    let failure = refuse_misplaced_pin(Some(&"0".repeat(64))).unwrap_err();
    assert!(failure.text.contains("WZP_RELAY_CERT_SHA256"), "{failure}");
    assert_eq!(refuse_misplaced_pin(Some("/etc/wzp/relay.pem")), Ok(()));
    assert_eq!(refuse_misplaced_pin(None), Ok(()));
}

#[test]
fn secret_of_nothing_is_none() {
    let line = ["wzp-client", "--send-tone", "5", "--secret", "", "a:1"].map(OsString::from);
    let Ok(Parsed::Run(invocation)) = parse(&line) else {
        panic!()
    };
    assert!(matches!(
        invocation.command,
        Command::Call {
            link: Link {
                home: Home::Relay {
                    admission: Admission::Open,
                    ..
                },
                ..
            },
            ..
        }
    ));
}

#[test]
fn identity_takes_its_file_before_or_behind() {
    for words in ["--identity f identity show", "identity show --identity f"] {
        let Ok(Command::Identity(identity::Action::Show {
            choice: identity::Choice::File(file),
            phrase: false,
        })) = meant(words)
        else {
            panic!("{words}")
        };
        assert_eq!(file, PathBuf::from("f"));
    }
    assert!(refused("identity verify nobody").contains("public key of 64 hex digits"));
    assert!(refused("identity new --identity -").contains("must name the file"));
}

#[test]
fn help_explains_every_flag_and_its_variable() {
    let Ok(Parsed::Print(help)) = parse(&["wzp-client", "--help"].map(OsString::from)) else {
        panic!()
    };
    for flag in [
        "SEND_TONE",
        "SEND_FILE",
        "RECORD",
        "SECS",
        "LIVE",
        "ECHO_TEST",
        "DRIFT_TEST",
        "SWEEP",
        "ROOM",
        "IDENTITY",
        "SECRET",
        "GRANT",
        "RELAY_CERT_SHA256",
        "KNOWN_RELAYS",
        "TIER",
        "CARRIER",
        "CONTROL",
        "API_KEY",
        "REGION",
        "NO_DENOISE",
        "JSON",
        "LOG",
        "RELAY",
    ] {
        assert!(help.contains(&format!("[env: WZP_{flag}")), "{flag}");
        // The relay has a WZP_RELAY_CERT of its own, which is a file.
        let name = flag.trim_end_matches("_SHA256");
        let dashed = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert!(flag == "RELAY" || help.contains(&dashed), "{dashed}");
    }
    assert!(help.contains("Exit codes:") && help.contains("WZP_PHRASE"));
}
