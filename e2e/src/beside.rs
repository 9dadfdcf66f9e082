//! A call that has nothing to do with what a test attacks, and should not notice.

use wzp_sdk::Event;

use crate::{
    member::{Guest, Member},
    relay::Relay,
    until,
};

const LOW: f32 = 440.0;
const HIGH: f32 = 700.0;
/// A busy machine may be late once; a call that is disturbed is for longer.
const LONGEST_GAP_MS: u64 = 400;
/// What the kernel may drop on a busy machine.
const MOST_LOST: f64 = 0.02;

/// Two members who speak at once.
pub struct Beside {
    members: [Member; 2],
    moments: [usize; 2],
}

impl Beside {
    /// Starts the call and waits until both hear each other.
    pub async fn start(relay: &Relay) -> Self {
        let guest = |hertz| Guest {
            room: "beside",
            ..Guest::saying(hertz)
        };
        Self::of([guest(LOW).join(relay).await, guest(HIGH).join(relay).await]).await
    }

    /// The call of these two, who say the tones of [`Self::guests`].
    pub async fn of(members: [Member; 2]) -> Self {
        members[0].hears(HIGH).await;
        members[1].hears(LOW).await;
        // Playing has begun with the first packet; let the jitter buffer settle.
        let settled = |member: &Member| member.ears.moment() + 48_000;
        let settled = [settled(&members[0]), settled(&members[1])];
        for (member, settled) in members.iter().zip(settled) {
            until("a second of the call", || {
                (member.ears.moment() >= settled).then_some(())
            })
            .await;
        }
        let moments = [members[0].ears.moment(), members[1].ears.moment()];
        Self { members, moments }
    }

    /// Those who can make a call to be watched, in `room`.
    pub fn guests(room: &'static str) -> [Guest; 2] {
        [LOW, HIGH].map(|hertz| Guest {
            room,
            ..Guest::saying(hertz)
        })
    }

    /// One of the two.
    pub fn member(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    /// Checks that nobody noticed anything since the start, and goes on for a moment.
    pub async fn is_undisturbed(&mut self) {
        let ahead = self.members[0].ears.moment() + 24_000;
        until("the call to go on", || {
            (self.members[0].ears.moment() >= ahead).then_some(())
        })
        .await;
        for ((member, hertz), moment) in self.members.iter_mut().zip([HIGH, LOW]).zip(self.moments) {
            member.hears(hertz).await;
            let gap = member.ears.longest_gap_ms(hertz, moment);
            let stats = member.call.stats();
            assert!(gap <= LONGEST_GAP_MS, "{gap} ms without {hertz} Hz: {stats:?}");
            assert_eq!((stats.duplicates, stats.unopened), (0, 0), "{stats:?}");
            for remote in &stats.remotes {
                let most = remote.received as f64 * MOST_LOST;
                assert!(remote.lost as f64 <= most, "{remote:?}");
            }
            let bad = member.news().into_iter().find(|event| {
                matches!(
                    event,
                    Event::Ended { .. } | Event::KeyMismatch { .. } | Event::Misbehaviour { .. }
                )
            });
            assert_eq!(bad, None);
        }
    }
}
