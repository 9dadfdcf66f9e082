//! `POST /v1/rooms/{room}/join`: who may, and the way in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use wzp_control_core::{
    placement::{Measurement, Request},
    policy::{RoomPolicy, Scope, Vouching},
};
use wzp_identity::{Fingerprint, PublicIdentity};
use wzp_wire::{RelayId, RoomName};

use super::{
    Http,
    body::{Body, Room},
    caller::Caller,
    problem::Problem,
    rooms::SeatBody,
};
use crate::{
    clock,
    plane::{JoinRequest, Ticket},
    store::{Claimed, Kept, StoreError},
};

/// A signature that is older, or from further in the future, is refused.
const WINDOW: u64 = 120;
/// An answer is given again for so long.
const KEPT: u64 = 86_400;
const MAX_MEASUREMENTS: usize = 16;
const MAX_TEXT: usize = 64;
/// Nonces that are remembered while the database is away.
const NONCES: usize = 100_000;
/// Rooms whose policy is remembered.
const POLICIES: usize = 100_000;

/// Who joins, and what it measured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinBody {
    /// Whom a server with an API key lets in: 32 hex digits.
    fingerprint: Option<String>,
    /// Who lets itself in, where the room is open: an Ed25519 key, 32 bytes in base64url.
    identity_key: Option<String>,
    /// Unix seconds.
    signed_at: Option<u64>,
    /// 16 random bytes in base64url; good once.
    nonce: Option<String>,
    /// The signature over room, time and nonce (docs/crypto.md), 64 bytes in base64url.
    proof: Option<String>,
    /// To the relays of the list that look best; others are guessed.
    #[serde(default)]
    #[schema(max_items = 16)]
    measurements: Vec<MeasurementBody>,
    /// Where the client is, if it knows.
    #[serde(default)]
    #[schema(max_length = 64)]
    region: String,
}

/// One relay as the client measured it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeasurementBody {
    relay: String,
    /// 0 to 60,000.
    #[schema(minimum = 0, maximum = 60_000)]
    rtt_ms: f64,
    /// 0 to 1.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    loss: f64,
}

/// The way in.
#[derive(Serialize, ToSchema)]
pub(super) struct Joined {
    room: String,
    epoch: u64,
    /// The member's number in the room.
    sender: u16,
    /// What the relays want to see.
    grant: String,
    /// Unix seconds; of the grant.
    expires_at: u64,
    /// To be connected to, all of them; in the order in which to prefer them.
    relays: Vec<SeatBody>,
}

/// Nonces of this replica while the database is away.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<Nonce, u64>>);

/// Policies of rooms as they were last read, for when the database is away.
#[derive(Default)]
pub(super) struct Policies(Mutex<HashMap<RoomName, Option<RoomPolicy>>>);

/// Of an identity.
#[derive(PartialEq, Eq, Hash)]
struct Nonce {
    identity: [u8; 32],
    nonce: [u8; 16],
}

/// Lets a member into a room
///
/// Either a server with an API key of scope `join` names a `fingerprint`, or, where the room is open, an identity signs for
/// itself. With `Idempotency-Key` (API keys only) a repeated request has the same answer for 24 hours.
#[utoipa::path(post, path = "/v1/rooms/{room}/join", tag = "rooms",
    params(("room" = String, Path, description = "Its name; a room that is none yet is made", max_length = 64),
           ("idempotency-key" = Option<String>, Header, description = "1 to 64 printable letters")),
    request_body = JoinBody, security((), ("api_key" = [])),
    responses((status = 200, body = Joined)))]
pub(super) async fn join(
    State(http): State<Http>,
    caller: Caller,
    headers: HeaderMap,
    Room(room): Room,
    body: Result<Body<JoinBody>, Problem>,
) -> Response {
    let began = Instant::now();
    let result = answer(&http, &caller, &headers, room, body).await;
    let label = result.as_ref().map_or_else(|problem| problem.code(), |_| "ok");
    http.plane.metrics.joined(label, began.elapsed());
    match result {
        Ok(Kept { status, body }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (status, headers, body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    http: &Http,
    caller: &Caller,
    headers: &HeaderMap,
    room: RoomName,
    body: Result<Body<JoinBody>, Problem>,
) -> Result<Kept, Problem> {
    // Who may not at all is told so before what is wrong with the rest.
    let owner = match caller {
        Caller::Nobody => None,
        _ => Some(caller.may(Scope::Join)?.id.clone()),
    };
    let Body { value, bytes } = body?;
    let client = value.client()?;
    let key = idempotency_key(headers)?;
    let subject = match owner {
        Some(_) => value.named()?,
        None => by_identity(http, &room, &value).await?,
    };
    let kept = owner.as_deref().zip(key.as_deref());
    let hash = Sha256::new_with_prefix(room.as_str())
        .chain_update([0])
        .chain_update(&bytes)
        .finalize();
    let store = &http.plane.store;
    if let Some((owner, key)) = kept {
        match store.idempotent(owner, key, &hash, clock::unix_seconds()).await? {
            Claimed::New => {}
            Claimed::Same(kept) => return Ok(kept),
            Claimed::Other => {
                return Err(Problem::idempotency_conflict(
                    "take another one for another request",
                ));
            }
        }
    }
    let ticket = http
        .plane
        .join(&JoinRequest {
            room,
            subject,
            client,
        })
        .await?;
    let body =
        serde_json::to_vec(&Joined::of(&ticket)).map_err(|error| Problem::internal(error.to_string()))?;
    let answer = Kept { status: 200, body };
    if let Some(kept) = kept {
        let now = clock::unix_seconds();
        store.keep_answer(kept, &hash, &answer, now + KEPT, now).await?;
    }
    Ok(answer)
}

/// Whoever signs for an identity is let in as that one, where the room is open to all.
async fn by_identity(http: &Http, room: &RoomName, body: &JoinBody) -> Result<Fingerprint, Problem> {
    let (Some(key), Some(signed_at), Some(nonce), Some(proof)) =
        (&body.identity_key, body.signed_at, &body.nonce, &body.proof)
    else {
        let text = "send Authorization: Bearer with an API key, or identity_key, signed_at, nonce and proof";
        return Err(Problem::credentials_missing(text));
    };
    if body.fingerprint.is_some() {
        return Err(Problem::body_invalid(
            "fingerprint is for API keys: an identity joins as itself",
        ));
    }
    let key: [u8; 32] = bytes(key, "identity_key")?;
    let (nonce, proof): ([u8; 16], [u8; 64]) = (bytes(nonce, "nonce")?, bytes(proof, "proof")?);
    let identity =
        PublicIdentity::from_bytes(&key).map_err(|error| Problem::identity_invalid(error.to_string()))?;
    if !policy(http, room).await?.admits(Vouching::Identity) {
        return Err(Problem::room_closed("ask the server that has an API key"));
    }
    let now = clock::unix_seconds();
    if now.abs_diff(signed_at) > WINDOW {
        return Err(Problem::proof_stale(format!(
            "signed_at is {signed_at}, here it is {now}"
        )));
    }
    identity
        .verify_join(room.as_str(), signed_at, &nonce, &proof)
        .map_err(|error| Problem::proof_wrong(error.to_string()))?;
    let expires = signed_at + WINDOW + 1;
    let taken = match http.plane.store.take_nonce(&key, &nonce, expires, now).await {
        Err(StoreError::Unreachable(_)) => http.nonces.take(Nonce { identity: key, nonce }, expires, now),
        taken => taken?,
    };
    if taken {
        Ok(identity.fingerprint())
    } else {
        Err(Problem::proof_replayed("sign again, with another nonce"))
    }
}

/// Without the database it is what it was when somebody joined here last: a closed room does not open for an outage.
async fn policy(http: &Http, room: &RoomName) -> Result<RoomPolicy, Problem> {
    let own = match http.plane.store.policy(room).await {
        Err(error @ StoreError::Unreachable(_)) => http.policies.recall(room).ok_or(error)?,
        own => own?,
    };
    http.policies.note(room, own);
    Ok(own.unwrap_or(http.plane.settings.rooms))
}

impl Policies {
    fn note(&self, room: &RoomName, own: Option<RoomPolicy>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= POLICIES && !known.contains_key(room) {
            known.clear();
        }
        known.insert(room.clone(), own);
    }

    fn recall(&self, room: &RoomName) -> Option<Option<RoomPolicy>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(room).copied()
    }
}

impl Nonces {
    fn take(&self, nonce: Nonce, expires: u64, now: u64) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= NONCES {
            taken.retain(|_, expires| *expires >= now);
        }
        taken.len() < NONCES && taken.insert(nonce, expires).is_none()
    }
}

impl JoinBody {
    fn named(&self) -> Result<Fingerprint, Problem> {
        let named = self.fingerprint.as_deref();
        let named = named.ok_or_else(|| Problem::body_invalid("fingerprint says who is let in"))?;
        named
            .parse()
            .map_err(|error| Problem::body_invalid(format!("fingerprint: {error}")))
    }

    fn client(&self) -> Result<Request, Problem> {
        let Self {
            measurements, region, ..
        } = self;
        if measurements.len() > MAX_MEASUREMENTS {
            return Err(Problem::body_invalid("measurements are at most 16"));
        }
        if region.len() > MAX_TEXT || region.chars().any(char::is_control) {
            return Err(Problem::body_invalid("region has at most 64 bytes"));
        }
        Ok(Request {
            measurements: measurements.iter().map(measurement).collect::<Result<_, _>>()?,
            region: region.as_str().into(),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1,000"
)]
fn measurement(body: &MeasurementBody) -> Result<Measurement, Problem> {
    let invalid = |text: &str| Problem::body_invalid(format!("measurements: {text}"));
    if !(0.0..=60_000.0).contains(&body.rtt_ms) {
        return Err(invalid("rtt_ms is 0 to 60,000"));
    }
    if !(0.0..=1.0).contains(&body.loss) {
        return Err(invalid("loss is 0 to 1"));
    }
    Ok(Measurement {
        relay: RelayId::parse(&body.relay).map_err(|error| invalid(&error.to_string()))?,
        rtt: Duration::from_secs_f64(body.rtt_ms / 1_000.0),
        loss_permille: (body.loss * 1_000.0).round() as u16,
    })
}

impl Joined {
    fn of(ticket: &Ticket) -> Self {
        Self {
            room: ticket.room.to_string(),
            epoch: ticket.epoch.0,
            sender: ticket.sender.get(),
            grant: ticket.grant.clone(),
            expires_at: ticket.expires_at,
            relays: ticket.places.iter().map(SeatBody::of).collect(),
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=MAX_TEXT).contains(&key.len()) && printable {
        Ok(Some(key.to_owned()))
    } else {
        Err(Problem::header_invalid(
            "Idempotency-Key has 1 to 64 printable letters",
        ))
    }
}

fn bytes<const N: usize>(text: &str, name: &str) -> Result<[u8; N], Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok();
    let fixed = decoded.and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    fixed.ok_or_else(|| Problem::body_invalid(format!("{name} is {N} bytes in base64url")))
}
