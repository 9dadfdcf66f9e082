//! Why a relay was chosen, for people and machines.

use std::fmt;

use serde::Serialize;
use wzp_wire::RelayId;

/// Why a relay was chosen. Shown as text, serialized as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What decided.
    pub rule: Rule,
    /// Relays that could be chosen from.
    pub considered: usize,
    /// Of those, near-equals of the best one, among which the emptiest was taken.
    pub near_equals: usize,
    /// The chosen ones, then the best of the others; at most [`Explanation::MAX_CANDIDATES`].
    pub candidates: Vec<Scored>,
}

impl Explanation {
    /// Candidates told of.
    pub const MAX_CANDIDATES: usize = 16;
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The room is served already, and nothing is better by enough.
    Kept,
    /// The client's own measurements.
    Measured,
    /// The client's region; it has measured nothing.
    Region,
    /// Neither is known: members are spread.
    Spread,
    /// All others are full, draining or not listed.
    LastResort,
    /// A second carrying relay shortens the longest way.
    Cascade,
    /// The standby took over from a lost or leaving relay.
    Promoted,
    /// The room was without a standby.
    StandbyAdded,
}

/// What a relay was chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Carries.
    Carries,
    /// Stands by.
    Standby,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Which one.
    #[serde(serialize_with = "crate::leases::relay_as_str")]
    pub relay: RelayId,
    /// What it was chosen for.
    pub role: Option<Role>,
    /// 0: any; 1: full; 2: draining; 3: not listed. Lower ones win whatever the score.
    pub rank: u8,
    /// Sum of the terms; the lowest wins.
    pub score: f32,
    /// In milliseconds of RTT, or what is worth as much.
    pub terms: Terms,
    /// Corrected.
    pub load: f32,
}

/// A score by its terms, in milliseconds of RTT or what is worth as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Terms {
    /// RTT of the client, measured or estimated by region.
    pub rtt: f32,
    /// Of the client's way there.
    pub loss: f32,
    /// Rises steeply towards full.
    pub load: f32,
    /// Lost lately.
    pub failures: f32,
    /// An older version: it is about to be replaced.
    pub version: f32,
    /// To be avoided.
    pub avoid: f32,
}

impl Explanation {
    /// What was chosen by.
    fn reason(&self) -> &'static str {
        match self.rule {
            Rule::Kept => "it is served already, and nothing is better by enough",
            Rule::Measured => "by what the client measured",
            Rule::Region => "by the client's region, it has measured nothing",
            Rule::Spread => "by where the fewest members are, nothing is known of the client",
            Rule::LastResort => "all relays are full, draining or not listed",
            Rule::Cascade => "a further carrying relay shortens the longest way",
            Rule::Promoted => "the standby took over",
            Rule::StandbyAdded => "the room was without a standby",
        }
    }
}

/// A table, for people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rule: {}", self.reason())?;
        writeln!(
            f,
            "{} considered, {} about as good as the best",
            self.considered, self.near_equals
        )?;
        writeln!(
            f,
            "{:<20} {:<8} {:>7} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6}  note",
            "relay", "role", "score", "rtt", "loss", "load", "failed", "version", "avoid", "load %"
        )?;
        self.candidates
            .iter()
            .try_for_each(|scored| writeln!(f, "{scored}"))
    }
}

impl fmt::Display for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Some(Role::Carries) => "carries",
            Some(Role::Standby) => "standby",
            None => "-",
        };
        let Terms {
            rtt,
            loss,
            load,
            failures,
            version,
            avoid,
        } = self.terms;
        write!(
            f,
            "{:<20} {role:<8} {:>7.1} {rtt:>6.1} {loss:>6.1} {load:>6.1} {failures:>6.1} {version:>7.1} {avoid:>6.1} {:>6.1}  {}",
            self.relay.as_str(),
            self.score,
            self.load * 100.0,
            match self.rank {
                0 => "-",
                1 => "full",
                2 => "draining",
                _ => "not listed",
            }
        )
    }
}
