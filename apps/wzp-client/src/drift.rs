//! `--drift-test`: how much faster or slower the clocks of the members run than ours.

use std::{future::pending, time::Duration};

use wzp_identity::Fingerprint;
use wzp_sdk::{Processing, RoomName, SenderId, Stats, audio::Discard};

use crate::{
    args::Link,
    echo::own_room,
    exit::Failure,
    report::{Event, Report, tenths},
    session::{End, Ends, Go, Session, Stop},
    speech::SpeechLike,
};

/// What the jitter buffer absorbs without anybody hearing it.
const ABSORBED_PPM: f64 = 200.0;
/// How often the figures are told on the way.
const EVERY: u64 = 5;

/// Runs the test.
///
/// # Errors
/// [`Failure`] when there is no call, or when no clock could be compared.
pub(crate) async fn run(
    link: Link,
    room: Option<RoomName>,
    time: Duration,
    report: &Report,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let room = room.map_or_else(own_room, Ok)?;
    let ends = Ends {
        source: Box::new(SpeechLike::new(1)),
        sink: Box::new(Discard),
        // A pause would be a hole in the measurement.
        processing: Processing {
            denoise: false,
            echo_canceller: false,
            suppress_pauses: false,
        },
        echo: true,
    };
    let mut session = Session::open(link, room, ends, report, stop).await?;
    let (_, own) = session.own();
    let mut seconds = 0;
    let end = session
        .run(Some(time), report, stop, pending(), |_, stats, sender| {
            seconds += 1;
            if seconds % EVERY == 0 && Duration::from_secs(seconds) < time {
                tell(stats, (sender, own), report);
            }
            Go::On
        })
        .await;
    let own = session.own();
    let stats = session.close(report).await;
    if let End::Broken(failure) = end {
        return Err(failure);
    }
    tell(&stats, own, report);
    let (verdict, text) = judge(&measured(&stats, own))?;
    report.event(&Event::Verdict { verdict, text });
    Ok(())
}

/// One clock against ours.
#[derive(Debug, Clone, PartialEq)]
struct Clock {
    fingerprint: String,
    own: bool,
    ppm: f64,
    error_ppm: f64,
}

fn measured(stats: &Stats, own: (SenderId, Fingerprint)) -> Vec<Clock> {
    let clocks = stats.remotes.iter().filter_map(|remote| {
        let (ppm, error_ppm) = remote.drift?;
        let is_own = remote.sender == own.0;
        // Nobody proves an identity to itself.
        let fingerprint = if is_own { Some(own.1) } else { remote.fingerprint };
        Some(Clock {
            fingerprint: fingerprint.map_or_else(|| remote.sender.to_string(), |f| f.to_string()),
            own: is_own,
            ppm,
            error_ppm,
        })
    });
    clocks.collect()
}

fn tell(stats: &Stats, own: (SenderId, Fingerprint), report: &Report) {
    for Clock {
        fingerprint,
        own,
        ppm,
        error_ppm,
    } in measured(stats, own)
    {
        report.event(&Event::Drift {
            fingerprint,
            own,
            ppm: tenths(ppm),
            error_ppm: tenths(error_ppm),
        });
    }
}

fn judge(clocks: &[Clock]) -> Result<(&'static str, String), Failure> {
    // Our own clock comes back as it went out: beside others it is only the check of the method.
    let others: Vec<&Clock> = clocks.iter().filter(|clock| !clock.own).collect();
    let worst = others
        .iter()
        .copied()
        .chain(clocks.iter().filter(|_| others.is_empty()));
    let Some(worst) = worst.max_by(|a, b| a.ppm.abs().total_cmp(&b.ppm.abs())) else {
        return Err(Failure::failed(
            "drift test: nothing was heard long enough to compare a clock; try more seconds",
        ));
    };
    let Clock {
        ppm, error_ppm, own, ..
    } = worst;
    let whose = if *own {
        "only our own sound was heard, so that what is left is the error of the method:"
    } else {
        "the clock furthest from ours is off by"
    };
    let text = format!(
        "{whose} {ppm:+.1} ppm ± {error_ppm:.1}, which is {:+.2} ms a minute",
        ppm * 0.06
    );
    let verdict = if ppm.abs() - error_ppm <= ABSORBED_PPM {
        "absorbed"
    } else {
        "too much"
    };
    Ok((verdict, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(ppm: f64, own: bool) -> Clock {
        Clock {
            fingerprint: "ab".into(),
            own,
            ppm,
            error_ppm: 5.0,
        }
    }

    #[test]
    fn others_are_judged_before_ourselves() {
        let (verdict, text) = judge(&[clock(400.0, true), clock(-120.0, false)]).unwrap();
        assert_eq!(verdict, "absorbed");
        assert!(
            text.contains("-120.0 ppm ± 5.0, which is -7.20 ms a minute"),
            "{text}"
        );
        assert_eq!(judge(&[clock(206.0, false)]).unwrap().0, "too much");
        assert_eq!(judge(&[clock(204.0, false)]).unwrap().0, "absorbed");
        assert!(
            judge(&[clock(1.0, true)])
                .unwrap()
                .1
                .contains("only our own sound")
        );
        assert!(judge(&[]).is_err());
    }
}
