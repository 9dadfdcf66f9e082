//! What `wzp-client --json` says in real calls, against `docs/json.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;

use serde_json::Value;
use wzp_e2e::{
    process::{Process, Scratch},
    relay::Relay,
};

/// The fields of a table of the document, and whether they may be absent.
fn documented(heading: &str) -> Vec<(String, bool)> {
    let text = include_str!("../../docs/json.md");
    let heading = format!("\n{heading}\n");
    let (_, section) = text
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no{heading}in the document"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| (row.split('`').next().unwrap().to_owned(), row.contains("absent")))
        .collect()
}

fn assert_documented(event: &Value) {
    let name = event["event"].as_str().unwrap();
    let mut fields = documented(&format!("## `{name}`"));
    if name == "notice" {
        fields.extend(documented(&format!("### `{}`", event["kind"].as_str().unwrap())));
    }
    let said: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    let all: BTreeSet<&str> = fields
        .iter()
        .map(|(field, _)| field.as_str())
        .chain(["event"])
        .collect();
    let optional: BTreeSet<&str> = fields
        .iter()
        .filter(|(_, absent)| *absent)
        .map(|(field, _)| field.as_str())
        .collect();
    assert!(said.is_subset(&all), "{:?} of {event}", said.difference(&all));
    let missing: Vec<_> = all
        .difference(&said)
        .filter(|field| !optional.contains(*field))
        .collect();
    assert!(missing.is_empty(), "no {missing:?} in {event}");
}

/// Everything that a program said, which is JSON but for what goes to standard error, by name.
fn events(process: &Process) -> Vec<Value> {
    let log = process.log();
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn events_of_calls_have_exactly_the_documented_fields() {
    let relay = Relay::start(&[]);
    let address = relay.address.to_string();
    let home = Scratch::default();
    let file = home.file("heard.wav");
    let mut recorder = Process::start(
        "wzp-client",
        &home,
        &["--json", "--record", file.to_str().unwrap(), &address],
    );
    recorder.json("connected");
    let run = |words: &[&str]| {
        let mut process = Process::start("wzp-client", &home, &[&["--json"], words].concat());
        process.wait();
        events(&process)
    };
    let spoken = run(&["--send-tone", "3", &address]);
    let tested = run(&["--echo-test", "4", &address]);
    let drifted = run(&["--drift-test", "5", &address]);
    let refused = run(&["--send-tone", "0", &address]);
    recorder.signal("INT");
    recorder.wait();
    let recorded = events(&recorder);
    let all = [&recorded[..], &spoken, &tested, &drifted, &refused].concat();
    for event in &all {
        assert_documented(event);
    }
    let seen: BTreeSet<&str> = all.iter().filter_map(|event| event["event"].as_str()).collect();
    for name in [
        "connected",
        "member",
        "notice",
        "stats",
        "summary",
        "quality",
        "drift",
        "verdict",
        "error",
    ] {
        assert!(seen.contains(name), "{name} was never said");
    }

    let spoke = of(&spoken, "connected")[0];
    for member in of(&recorded, "member") {
        assert_eq!(member["fingerprint"], spoke["fingerprint"]);
        assert_eq!(member["sender"], spoke["sender"]);
    }
    let (sent, heard) = (of(&spoken, "summary")[0], of(&recorded, "summary")[0]);
    let count = |summary: &Value, field: &str| summary[field].as_u64().unwrap();
    assert!(count(sent, "repair_sent") > 0 && count(heard, "repair_received") > 0);
    // What is lost of what was sent on a link without faults is next to nothing, by their own counts too.
    let (came, lost) = (count(heard, "received"), count(heard, "lost"));
    assert!(
        came + lost <= count(sent, "sent") && lost * 10 <= came,
        "{sent} {heard}"
    );
}
