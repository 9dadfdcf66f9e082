use super::*;
use wzp_sdk::{LastSecond, SenderId};

fn json(event: &Event<'_>) -> serde_json::Value {
    serde_json::to_value(event).unwrap()
}

#[test]
fn who_said_nothing_is_not_the_worst() {
    let mut speaks = LastSecond::default();
    (speaks.mos, speaks.delay_ms) = (Some(4.2), Some(55.0));
    let remote = |last_second| RemoteStats {
        last_second,
        ..RemoteStats::new(SenderId::new(1).unwrap())
    };
    let remotes = [speaks, LastSecond::default()].map(remote).to_vec();
    let now = Stats {
        remotes,
        ..Stats::default()
    };
    let second = Second::between(&Stats::default(), &now);
    assert_eq!((second.mos, second.delay_ms), (Some(4.2), Some(55.0)));
    let nobody = json(&Event::Stats(&Second::between(&now, &Stats::default())));
    for field in ["mos", "delay_ms", "jitter_ms", "rtt_ms"] {
        assert!(nobody[field].is_null(), "{nobody}");
    }
}

#[test]
fn who_leaves_takes_nothing_from_the_second_of_the_others() {
    let remote = |sender, received, lost| RemoteStats {
        received,
        lost,
        concealed_ms: 20 * lost,
        ..RemoteStats::new(SenderId::new(sender).unwrap())
    };
    let stats = |remotes| Stats {
        remotes,
        ..Stats::default()
    };
    let before = stats(vec![remote(1, 1_000, 50), remote(2, 100, 0), remote(3, 900, 9)]);
    let now = stats(vec![remote(2, 140, 10), remote(3, 40, 10)]);
    let second = Second::between(&before, &now);
    assert_eq!((second.loss_percent, second.concealed_ms), (20.0, 400));
}

#[test]
fn loss_is_lost_of_received_and_lost() {
    let stats = Stats {
        sent: 120,
        repair_sent: 20,
        received: 108,
        repair_received: 18,
        remotes: vec![RemoteStats {
            received: 90,
            lost: 10,
            ..RemoteStats::new(SenderId::new(1).unwrap())
        }],
        ..Stats::default()
    };
    let summary = Summary::new(&stats, "tea", "ab".into());
    assert_eq!((summary.sent, summary.repair_sent), (100, 20));
    assert_eq!(
        (summary.received, summary.repair_received, summary.lost),
        (90, 18, 10)
    );
}

/// The fields of a table of `docs/json.md`, and whether they may be absent.
fn documented(heading: &str) -> Vec<(String, bool)> {
    let text = include_str!("../../../../docs/json.md");
    let heading = format!("\n{heading}\n");
    let (_, section) = text.split_once(&heading).unwrap_or_else(|| panic!("no{heading}"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| (row.split('`').next().unwrap().to_owned(), row.contains("absent")))
        .collect()
}

/// The event has all fields of its table that are never absent, and no others.
fn assert_documented(event: &Event<'_>) {
    let json = json(event);
    let name = json["event"].as_str().unwrap();
    let mut fields = documented(&format!("## `{name}`"));
    if name == "notice" {
        fields.extend(documented(&format!("### `{}`", json["kind"].as_str().unwrap())));
    }
    let said: Vec<&String> = json
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| *key != "event")
        .collect();
    for field in &said {
        assert!(fields.iter().any(|(name, _)| name == *field), "{field} of {json}");
    }
    for (field, _) in fields.iter().filter(|(_, absent)| !absent) {
        assert!(said.contains(&field), "no {field} in {json}");
    }
}

#[test]
fn notices_have_the_fields_that_are_documented() {
    let text = || "ab".to_owned();
    let (sender, count) = (1, 2);
    for notice in [
        Notice::Identity,
        Notice::FirstVisit {
            relay: text(),
            certificate: text(),
        },
        Notice::KeyMismatch { sender, count },
        Notice::Unheard { sender, count },
        Notice::Misbehaviour { sender, why: text() },
        Notice::UpstreamLost { said: text() },
        Notice::UpstreamRestored { said: text() },
        Notice::Relay { said: text() },
        Notice::Rejoined { sender, members: 1 },
        Notice::RelaySilent {
            relay: text(),
            silent_ms: 3_000,
        },
        Notice::RelayAnswers {
            relay: text(),
            silent_ms: 3_000,
        },
        Notice::PathRefused {
            relay: text(),
            why: text(),
        },
        Notice::Moving {
            epoch: 2,
            relays: vec![text()],
        },
        Notice::Recording {
            file: text(),
            why: text(),
        },
        Notice::Sweep {
            speech: text(),
            speech_ms: 10_000,
        },
    ] {
        let text = notice.to_string();
        assert_documented(&Event::Notice { notice, text });
    }
}

#[test]
fn events_have_the_fields_that_are_documented() {
    let text = || "ab".to_owned();
    let stats = Stats::default();
    let second = Second::between(&stats, &stats);
    let summary = Summary::new(&stats, "tea", text());
    let member = |joined, left| Event::Member {
        fingerprint: text(),
        sender: 1,
        joined,
        left,
    };
    for event in [
        Event::Connected {
            room: "tea",
            fingerprint: text(),
            sender: 1,
            relay: "a:1",
            address: text(),
            carrier: "lane",
            members: 0,
        },
        Event::Path {
            kind: "relay",
            relay: "a:1",
            address: text(),
            carrier: "quic",
            why: "forced",
            cause: None,
            both: None,
            standby: None,
        },
        Event::Path {
            kind: "relay",
            relay: "relay-1",
            address: text(),
            carrier: "lane",
            why: "answered",
            cause: Some("silent"),
            both: Some(false),
            standby: Some("relay-2"),
        },
        member(Some(true), None),
        member(None, Some(true)),
        Event::Tier {
            from: "good",
            to: "degraded",
            why: "loss",
        },
        Event::Stats(&second),
        Event::Summary(&summary),
        Event::Quality {
            second: 1,
            rtt_ms: None,
            echo_ms: None,
            loss_percent: 0.0,
            jitter_ms: None,
            delay_ms: None,
            concealed_ms: 0,
            mos: None,
        },
        Event::Drift {
            fingerprint: text(),
            own: true,
            ppm: 0.0,
            error_ppm: 1.0,
        },
        Event::Verdict {
            verdict: "good",
            text: text(),
        },
        Event::Identity {
            fingerprint: text(),
            public_key: text(),
            file: None,
            phrase: Some("words"),
        },
        Event::SafetyNumber {
            fingerprint: text(),
            own_fingerprint: text(),
            safety_number: text(),
        },
        Event::Error {
            text: "no",
            exit_code: 1,
        },
    ] {
        assert_documented(&event);
    }
}
