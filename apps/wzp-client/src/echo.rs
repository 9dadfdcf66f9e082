//! `--echo-test`: the relay returns what we send, and we judge what comes back.

mod ear;

use std::{future::pending, sync::mpsc, time::Duration};

use wzp_sdk::{Processing, RemoteStats, RoomName, SenderId, Stats};

use self::ear::Comparison;
use crate::{
    args::Link,
    exit::Failure,
    report::{Event, Report, Second},
    session::{End, Ends, Go, Session, Stop},
    speech::SpeechLike,
};

/// More than this share of the sound concealed is heard now and then, or makes a talk hard.
const CONCEALED_GOOD: f64 = 0.01;
const CONCEALED_USABLE: f64 = 0.05;
/// From mouth to ear one way; ITU-T G.114 calls 150 ms good and 400 ms the limit.
const ONE_WAY_GOOD: Duration = Duration::from_millis(200);
const ONE_WAY_USABLE: Duration = Duration::from_millis(450);

/// Runs the test.
///
/// # Errors
/// [`Failure`] when there is no call, or when the link is not fit for one.
pub(crate) async fn run(
    link: Link,
    room: Option<RoomName>,
    time: Duration,
    report: &Report,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let room = room.map_or_else(own_room, Ok)?;
    let (ticks, heard) = mpsc::channel();
    let ends = Ends {
        source: Box::new(ear::Mouth::new(SpeechLike::new(1), ticks.clone())),
        sink: Box::new(ear::Ear::new(ticks)),
        // What is sent must come back as it is, pauses too.
        processing: Processing {
            denoise: false,
            echo_canceller: false,
            suppress_pauses: false,
        },
        echo: true,
    };
    let mut session = Session::open(link, room, ends, report, stop).await?;
    let mut comparison = Comparison::default();
    let mut second_number = 0;
    let mut before = Stats::default();
    let end = session
        .run(Some(time), report, stop, pending(), |_, stats, own| {
            second_number += 1;
            comparison.extend(heard.try_iter());
            let now = only(own, stats);
            let second = Second::between(&before, &now);
            before = now;
            report.event(&Event::Quality {
                second: second_number,
                rtt_ms: second.rtt_ms,
                echo_ms: comparison.lag_ms(),
                loss_percent: second.loss_percent,
                jitter_ms: second.jitter_ms,
                delay_ms: second.delay_ms,
                concealed_ms: second.concealed_ms,
                mos: second.mos,
            });
            Go::On
        })
        .await;
    // The longest delays are found last.
    comparison.extend(heard.try_iter());
    comparison.lag_ms();
    let (own, _) = session.own();
    let stats = only(own, &session.close(report).await);
    if let End::Broken(failure) = end {
        return Err(failure);
    }
    let (verdict, text) = judge(&stats, comparison.median_ms());
    report.event(&Event::Verdict {
        verdict: verdict.name(),
        text: text.clone(),
    });
    match verdict {
        Verdict::Good | Verdict::Usable => Ok(()),
        Verdict::Bad | Verdict::Silent | Verdict::Unknown => {
            Err(Failure::failed(format!("echo test: {text}")))
        }
    }
}

/// The figures without the other members of the room: the test is about what comes back.
fn only(own: SenderId, stats: &Stats) -> Stats {
    let mut stats = stats.clone();
    stats.remotes.retain(|remote| remote.sender == own);
    stats
}

/// A room that nobody else will be in.
///
/// # Errors
/// When the system gives no random numbers.
pub(crate) fn own_room() -> Result<RoomName, Failure> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)
        .map_err(|e| Failure::failed(format!("the system gives no random numbers: {e}")))?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    RoomName::parse(&format!("test-{name}")).map_err(|e| Failure::failed(e.to_string()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Usable,
    Bad,
    Silent,
    /// Sound comes back, but nothing tells how late.
    Unknown,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Usable => "usable",
            Self::Bad => "bad",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
        }
    }
}

/// Judges figures of our own sound alone, and what was heard of its delay.
fn judge(stats: &Stats, echo_ms: Option<u32>) -> (Verdict, String) {
    let Some(own) = stats.remotes.first().filter(|own| own.received > 0) else {
        return (Verdict::Silent, "nothing came back from the relay".into());
    };
    let concealed = own.concealed_ms as f64 / stats.elapsed.as_millis().max(1) as f64;
    let (one_way, delay) = one_way(stats, own, echo_ms);
    let verdict = grade(concealed, one_way);
    let lost = 100.0 * own.lost as f64 / (own.lost + own.received).max(1) as f64;
    let text = format!(
        "{:.1} % of the sound had to be concealed ({lost:.1} % of the packets were lost, {} frames recovered), {delay}",
        100.0 * concealed,
        own.recovered,
    );
    (verdict, text)
}

/// How late sound is one way, and how that is known: by ear, or else by what makes it late.
fn one_way(stats: &Stats, own: &RemoteStats, echo_ms: Option<u32>) -> (Option<Duration>, String) {
    if let Some(ms) = echo_ms {
        let one_way = Duration::from_millis(u64::from(ms)) / 2;
        return (Some(one_way), format!("mouth to ear and back takes {ms} ms"));
    }
    let buffer = own
        .delay_ms
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok());
    let Some((rtt, buffer)) = stats.rtt.zip(buffer) else {
        return (None, "the delay could not be measured".into());
    };
    let one_way = rtt / 2 + buffer + stats.tier.mode().codec.frame_duration();
    let text = format!(
        "no echo was recognised, but half the round trip, the buffer and a frame take {} ms",
        one_way.as_millis()
    );
    (Some(one_way), text)
}

/// An unknown delay is never good.
fn grade(concealed: f64, one_way: Option<Duration>) -> Verdict {
    let is_late = |limit| one_way.is_some_and(|one_way| one_way > limit);
    if concealed > CONCEALED_USABLE || is_late(ONE_WAY_USABLE) {
        Verdict::Bad
    } else if one_way.is_none() {
        Verdict::Unknown
    } else if concealed > CONCEALED_GOOD || is_late(ONE_WAY_GOOD) {
        Verdict::Usable
    } else {
        Verdict::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_sound_and_delay_decides() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(grade(0.0, ms(80)), Verdict::Good);
        assert_eq!(grade(0.02, ms(80)), Verdict::Usable);
        assert_eq!(grade(0.0, ms(300)), Verdict::Usable);
        assert_eq!(grade(0.06, ms(80)), Verdict::Bad);
        assert_eq!(grade(0.0, ms(600)), Verdict::Bad);
        assert_eq!(grade(0.0, None), Verdict::Unknown);
        assert_eq!(grade(0.06, None), Verdict::Bad);
    }

    fn member(sender: u16, received: u64, lost: u64) -> RemoteStats {
        RemoteStats {
            received,
            lost,
            concealed_ms: lost * 20,
            delay_ms: Some(60.0),
            ..RemoteStats::new(SenderId::new(sender).unwrap())
        }
    }

    fn stats(rtt_ms: u64, remotes: Vec<RemoteStats>) -> Stats {
        Stats {
            rtt: Some(Duration::from_millis(rtt_ms)),
            elapsed: Duration::from_secs(5),
            remotes,
            ..Stats::default()
        }
    }

    #[test]
    fn without_an_echo_the_round_trip_and_the_buffer_are_judged() {
        let of = |rtt_ms| judge(&stats(rtt_ms, vec![member(1, 250, 0)]), None);
        assert_eq!(of(2_162).0, Verdict::Bad);
        assert_eq!(of(400).0, Verdict::Usable);
        let (verdict, text) = of(40);
        assert!(
            verdict == Verdict::Good && text.contains("no echo was recognised") && text.contains("100 ms"),
            "{text}"
        );
        let mut unknown = stats(0, vec![member(1, 250, 0)]);
        unknown.rtt = None;
        assert_eq!(judge(&unknown, None).0, Verdict::Unknown);
    }

    #[test]
    fn others_in_the_room_are_not_judged() {
        let own = SenderId::new(2).unwrap();
        let room = stats(10, vec![member(1, 100, 100), member(2, 250, 0)]);
        assert_eq!(judge(&only(own, &room), Some(100)).0, Verdict::Good);
        let room = stats(10, vec![member(1, 250, 0), member(2, 100, 100)]);
        assert_eq!(judge(&only(own, &room), Some(100)).0, Verdict::Bad);
        let room = stats(10, vec![member(1, 250, 0)]);
        assert_eq!(judge(&only(own, &room), Some(100)).0, Verdict::Silent);
    }

    #[test]
    fn every_test_has_a_room_of_its_own() {
        assert_ne!(own_room().unwrap(), own_room().unwrap());
    }
}
