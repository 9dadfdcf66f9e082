//! Calls over two relays: one carries, the other stands by, and either may die.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use wzp_e2e::{
    PATIENCE,
    control::Control,
    member::{Guest, Member},
    process::{Process, Scratch},
    relay::Relay,
};
use wzp_sdk::{Client, Event, PathCause, PathRole, chaos};

const SECRET: &str = "a secret of two relays";
const TONES: [f32; 3] = [440.0, 660.0, 990.0];
/// What may be missed of a relay that is killed, on a machine that does other things as well.
const GAP_MS: u64 = 1_000;

fn relays() -> [Relay; 2] {
    [(); 2].map(|()| Relay::start(&["--secret", SECRET]))
}

fn control(relays: &[Relay; 2]) -> Control {
    Control::start(SECRET, &[("relay-a", &relays[0]), ("relay-b", &relays[1])])
}

async fn join(client: Client, hertz: f32) -> Member {
    Guest::saying(hertz).join_with(client).await.unwrap()
}

/// Three members who hear each other over the first relay while the second stands by.
async fn talking(control: &Control) -> Vec<Member> {
    let mut members = Vec::new();
    for hertz in TONES {
        let client = Client::builder().control(&control.url).connect().await.unwrap();
        members.push(join(client, hertz).await);
    }
    hear_each_other(&members).await;
    for member in &members {
        let stats = member.stats(PATIENCE, "a standby", |stats| {
            stats.paths.iter().any(|path| path.role == PathRole::Standby)
        });
        let carries = |name| move |path: &&wzp_sdk::PathStats| path.relay.as_deref() == Some(name);
        let stats = stats.await;
        let role = |name| stats.paths.iter().find(carries(name)).map(|path| path.role);
        assert_eq!(
            (role("relay-a"), role("relay-b")),
            (Some(PathRole::Carries), Some(PathRole::Standby))
        );
    }
    members
}

async fn hear_each_other(members: &[Member]) {
    for (me, member) in members.iter().enumerate() {
        for (other, hertz) in TONES.into_iter().enumerate() {
            if other != me {
                member.hears(hertz).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carrier_that_is_killed_is_hardly_missed() {
    let mut relays = relays();
    let control = control(&relays);
    let mut members = talking(&control).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    relays[0].process.kill();
    for member in &mut members {
        let cause = member
            .event(PATIENCE, "the standby to carry", |event| match event {
                Event::Path {
                    relay: Some(relay),
                    cause,
                    both: false,
                    ..
                } if relay == "relay-b" => Some(*cause),
                _ => None,
            })
            .await;
        println!("{cause:?}");
    }
    hear_each_other(&members).await;
    for member in &mut members {
        let stats = member.call.stats();
        for remote in &stats.remotes {
            println!(
                "gap {} ms, concealed {} ms",
                remote.longest_gap_ms, remote.concealed_ms
            );
            assert!(remote.longest_gap_ms <= GAP_MS, "{remote:?}");
        }
        let left = |event: &Event| matches!(event, Event::MemberLeft { .. } | Event::Misbehaviour { .. });
        let news = member.news();
        assert!(
            !news.iter().chain(&member.events).any(left),
            "{:?}",
            member.events
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_that_is_killed_is_not_missed_at_all() {
    let mut relays = relays();
    let control = control(&relays);
    let members = talking(&control).await;
    relays[1].process.kill();
    for member in &members {
        let gone = |stats: &wzp_sdk::Stats| stats.paths.len() == 1;
        let stats = member.stats(PATIENCE, "the end of the standby", gone).await;
        assert!(
            stats.remotes.iter().all(|remote| remote.longest_gap_ms < 200),
            "{stats:?}"
        );
    }
    hear_each_other(&members).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_is_started_anew_stands_by_within_ten_seconds() {
    let home = Scratch::default();
    let (cert, key) = (home.file("cert.pem"), home.file("key.pem"));
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let args = [&["--secret", SECRET][..], &files].concat();
    let mut relays = [Relay::start(&args), Relay::start(&["--secret", SECRET])];
    let control = control(&relays);
    let members = talking(&control).await;
    let address = relays[0].address.to_string();
    relays[0].process.kill();
    relays[0] = Relay::start_at(&address, &args);
    for member in &members {
        let back = |stats: &wzp_sdk::Stats| {
            let role = |name| {
                stats
                    .paths
                    .iter()
                    .find(|path| path.relay.as_deref() == Some(name))
                    .map(|path| path.role)
            };
            (role("relay-a"), role("relay-b")) == (Some(PathRole::Standby), Some(PathRole::Carries))
        };
        member
            .stats(Duration::from_secs(10), "the relay to be back", back)
            .await;
    }
    hear_each_other(&members).await;
    for member in members {
        assert!(
            member
                .call
                .stats()
                .remotes
                .iter()
                .all(|remote| remote.longest_gap_ms <= GAP_MS)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_whose_network_was_gone_is_back_without_a_word() {
    let relays = relays();
    let control = control(&relays);
    let mut members = talking(&control).await;
    let link = chaos::Link::new(5);
    let builder = Client::builder().control(&control.url).chaos(&link);
    let mut late = join(builder.connect().await.unwrap(), 1_320.0).await;
    late.hears(TONES[0]).await;
    members[0].hears(1_320.0).await;
    link.cut();
    members[0].hears_no_more(1_320.0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    link.restore();
    members[0].hears(1_320.0).await;
    late.hears(TONES[0]).await;
    let switched = |event: &&Event| matches!(event, Event::Path { both: false, cause, .. } if *cause != PathCause::First);
    let news = late.news();
    let carriers = news.iter().filter(switched).filter_map(|event| match event {
        Event::Path { relay, .. } => relay.clone(),
        _ => None,
    });
    let carriers: std::collections::BTreeSet<String> = carriers.collect();
    assert!(carriers.len() <= 1, "{news:?}");
    let left = |event: &Event| matches!(event, Event::MemberLeft { .. });
    assert!(!members[0].news().iter().any(left));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_entered_again_while_the_control_plane_is_gone() {
    let relays = relays();
    let control = control(&relays);
    let members = talking(&control).await;
    control.vanish();
    let mut back = Vec::new();
    for (member, hertz) in members.into_iter().zip(TONES) {
        let Member { client, call, .. } = member;
        call.leave().await;
        back.push(join(client, hertz).await);
    }
    hear_each_other(&back).await;

    // Another process with the same identity and its ticket.
    let last = back.pop().unwrap();
    let ticket = last
        .client
        .ticket(&wzp_sdk::RoomName::parse("tea").unwrap())
        .unwrap();
    let identity = last.client.identity().clone();
    drop(last);
    let client = Client::builder()
        .control(&control.url)
        .identity(identity)
        .ticket(ticket);
    back.push(join(client.connect().await.unwrap(), TONES[2]).await);
    hear_each_other(&back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_that_moved_while_nobody_could_be_told_is_found_again() {
    let mut old = relays();
    let control = control(&old);
    let mut members = talking(&control).await;
    let new = relays();
    control.move_to(&[("relay-c", &new[0]), ("relay-d", &new[1])]);
    old.iter_mut().for_each(|relay| relay.process.kill());
    for member in &mut members {
        let moved = |event: &Event| match event {
            Event::Moving { epoch: 2, relays } => Some(relays.clone()),
            _ => None,
        };
        let relays = member
            .event(Duration::from_secs(10), "the new relays", moved)
            .await;
        assert_eq!(relays, ["relay-c", "relay-d"]);
    }
    hear_each_other(&members).await;
}

#[test]
fn program_names_relays_by_their_ids() {
    let relays = relays();
    let control = control(&relays);
    let home = Scratch::default();
    let start = |words: &[&str]| {
        Process::start(
            "wzp-client",
            &home,
            &[&["--json", "--control", &control.url], words].concat(),
        )
    };
    let file = home.file("heard.wav");
    let recorder = start(&["--record", file.to_str().unwrap()]);
    let connected = recorder.json("connected");
    assert_eq!(connected["relay"], "relay-a");
    assert_eq!(connected["address"], relays[0].address.to_string());
    let path = recorder.line("a standby", |line| {
        let path: serde_json::Value = serde_json::from_str(line).ok()?;
        (path["event"] == "path" && path["standby"] == "relay-b").then_some(path)
    });
    assert_eq!(
        (&path["relay"], &path["both"]),
        (&"relay-a".into(), &false.into())
    );
    assert_eq!(path["cause"], "first");
    let mut speaker = start(&["--send-tone", "3"]);
    assert!(speaker.wait().0.success(), "{}", speaker.log());
    recorder.json("member");
    control.vanish();
    let mut late = start(&["--send-tone", "3"]);
    let (status, _) = late.wait();
    assert_eq!(status.code(), Some(69), "{}", late.log());
    assert!(late.log().contains("can't be reached"), "{}", late.log());
}
