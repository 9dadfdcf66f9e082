//! What is asked of the control plane, and its answers made into what cannot be wrong.

use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use wzp_identity::Identity;
use wzp_wire::{
    Epoch, RelayId, RoomName,
    signal::{MAX_SEATS, RelaySeat},
};

use super::{Access, Listed, Ticket, http::Http};
use crate::{CertificateHash, error::ControlError};

/// Pages of the list that are looked at.
const MOST_PAGES: usize = 8;
/// Measurements that are told.
const MOST_TOLD: usize = 16;

pub(super) struct Api(Http);

/// How far a relay is from us.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measurement {
    pub(super) relay: String,
    pub(super) rtt_ms: f64,
    pub(super) loss: f64,
}

#[derive(Deserialize)]
struct Page {
    relays: Vec<PageRelay>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct PageRelay {
    id: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    load: String,
    addresses: Vec<Address>,
    certificates: Vec<String>,
}

#[derive(Deserialize)]
struct Address {
    ip: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct JoinRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(flatten)]
    proof: Option<Proof>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    measurements: &'a [Measurement],
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
}

#[derive(Serialize)]
struct Proof {
    identity_key: String,
    signed_at: u64,
    nonce: String,
    proof: String,
}

#[derive(Deserialize)]
struct JoinAnswer {
    epoch: u64,
    grant: String,
    #[serde(default)]
    expires_at: Option<u64>,
    relays: Vec<AnswerRelay>,
}

#[derive(Deserialize)]
struct AnswerRelay {
    id: String,
    #[serde(default)]
    carries: bool,
    addresses: Vec<Address>,
    certificates: Vec<String>,
}

impl Api {
    pub(super) fn new(url: &str) -> Result<Self, ControlError> {
        Http::new(url).map(Self)
    }

    /// Every relay that can be used; what is wrong with one says nothing of the others.
    pub(super) async fn relays(&self) -> Result<Vec<Listed>, ControlError> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let query = cursor
                .as_deref()
                .map(|cursor| format!("?cursor={}", escaped(cursor)));
            let page: Page = self
                .0
                .get(&format!("/v1/relays{}", query.unwrap_or_default()))
                .await?;
            all.extend(page.relays.into_iter().filter_map(PageRelay::usable));
            cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
            if cursor.is_none() {
                break;
            }
        }
        Ok(all)
    }

    pub(super) async fn join(
        &self,
        identity: &Identity,
        access: &Access,
        room: &RoomName,
        measured: &[Measurement],
        region: Option<&str>,
    ) -> Result<Ticket, ControlError> {
        let (bearer, token) = match access {
            Access::Identity => (None, None),
            Access::Bearer(bearer) => (Some(bearer.as_str()), None),
            Access::Token(token) => (None, Some(token.as_str())),
        };
        let own_word = bearer.is_none() && token.is_none();
        let request = JoinRequest {
            fingerprint: bearer.map(|_| identity.fingerprint().to_hex()),
            token,
            proof: if own_word {
                Some(prove(identity, room)?)
            } else {
                None
            },
            measurements: measured.get(..MOST_TOLD).unwrap_or(measured),
            region,
        };
        let path = format!("/v1/rooms/{}/join", escaped(room.as_str()));
        let answer: JoinAnswer = self.0.post(&path, bearer, &request).await?;
        answer.ticket(room).ok_or(ControlError::Protocol(
            "its answer names no relay that could be used",
        ))
    }
}

fn prove(identity: &Identity, room: &RoomName) -> Result<Proof, ControlError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|_| ControlError::Protocol("the system has no randomness"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let signed_at = now.map_or(0, |since| since.as_secs());
    let proof = identity.prove_join(room.as_str(), signed_at, &nonce);
    Ok(Proof {
        identity_key: URL_SAFE_NO_PAD.encode(identity.public().to_bytes()),
        signed_at,
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        proof: URL_SAFE_NO_PAD.encode(proof),
    })
}

impl PageRelay {
    fn usable(self) -> Option<Listed> {
        RelayId::parse(&self.id).ok()?;
        let listed = Listed {
            addresses: addresses(&self.addresses),
            certificates: hashes(&self.certificates),
            id: self.id,
            region: self.region,
            state: self.state,
            load: self.load,
        };
        (!listed.addresses.is_empty() && !listed.certificates.is_empty()).then_some(listed)
    }
}

impl JoinAnswer {
    fn ticket(self, room: &RoomName) -> Option<Ticket> {
        let seat = |relay: AnswerRelay| {
            let seat = RelaySeat {
                relay: RelayId::parse(&relay.id).ok()?,
                addresses: addresses(&relay.addresses),
                certificates: hashes(&relay.certificates),
                carries: relay.carries,
            };
            (!seat.addresses.is_empty() && !seat.certificates.is_empty()).then_some(seat)
        };
        let mut relays: Vec<_> = self.relays.into_iter().take(MAX_SEATS).filter_map(seat).collect();
        // They come in the order in which to prefer them, which knows of our measurements.
        relays.sort_by_key(|seat| !seat.carries);
        (!relays.is_empty()).then(|| Ticket {
            room: room.clone(),
            epoch: Epoch(self.epoch),
            grant: self.grant,
            expires: self.expires_at,
            relays,
        })
    }
}

fn addresses(addresses: &[Address]) -> Vec<SocketAddr> {
    let usable = addresses.iter().filter(|address| address.port != 0);
    usable
        .map(|address| SocketAddr::new(address.ip.to_canonical(), address.port))
        .collect()
}

fn hashes(hashes: &[String]) -> Vec<[u8; 32]> {
    let parsed = hashes
        .iter()
        .filter_map(|hash| hash.parse::<CertificateHash>().ok());
    parsed.map(CertificateHash::to_bytes).collect()
}

/// As one segment of a path, or one value of a query (RFC 3986).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rooms_stay_one_segment() {
        assert_eq!(escaped("tea"), "tea");
        assert_eq!(escaped("a/b ü?"), "a%2Fb%20%C3%BC%3F");
    }
}
