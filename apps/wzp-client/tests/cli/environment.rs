//! What the environment says, and what the command line says against it.

use std::process::Command;

use super::{Home, refusal, silent_relay, stdout};

/// The program's own list of its variables.
fn variables(home: &Home) -> Vec<String> {
    let help = home.run(&["--help"]);
    let names = stdout(&help).split("[env: ").skip(1);
    let names = names.filter_map(|rest| Some(rest.split_once(['=', ']'])?.0.to_owned()));
    names.collect()
}

/// A phrase with a wrong word in it: the last thing that is looked at before anybody is called.
const PHRASE: (&str, &str) = ("WZP_PHRASE", "abandin");

#[test]
fn every_flag_has_a_variable_of_its_name_but_one() {
    let home = Home::new("names");
    let help = home.run(&["--help"]);
    let mut flags: Vec<_> = stdout(&help)
        .lines()
        .filter_map(|line| {
            line.trim_start()
                .split_once("--")
                .filter(|(before, _)| before.len() <= 4)
        })
        .map(|(_, rest)| rest.split([' ', '\n']).next().unwrap())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        .filter(|name| !["help", "version"].contains(name))
        .map(|name| format!("WZP_{}", name.to_uppercase().replace('-', "_")))
        .map(|name| {
            if name == "WZP_RELAY_CERT" {
                format!("{name}_SHA256")
            } else {
                name
            }
        })
        .chain(["WZP_RELAY".to_owned()])
        .collect();
    flags.sort();
    flags.dedup();
    let mut variables = variables(&home);
    variables.sort();
    assert!(variables.len() > 20, "{variables:?}");
    assert_eq!(flags, variables);
}

#[test]
fn variable_of_nothing_counts_as_not_set() {
    let home = Home::new("empty");
    let call = ["--send-tone", "1", "127.0.0.1:9"];
    let mut all = home.program(&call);
    for name in variables(&home) {
        let mut one = home.program(&call);
        let output = one.env(&name, "").envs([PHRASE]).output().unwrap();
        assert!(
            refusal(&output, 64).contains("a phrase has 24 words"),
            "{name}: {output:?}"
        );
        all.env(name, "");
    }
    let output = all.envs([PHRASE]).output().unwrap();
    assert!(
        refusal(&output, 64).contains("a phrase has 24 words"),
        "{output:?}"
    );
    let mut nothing = home.program(&[]);
    let output = nothing
        .env("WZP_SWEEP", "")
        .env("WZP_SEND_TONE", "")
        .output()
        .unwrap();
    assert!(refusal(&output, 64).contains("say what to do"), "{output:?}");
}

#[test]
fn mode_on_the_command_line_replaces_every_mode_of_the_environment() {
    let home = Home::new("modes");
    let modes = [
        ("WZP_LIVE", "1"),
        ("WZP_SEND_TONE", "5"),
        ("WZP_SEND_FILE", "none.wav"),
        ("WZP_RECORD", "f.wav"),
        ("WZP_ECHO_TEST", "5"),
        ("WZP_DRIFT_TEST", "5"),
        ("WZP_SWEEP", "1"),
    ];
    for words in [
        &["--record", "x.wav"][..],
        &["--send-tone", "1"],
        &["--live"],
        &["--echo-test", "5"],
        &["--drift-test", "5"],
    ] {
        let mut call = home.program(&[words, &["127.0.0.1:9"]].concat());
        let output = call.envs(modes).envs([PHRASE]).output().unwrap();
        assert!(
            refusal(&output, 64).contains("a phrase has 24 words"),
            "{words:?}: {output:?}"
        );
    }
    let mut show = home.program(&["identity", "show"]);
    let output = show.envs(modes).output().unwrap();
    assert!(refusal(&output, 64).contains("identity new"), "{output:?}");
    // Two of the environment are still too many.
    let mut call = home.program(&["127.0.0.1:9"]);
    let output = call.envs(modes).output().unwrap();
    assert!(refusal(&output, 64).contains("cannot be combined"), "{output:?}");
}

#[test]
fn secret_identity_and_trust_of_the_command_line_win() {
    let home = Home::new("wins");
    let tone = ["--send-tone", "1", "127.0.0.1:9"];
    let mut call = home.program(&[&tone[..], &["--secret", "0123456789abcdef"]].concat());
    let output = call.env("WZP_GRANT", "g").envs([PHRASE]).output().unwrap();
    assert!(
        refusal(&output, 64).contains("a phrase has 24 words"),
        "{output:?}"
    );
    let mut call = home.program(&[&tone[..], &["--known-relays", "k", "--identity", "mine"]].concat());
    let output = call
        .env("WZP_RELAY_CERT_SHA256", "x")
        .envs([PHRASE])
        .output()
        .unwrap();
    assert!(refusal(&output, 64).contains("mine"), "{output:?}");
    // Nothing of the environment is refused for not applying to the mode.
    let mut call = home.program(&tone);
    assert_reads_the_phrase(call.env("WZP_NO_DENOISE", "1").env("WZP_CSV", "f"));
}

/// The call gets as far as a wrong phrase: nothing before that was refused.
fn assert_reads_the_phrase(call: &mut Command) {
    let output = call.envs([PHRASE]).output().unwrap();
    assert!(
        refusal(&output, 64).contains("a phrase has 24 words"),
        "{output:?}"
    );
}

#[test]
fn phrase_of_the_environment_is_kept_where_the_flag_says() {
    let home = Home::new("restore");
    let mut restore = home.program(&["identity", "new", "--restore", "--identity", "mine"]);
    let phrase = format!("{} art", "abandon ".repeat(23));
    let output = restore.env("WZP_PHRASE", phrase).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(home.file("mine").exists());
}

#[test]
fn pin_under_the_name_of_the_relays_file_is_refused() {
    let home = Home::new("pin");
    let (_socket, relay) = silent_relay();
    let mut call = home.program(&["--send-tone", "1", &relay]);
    let output = call.env("WZP_RELAY_CERT", "0".repeat(64)).output().unwrap();
    assert!(
        refusal(&output, 64).contains("WZP_RELAY_CERT_SHA256"),
        "{output:?}"
    );
    // On one machine the relay's own file may be named there.
    let mut call = home.program(&["--send-tone", "1", &relay]);
    assert_reads_the_phrase(call.env("WZP_RELAY_CERT", "relay.pem"));
}

#[test]
fn wrong_usage_is_an_event_too() {
    let home = Home::new("error");
    let said = |words: &[&str], variable: (&str, &str)| {
        let output = home.program(words).envs([variable]).output().unwrap();
        let error: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(error["event"], "error");
        assert_eq!(error["exit_code"], 64);
        assert_eq!(error["text"], refusal(&output, 64));
    };
    let none = ("WZP_JSON", "");
    said(&["--json"], none);
    said(&["--bogus", "--json"], none);
    said(&["--json", "--send-tone", "never", "a:1"], none);
    said(&["identity", "--json"], none);
    said(&["--json", "--send-file", "none.wav", "a:1"], none);
    said(&["--send-tone"], ("WZP_JSON", "yes"));
    let output = home.program(&["--bogus"]).env("WZP_JSON", "0").output().unwrap();
    assert!(output.stdout.is_empty() && !refusal(&output, 64).is_empty());
}
