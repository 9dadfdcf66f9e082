//! `--echo-test`: the relay returns what we send, and we judge what comes back.

mod ear;

use std::{future::pending, sync::mpsc, time::Duration};

use wzp_sdk::{Processing, RoomName, Stats};

use self::ear::Comparison;
use crate::{
    args::Link,
    exit::Failure,
    report::{Event, Report},
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
    let end = session
        .run(Some(time), report, stop, pending(), |second, _| {
            second_number += 1;
            comparison.extend(heard.try_iter());
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
    let stats = session.close(report).await;
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
        Verdict::Bad | Verdict::Silent => Err(Failure::failed(format!("echo test: {text}"))),
    }
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
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Usable => "usable",
            Self::Bad => "bad",
            Self::Silent => "silent",
        }
    }
}

fn judge(stats: &Stats, echo_ms: Option<u32>) -> (Verdict, String) {
    let Some(own) = stats.remotes.first().filter(|own| own.received > 0) else {
        return (Verdict::Silent, "nothing came back from the relay".into());
    };
    let concealed = own.concealed_ms as f64 / stats.elapsed.as_millis().max(1) as f64;
    let one_way = echo_ms.map(|ms| Duration::from_millis(u64::from(ms)) / 2);
    let verdict = grade(concealed, one_way);
    let delay = echo_ms.map_or_else(
        || "the delay could not be measured".into(),
        |ms| format!("mouth to ear and back takes {ms} ms"),
    );
    let lost = 100.0 * own.lost as f64 / (own.lost + own.received).max(1) as f64;
    let text = format!(
        "{:.1} % of the sound had to be concealed ({lost:.1} % of the packets were lost, {} frames recovered), {delay}",
        100.0 * concealed,
        own.recovered,
    );
    (verdict, text)
}

fn grade(concealed: f64, one_way: Option<Duration>) -> Verdict {
    let one_way = one_way.unwrap_or(ONE_WAY_GOOD);
    if concealed > CONCEALED_USABLE || one_way > ONE_WAY_USABLE {
        Verdict::Bad
    } else if concealed > CONCEALED_GOOD || one_way > ONE_WAY_GOOD {
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
        assert_eq!(grade(0.0, None), Verdict::Good);
    }

    #[test]
    fn every_test_has_a_room_of_its_own() {
        assert_ne!(own_room().unwrap(), own_room().unwrap());
    }
}
