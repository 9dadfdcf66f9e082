//! Who may enter, and with which reason somebody may not.

use std::time::Duration;

use wzp_identity::{Grant, GrantError, GrantPublicKey, GrantRole, PublicIdentity, RoomScope, TrustedKeys};
use wzp_wire::{
    Epoch, RelayId, RoomName, SenderId,
    signal::{Invalid, Reason},
};

use crate::{leases::NotServed, limits::ConnectionsError, rooms::JoinError};

/// Difference between the clocks of issuer and relay that is forgiven.
const LEEWAY_SECS: u64 = 30;

/// Whom a relay lets in.
#[derive(Clone, Debug)]
pub enum Policy {
    /// Everybody who proves to be the identity they show.
    Open,
    /// Whoever has a grant signed by one of these keys.
    Grants(Box<TrustedKeys>),
    /// In a cluster: the same, and the grant may be for relays by name. `None`: no key is known yet.
    Cluster(Option<Box<TrustedKeys>>),
}

/// What somebody says of itself, and what it is to be compared with.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// `Hello.identity_key`.
    pub identity_key: &'a [u8; 32],
    /// `Hello.grant`, empty for none.
    pub grant: &'a str,
    /// As what it wants to enter.
    pub role: GrantRole,
    /// When the grant has to be good, in Unix seconds: now, or see [`entered`].
    pub unix_now: u64,
}

/// How far back a relay may say that one of its members entered.
const LONGEST_STAY_SECS: u64 = 24 * 3_600;

/// The time at which to judge the grant of a member behind a trunk, who entered at `claimed` as its relay says (0: now);
/// both in Unix seconds. A grant opens the door, it does not limit the stay, and whoever stays comes back with its
/// relay after an outage; the relay has checked the grant when it was shown, as we would have.
pub fn entered(claimed: u64, unix_now: u64) -> u64 {
    match claimed {
        0 => unix_now,
        _ => claimed.clamp(unix_now.saturating_sub(LONGEST_STAY_SECS), unix_now),
    }
}

/// A request that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: String,
    /// When it makes sense to try the same again; `None`: never.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that stays one.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            retry_after: None,
        }
    }

    /// A refusal for the time being.
    pub fn for_now(reason: Reason, text: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after = Some(retry_after.max(Duration::from_millis(1)));
        Self {
            retry_after,
            ..Self::new(reason, text)
        }
    }
}

/// Somebody whose identity is proven and whose grant, where one is needed, is good.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// Who it is.
    pub identity: PublicIdentity,
    grant: Option<Grant>,
}

impl Policy {
    /// Whoever has a grant of this issuer, or everybody if there is none.
    pub fn of(issuer: Option<&GrantPublicKey>) -> Self {
        issuer.map_or(Self::Open, |key| {
            Self::Grants(Box::new(TrustedKeys::new(key.clone())))
        })
    }

    /// Checks key and grant of somebody who is not (yet) proven to be there, as of a member behind another relay.
    ///
    /// # Errors
    /// [`Refusal`] with `REASON_MALFORMED`, `REASON_ROLE` or one of the `REASON_GRANT_*`.
    pub fn admit(&self, claim: Claim<'_>) -> Result<Entrant, Refusal> {
        let identity = PublicIdentity::from_bytes(claim.identity_key)
            .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
        let keys = match self {
            Self::Open => None,
            Self::Grants(keys) | Self::Cluster(Some(keys)) => Some(keys),
            Self::Cluster(None) => {
                let text = "this relay has not yet heard whom to believe";
                return Err(Refusal::for_now(Reason::NotServed, text, Duration::from_secs(1)));
            }
        };
        let grant = match keys {
            None => None,
            Some(_) if claim.grant.is_empty() => {
                return Err(Refusal::new(Reason::GrantMissing, "this relay asks for a grant"));
            }
            Some(keys) => {
                let grant = wzp_identity::verify(claim.grant, keys, claim.unix_now, LEEWAY_SECS)?;
                if grant.subject() != identity.fingerprint() {
                    return Err(Refusal::new(
                        Reason::GrantInvalid,
                        "the grant is for somebody else",
                    ));
                }
                if matches!(self, Self::Grants(_)) && !grant.claims().relays.is_empty() {
                    return Err(Refusal::new(
                        Reason::GrantInvalid,
                        "the grant is for relays by name, and this relay has none",
                    ));
                }
                if grant.role() != claim.role {
                    let text = match grant.role() {
                        GrantRole::Member => "the grant is for a member, not for a relay",
                        GrantRole::Relay => "the grant is for a relay, not for a member",
                    };
                    return Err(Refusal::new(Reason::Role, text));
                }
                Some(grant)
            }
        };
        Ok(Entrant { identity, grant })
    }

    /// As [`Self::admit`], for the one at the other end of a connection, who signs `exporter` of it.
    ///
    /// # Errors
    /// [`Refusal`] as above, or with `REASON_PROOF`.
    pub fn admit_connected(
        &self,
        claim: Claim<'_>,
        exporter: &[u8; 32],
        proof: &[u8; 64],
    ) -> Result<Entrant, Refusal> {
        prove(claim.identity_key, exporter, proof)?;
        self.admit(claim)
    }
}

/// Checks that whoever is at the other end of a connection holds the key it shows.
///
/// # Errors
/// [`Refusal`] with `REASON_MALFORMED` or `REASON_PROOF`.
pub fn prove(
    identity_key: &[u8; 32],
    exporter: &[u8; 32],
    proof: &[u8; 64],
) -> Result<PublicIdentity, Refusal> {
    let identity = PublicIdentity::from_bytes(identity_key)
        .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    identity.verify_connection(exporter, proof).map_err(|_| {
        Refusal::new(
            Reason::Proof,
            "the proof does not belong to this connection and key",
        )
    })?;
    Ok(identity)
}

impl Entrant {
    /// Somebody of whom only the identity counts, such as a prober.
    pub fn without_grant(identity: PublicIdentity) -> Self {
        Self {
            identity,
            grant: None,
        }
    }

    /// Whether the grant, where there is one, opens `room` and has not expired by `unix_now` (in Unix seconds).
    ///
    /// # Errors
    /// [`Refusal`] with `REASON_GRANT_EXPIRED` or `REASON_GRANT_ROOM`.
    pub fn enter(&self, room: &RoomName, unix_now: u64) -> Result<(), Refusal> {
        match &self.grant {
            Some(grant) if unix_now >= grant.claims().validity.expires.saturating_add(LEEWAY_SECS) => {
                Err(GrantError::Expired.into())
            }
            Some(grant) if !grant.allows_room(room.as_str()) => {
                Err(Refusal::new(Reason::GrantRoom, "the grant is for another room"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the grant, where there is one, is for every room: whoever brings others asks for theirs.
    pub fn opens_every_room(&self) -> bool {
        let room = self.grant.as_ref().map(|grant| &grant.claims().room);
        room.is_none_or(|room| *room == RoomScope::Any)
    }

    /// The epoch of the room at which the grant was issued.
    pub fn epoch(&self) -> Epoch {
        let epoch = self.grant.as_ref().map(|grant| grant.claims().epoch);
        epoch.map_or(Epoch::NONE, Epoch)
    }

    /// The relays that the grant names, the carrying ones first.
    pub fn relays(&self) -> Vec<RelayId> {
        let names = self.grant.iter().flat_map(|grant| &grant.claims().relays);
        names.filter_map(|name| RelayId::parse(name).ok()).collect()
    }

    /// The sender id that the issuer of the grant wants.
    pub fn preferred_sender(&self) -> Option<SenderId> {
        self.grant.as_ref()?.claims().sender.and_then(SenderId::new)
    }
}

impl From<GrantError> for Refusal {
    fn from(error: GrantError) -> Self {
        let reason = match error {
            GrantError::Expired => Reason::GrantExpired,
            _ => Reason::GrantInvalid,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::new(invalid.reason, invalid.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let wait = Duration::from_secs(10);
        let text = error.to_string();
        match error {
            JoinError::TooManyRooms => Self::for_now(Reason::TooManyRooms, text, wait),
            JoinError::RoomFull => Self::for_now(Reason::RoomFull, text, wait),
            // Others wait as well: not all of them at once again.
            JoinError::TooManyJoins(wait) => {
                Self::for_now(Reason::TooManyJoins, text, wait.max(Duration::from_secs(1)))
            }
            JoinError::AnnouncementInUse => Self::new(Reason::AnnouncementInUse, text),
        }
    }
}

impl From<NotServed> for Refusal {
    fn from(error: NotServed) -> Self {
        let reason = match error {
            NotServed::Stale => Reason::StaleEpoch,
            NotServed::OtherRelays => Reason::GrantRelay,
            NotServed::Unknown => Reason::NotServed,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<ConnectionsError> for Refusal {
    fn from(error: ConnectionsError) -> Self {
        Self::for_now(
            Reason::TooManyConnections,
            error.to_string(),
            Duration::from_secs(10),
        )
    }
}

/// The value of the label `reason` in metrics: `REASON_ROOM_FULL` is `room_full`.
pub fn label(reason: Reason) -> String {
    reason
        .as_str_name()
        .trim_start_matches("REASON_")
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use wzp_identity::{GrantClaims, Identity, Phrase, Validity, shared_secret_issuer};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn identity(seed: u8) -> Identity {
        Identity::from_phrase(&Phrase::from_seed(&[seed; 32]))
    }

    fn token(secret: &str, of: &Identity, room: RoomScope, expires: u64) -> String {
        let claims = GrantClaims {
            subject: of.fingerprint(),
            role: GrantRole::Member,
            room,
            relays: Vec::new(),
            sender: Some(9),
            epoch: 0,
            validity: Validity {
                not_before: NOW - 100,
                expires,
            },
            id: String::new(),
        };
        shared_secret_issuer(secret).unwrap().issue(claims).unwrap()
    }

    fn policy() -> Policy {
        let key = shared_secret_issuer("0123456789abcdef").unwrap();
        Policy::of(Some(key.public()))
    }

    fn admit(policy: &Policy, who: &Identity, grant: &str) -> Result<Entrant, Reason> {
        let identity_key = who.public().to_bytes();
        let claim = Claim {
            identity_key: &identity_key,
            grant,
            role: GrantRole::Member,
            unix_now: NOW,
        };
        let exporter = [5; 32];
        let proof = who.prove_connection(&exporter);
        policy
            .admit_connected(claim, &exporter, &proof)
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn an_open_relay_takes_anybody_with_a_proof() {
        let room = RoomName::parse("a").unwrap();
        let entrant = admit(&Policy::Open, &identity(1), "").unwrap();
        assert_eq!(entrant.enter(&room, u64::MAX), Ok(()));
        assert_eq!(entrant.preferred_sender(), None);
        let refusal = prove(&identity(1).public().to_bytes(), &[5; 32], &[0; 64]).unwrap_err();
        assert_eq!(refusal.reason, Reason::Proof);
    }

    #[test]
    fn a_grant_opens_its_room_for_its_holder_until_it_expires() {
        let secret = "0123456789abcdef";
        let good = token(secret, &identity(1), RoomScope::Exactly("a".into()), NOW + 100);
        let entrant = admit(&policy(), &identity(1), &good).unwrap();
        let room = RoomName::parse("a").unwrap();
        assert_eq!(entrant.enter(&room, NOW), Ok(()));
        assert_eq!(entrant.enter(&room, NOW + 129), Ok(()));
        let refusal = entrant.enter(&room, NOW + 130).unwrap_err();
        assert_eq!(refusal.reason, Reason::GrantExpired);
        assert_eq!(entrant.preferred_sender(), SenderId::new(9));
        let refusal = entrant.enter(&RoomName::parse("b").unwrap(), NOW).unwrap_err();
        assert_eq!(refusal.reason, Reason::GrantRoom);
        assert!(!entrant.opens_every_room());
        let every = token(secret, &identity(1), RoomScope::Any, NOW + 100);
        assert!(admit(&policy(), &identity(1), &every).unwrap().opens_every_room());
        let reason = |who: &Identity, grant: &str| admit(&policy(), who, grant).unwrap_err();
        assert_eq!(reason(&identity(2), &good), Reason::GrantInvalid);
        assert_eq!(reason(&identity(1), ""), Reason::GrantMissing);
        assert_eq!(reason(&identity(1), "a.b.c"), Reason::GrantInvalid);
        let expired = token(secret, &identity(1), RoomScope::Any, NOW - 31);
        assert_eq!(reason(&identity(1), &expired), Reason::GrantExpired);
        let foreign = token("another secret, as long", &identity(1), RoomScope::Any, NOW + 100);
        assert_eq!(reason(&identity(1), &foreign), Reason::GrantInvalid);
    }

    #[test]
    fn a_relay_may_say_that_a_member_entered_before_but_not_long_before_nor_later() {
        assert_eq!(entered(0, NOW), NOW);
        assert_eq!(entered(NOW - 7_200, NOW), NOW - 7_200);
        assert_eq!(entered(1, NOW), NOW - 86_400);
        assert_eq!(entered(NOW + 500, NOW), NOW);
        let grant = token("0123456789abcdef", &identity(1), RoomScope::Any, NOW + 100);
        let identity_key = identity(1).public().to_bytes();
        let admit = |unix_now| {
            let claim = Claim {
                identity_key: &identity_key,
                grant: &grant,
                role: GrantRole::Member,
                unix_now,
            };
            policy().admit(claim).map_err(|refusal| refusal.reason).err()
        };
        let later = NOW + 7_200;
        assert_eq!(admit(entered(0, later)), Some(Reason::GrantExpired));
        assert_eq!(admit(entered(NOW, later)), None);
        assert_eq!(admit(entered(NOW, NOW + 100_000)), Some(Reason::GrantExpired));
    }

    #[test]
    fn a_grant_for_relays_by_name_is_not_for_one_without() {
        let claims = GrantClaims {
            subject: identity(1).fingerprint(),
            role: GrantRole::Member,
            room: RoomScope::Any,
            relays: vec!["another".to_owned()],
            sender: None,
            epoch: 0,
            validity: Validity {
                not_before: NOW - 100,
                expires: NOW + 100,
            },
            id: String::new(),
        };
        let issuer = shared_secret_issuer("0123456789abcdef").unwrap();
        let grant = issuer.issue(claims).unwrap();
        let reason = admit(&policy(), &identity(1), &grant).unwrap_err();
        assert_eq!(reason, Reason::GrantInvalid);
    }

    #[test]
    fn a_cluster_takes_grants_for_relays_by_name_once_it_knows_whom_to_believe() {
        let claims = GrantClaims {
            subject: identity(1).fingerprint(),
            role: GrantRole::Member,
            room: RoomScope::Any,
            relays: vec!["b".to_owned(), "a".to_owned()],
            sender: Some(3),
            epoch: 7,
            validity: Validity {
                not_before: NOW - 100,
                expires: NOW + 100,
            },
            id: String::new(),
        };
        let issuer = shared_secret_issuer("0123456789abcdef").unwrap();
        let grant = issuer.issue(claims).unwrap();
        let reason = admit(&Policy::Cluster(None), &identity(1), &grant).unwrap_err();
        assert_eq!(reason, Reason::NotServed);
        let keys = Box::new(TrustedKeys::new(issuer.public().clone()));
        let entrant = admit(&Policy::Cluster(Some(keys)), &identity(1), &grant).unwrap();
        let names: Vec<_> = entrant.relays().iter().map(RelayId::to_string).collect();
        assert_eq!(
            (entrant.epoch(), names),
            (Epoch(7), vec!["b".to_owned(), "a".to_owned()])
        );
    }

    #[test]
    fn labels_are_short_names() {
        assert_eq!(label(Reason::RoomFull), "room_full");
    }
}
