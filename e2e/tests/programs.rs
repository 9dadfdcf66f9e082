//! `wzp-client` against a running relay.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use wzp_e2e::{
    ears::Ears,
    link::Link,
    process::{Process, Scratch, binary},
    relay::Relay,
};
use wzp_sdk::audio::{FRAME, Read, Sink, Source, WavSource};

const TONE: f32 = 440.0;
const SAYS_SO_WITHIN: Duration = Duration::from_secs(6);

/// A client with a home of its own.
struct Program {
    process: Process,
    _home: Scratch,
}

fn start(args: &[&str]) -> Program {
    let home = Scratch::default();
    let process = Process::start("wzp-client", &home, args);
    Program { process, _home: home }
}

/// Runs one to its end: exit code, and what it said.
fn run(args: &[&str]) -> (i32, String) {
    let mut program = start(args);
    let (status, _) = program.process.wait();
    (status.code().unwrap_or(-1), program.process.log())
}

fn listen(file: &Path) -> Ears {
    let mut source = WavSource::open(file).unwrap_or_else(|error| panic!("{error}"));
    let (mut ears, mut frame) = (Ears::default(), [0.0; FRAME]);
    while source.read(&mut frame) != Read::End {
        ears.write(&frame);
    }
    ears
}

#[test]
fn one_program_records_what_another_one_says() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let scratch = Scratch::default();
    let file = scratch.file("heard.wav");
    let record = [
        "--json",
        "--room",
        "tea",
        "--record",
        file.to_str().unwrap(),
        &address,
    ];
    let mut recorder = start(&record);
    let connected = recorder.process.json("connected");
    for field in [
        "room",
        "fingerprint",
        "sender",
        "relay",
        "address",
        "carrier",
        "members",
    ] {
        assert!(!connected[field].is_null(), "no {field} in {connected}");
    }
    let (code, said) = run(&["--json", "--room", "tea", "--send-tone", "3", &address]);
    assert_eq!(code, 0, "{said}");
    recorder.process.json("member");
    recorder.process.signal("INT");
    let (status, _) = recorder.process.wait();
    assert!(status.success(), "{status}: {}", recorder.process.log());
    let summary = recorder.process.json("summary");
    assert!(
        summary["received"].as_u64() > Some(100) && summary["rtt_ms"].as_f64().is_some(),
        "{summary}"
    );
    for field in ["room", "fingerprint"] {
        assert_eq!(summary[field], connected[field]);
    }
    let heard = listen(&file).heard_ms(TONE);
    assert!((2_000..3_500).contains(&heard), "{heard} ms of 3 s");
}

#[test]
fn what_is_recorded_can_be_sent_again() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let scratch = Scratch::default();
    let (first, second) = (scratch.file("first.wav"), scratch.file("second.wav"));
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    for (from, to) in [(None, &first), (Some(&first), &second)] {
        let mut recorder = start(&["--json", "--record", &file(to), "--secs", "15", &address]);
        recorder.process.json("connected");
        let sent = match from {
            None => run(&["--send-tone", "2", &address]),
            Some(from) => run(&["--send-file", &file(from), &address]),
        };
        assert_eq!(sent.0, 0, "{}", sent.1);
        recorder.process.signal("INT");
        assert!(recorder.process.wait().0.success());
        assert!(listen(to).heard_ms(TONE) > 1_000);
    }
}

#[test]
fn measuring_a_good_link_ends_well() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let (code, said) = run(&["--json", "--echo-test", "5", &address]);
    // A machine that is busy with something else may make a good link bad; the verdict says so.
    assert!(said.contains("\"event\":\"verdict\""), "{said}");
    let fit = ["good", "usable"].map(|verdict| said.contains(&format!("\"verdict\":\"{verdict}\"")));
    assert_eq!(code == 0, fit.contains(&true), "{code}: {said}");
    let (code, said) = run(&["--json", "--drift-test", "5", &address]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"event\":\"drift\""), "{said}");
}

#[test]
fn a_link_of_seconds_is_not_good_enough_to_talk() {
    let relay = Relay::start(&[]);
    let link = Link::start(relay.address, &["--delay-ms", "800"]);
    let (code, said) = run(&["--json", "--echo-test", "5", &link.address.to_string()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("\"verdict\":\"bad\""), "{said}");
}

#[test]
fn a_wrong_secret_is_refused_with_77_and_the_right_one_is_not() {
    let relay = Relay::start(&["--secret", "a secret of sixteen and more"]);
    let address = relay.address.to_string();
    let tone = |secret: &[&str]| run(&[secret, &["--send-tone", "1", &address]].concat());
    for secret in [&[][..], &["--secret", "another secret, as long"]] {
        let (code, said) = tone(secret);
        assert_eq!(code, 77, "{said}");
        assert!(said.contains("secret"), "{said}");
    }
    let (code, said) = tone(&["--secret", "a secret of sixteen and more"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_changed_certificate_is_refused_with_77_and_both_hashes() {
    let home = Scratch::default();
    let first = Relay::start(&[]);
    let (address, expected) = (first.address.to_string(), first.certificate);
    let tone = || {
        let mut process = Process::start("wzp-client", &home, &["--send-tone", "1", &address]);
        let (status, _) = process.wait();
        (status.code(), process.log())
    };
    assert_eq!(tone().0, Some(0));
    drop(first);
    let second = Relay::start_at(&address, &[]);
    let (code, said) = tone();
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains(&expected.to_string()) && said.contains(&second.certificate.to_string()));
}

#[test]
fn a_relay_that_is_not_there_is_told_in_time_with_69() {
    let began = Instant::now();
    let (code, said) = run(&["--send-tone", "1", "127.0.0.1:9"]);
    assert_eq!(code, 69, "{said}");
    assert!(began.elapsed() < SAYS_SO_WITHIN, "{:?}", began.elapsed());
}

#[test]
fn a_relay_that_stops_ends_the_program_with_its_reason() {
    let mut relay = Relay::start(&[]);
    let mut program = start(&["--json", "--send-tone", "60", &relay.address.to_string()]);
    program.process.json("connected");
    relay.process.signal("TERM");
    let (status, _) = program.process.wait();
    assert_eq!(status.code(), Some(1), "{}", program.process.log());
    let error = program.process.json("error");
    assert!(error.to_string().contains("stop"), "{error}");
    program.process.json("summary");
    assert!(relay.process.wait().0.success());
}

#[test]
fn a_recorder_that_is_killed_leaves_what_it_heard_in_place_of_an_older_file() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let scratch = Scratch::default();
    let file = scratch.file("heard.wav");
    fs::write(&file, "an older recording").unwrap();
    let mut recorder = start(&["--json", "--record", file.to_str().unwrap(), &address]);
    recorder.process.json("connected");
    let (code, said) = run(&["--send-tone", "3", &address]);
    assert_eq!(code, 0, "{said}");
    recorder.process.kill();
    recorder.process.wait();
    assert!(listen(&file).heard_ms(TONE) > 1_000);
}

#[test]
fn a_full_disk_is_told_and_not_survived() {
    let relay = Relay::start(&[]);
    let (code, said) = run(&["--record", "/dev/full", "--secs", "5", &relay.address.to_string()]);
    assert!(code == 64 || code == 1, "{code}: {said}");
    assert!(said.contains("full"), "{said}");
}

/// A recorder whose files have room for their header and a few milliseconds, in its room.
fn short_of_room(relay: &Relay, home: &Scratch) -> Process {
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(binary("wzp-client"))
        .env("HOME", home.file("."))
        .args(["--json", "--record"])
        .arg(home.file("short.wav"))
        .args([
            "--relay-cert",
            &relay.certificate.to_string(),
            &relay.address.to_string(),
        ]);
    let process = Process::spawn(&mut command);
    process.json("connected");
    process
}

#[test]
fn a_disk_that_fills_during_a_call_is_told_of_at_once_and_at_the_end() {
    let relay = Relay::start(&[]);
    let home = Scratch::default();
    let mut process = short_of_room(&relay, &home);
    let began = Instant::now();
    let (status, _) = process.wait();
    // A second of sound is gathered before it is written.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(1), "{}", process.log());
    let notices = process.log().matches(r#""kind":"recording""#).count();
    assert_eq!(notices, 1, "{}", process.log());
    let error = process.json("error").to_string();
    assert!(error.contains("disk is full"), "{error}");
    process.json("summary");
    // What is there can be played.
    listen(&home.file("short.wav"));
}

#[tokio::test]
async fn a_last_second_that_finds_no_room_is_told_at_the_end() {
    let relay = Relay::start(&[]);
    let home = Scratch::default();
    let mut process = short_of_room(&relay, &home);
    // After ten packets of 20 ms some frames have been recorded, but no second.
    let _other = start(&["--send-tone", "5", &relay.address.to_string()]);
    relay
        .until("wzp_relay_packets_total{dir=\"out\",leg=\"client\"}", |sent| {
            sent >= 10.0
        })
        .await;
    process.signal("INT");
    let (status, _) = process.wait();
    assert_eq!(status.code(), Some(1), "{}", process.log());
    let error = process.json("error").to_string();
    assert!(error.contains("disk is full"), "{error}");
}

#[test]
fn files_that_are_no_sound_are_refused_with_64() {
    let relay = Relay::start(&[]);
    let scratch = Scratch::default();
    let file = scratch.file("broken.wav");
    for bytes in [
        &b""[..],
        b"RIFF",
        b"this is not a WAV file, but it is long enough to be one",
    ] {
        fs::write(&file, bytes).unwrap();
        let (code, said) = run(&["--send-file", file.to_str().unwrap(), &relay.address.to_string()]);
        assert_eq!(code, 64, "{said}");
        assert!(said.contains("broken.wav"), "{said}");
    }
}

#[test]
fn a_relay_that_is_killed_is_told_of_and_ends_the_program() {
    let mut relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let mut program = start(&["--json", "--send-tone", "60", &address]);
    program.process.json("connected");
    relay.process.kill();
    let notice = program.process.json("notice");
    let (status, took) = program.process.wait();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(status.code(), Some(1));
    let log = program.process.log();
    assert_eq!(program.process.json("error")["exit_code"], 1, "{log}");
    assert!(
        log.contains("\"kind\":\"relay_silent\""),
        "{notice} first of {log}"
    );
    assert!(
        log.contains(&format!("relay {address} has not answered for 10 s")),
        "{log}"
    );
}
