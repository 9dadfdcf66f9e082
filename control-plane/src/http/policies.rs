//! Who may join which room.
#![expect(unused_qualifications, reason = "what utoipa makes of its attributes")]

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wzp_control_core::policy::{RoomPolicy, Scope};

use super::{
    Http,
    body::{Asked, Body, Json, Room},
    caller::Caller,
    list::{decode_cursor, encode_cursor},
    problem::Problem,
};

const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// Who may join.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PolicyName {
    /// Whoever signs for an identity, and whom a server lets in.
    Open,
    /// Whom a server with an API key lets in.
    Key,
}

/// The policy of a room.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyBody {
    policy: PolicyName,
}

#[derive(Serialize, ToSchema)]
pub(super) struct PolicyLine {
    room: String,
    policy: PolicyName,
}

/// Rooms with a policy of their own, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct PoliciesBody {
    /// For every other room.
    default: PolicyName,
    rooms: Vec<PolicyLine>,
    /// For the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which rooms.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PolicyPage {
    /// Rooms on a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Rooms with a policy of their own
#[utoipa::path(get, path = "/v1/room-policies", tag = "rooms", params(PolicyPage),
    responses((status = 200, body = PoliciesBody)))]
pub(super) async fn list(
    State(http): State<Http>,
    caller: Caller,
    Asked(page): Asked<PolicyPage>,
) -> Result<Json<PoliciesBody>, Problem> {
    caller.may(Scope::Read)?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::query_invalid("limit is 1 to 1,000"));
    }
    let after = page
        .cursor
        .as_deref()
        .map(decode_cursor)
        .transpose()?
        .unwrap_or_default();
    let rows = http.plane.store.policies(&after, limit + 1).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let last = rows.get(most).and_then(|_| rows.get(most - 1));
    let next_cursor = last.map(|(room, _)| encode_cursor(room));
    let rooms = rows.into_iter().take(most).map(|(room, policy)| PolicyLine {
        room,
        policy: policy.into(),
    });
    Ok(Json(PoliciesBody {
        default: http.plane.settings.rooms.into(),
        rooms: rooms.collect(),
        next_cursor,
    }))
}

/// The policy of a room
#[utoipa::path(get, path = "/v1/room-policies/{room}", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64)),
    responses((status = 200, body = PolicyBody)))]
pub(super) async fn policy(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
) -> Result<Json<PolicyBody>, Problem> {
    caller.may(Scope::Read)?;
    let own = http.plane.store.policy(&room).await?.ok_or_else(unknown)?;
    let policy = own.into();
    Ok(Json(PolicyBody { policy }))
}

/// Gives a room a policy of its own; whoever is in it stays
#[utoipa::path(put, path = "/v1/room-policies/{room}", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64)),
    request_body = PolicyBody, responses((status = 204, description = "It is so from now on")))]
pub(super) async fn set(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
    body: Result<Body<PolicyBody>, Problem>,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::Admin)?;
    let PolicyBody { policy } = body?.value;
    http.plane.store.set_policy(&room, policy.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the policy of a room away: it has the default again
#[utoipa::path(delete, path = "/v1/room-policies/{room}", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64)),
    responses((status = 204, description = "It is so from now on")))]
pub(super) async fn delete(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::Admin)?;
    if http.plane.store.delete_policy(&room).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

fn unknown() -> Problem {
    Problem::policy_unknown("it has the default")
}

impl From<RoomPolicy> for PolicyName {
    fn from(policy: RoomPolicy) -> Self {
        match policy {
            RoomPolicy::Open => Self::Open,
            // Nobody checks tokens yet, so they let nobody in.
            RoomPolicy::Key | RoomPolicy::Token => Self::Key,
        }
    }
}

impl From<PolicyName> for RoomPolicy {
    fn from(name: PolicyName) -> Self {
        match name {
            PolicyName::Open => Self::Open,
            PolicyName::Key => Self::Key,
        }
    }
}
