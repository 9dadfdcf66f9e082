//! Rooms: who serves them, and why.
#![expect(unused_qualifications, reason = "what utoipa makes of its attributes")]

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wzp_control_core::{Lease, placement::Request, policy::Scope};
use wzp_wire::RoomName;

use super::{
    Http,
    body::{Asked, Json, Room},
    caller::Caller,
    list::{AddressBody, addresses, decode_cursor, encode_cursor},
    problem::Problem,
};
use crate::{authority::hex, plane::Place};

const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// A room and its relays.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomBody {
    room: String,
    /// Rises with every change of the relays.
    epoch: u64,
    /// The largest number of members that a relay has.
    members: u32,
    relays: Vec<SeatBody>,
}

/// A relay of a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SeatBody {
    id: String,
    /// Otherwise it is a warm standby.
    carries: bool,
    region: String,
    zone: String,
    addresses: Vec<AddressBody>,
    /// SHA-256 of each certificate that it may show, in hex.
    certificates: Vec<String>,
}

/// Rooms by name.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomsBody {
    rooms: Vec<RoomLine>,
    /// For the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RoomLine {
    room: String,
    epoch: u64,
    members: u32,
    /// The carrying ones first.
    relays: Vec<String>,
}

/// Which rooms.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Rooms on a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// For whom.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whom {
    /// Where the client is.
    region: Option<String>,
}

/// What a join would do now, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplainBody {
    room: String,
    /// The epoch that the room has, and that it would have.
    epoch: u64,
    epoch_after: u64,
    /// The relays that would serve it, the carrying ones first.
    relays: Vec<String>,
    /// In words.
    text: String,
    /// The rule that decided, and candidates with their scores by term; the lowest score wins.
    #[schema(value_type = Object)]
    explanation: serde_json::Value,
}

/// Rooms that are known
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(Page),
    responses((status = 200, body = RoomsBody)))]
pub(super) async fn rooms(
    State(http): State<Http>,
    caller: Caller,
    Asked(page): Asked<Page>,
) -> Result<Json<RoomsBody>, Problem> {
    caller.may(Scope::Read)?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::query_invalid("limit is 1 to 1,000"));
    }
    let after = page.cursor.as_deref().map(decode_cursor).transpose()?;
    let after = after.map(|after| RoomName::parse(&after)).transpose();
    let after = after.map_err(|error| Problem::cursor_invalid(error.to_string()))?;
    let mut rooms: Vec<RoomLine> = http.plane.look(|inner, _| {
        let served = inner
            .world
            .leases()
            .rooms(after.as_ref())
            .filter(|(lease, _)| !lease.seats.is_empty());
        served
            .take(limit + 1)
            .map(|(lease, members)| RoomLine::of(&lease, members))
            .collect()
    });
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let next_cursor = rooms
        .last()
        .filter(|_| more)
        .map(|last| encode_cursor(&last.room));
    Ok(Json(RoomsBody { rooms, next_cursor }))
}

/// One room
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64)),
    responses((status = 200, body = RoomBody)))]
pub(super) async fn room(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
) -> Result<Json<RoomBody>, Problem> {
    caller.may(Scope::Read)?;
    let lease = http.plane.store.lease(&room).await?;
    let lease = lease
        .filter(|lease| !lease.seats.is_empty())
        .ok_or_else(unserved)?;
    let (members, places) = http
        .plane
        .look(|inner, now| (inner.world.leases().members(&room), inner.seats_of(now, &lease)));
    Ok(Json(RoomBody {
        room: room.to_string(),
        epoch: lease.epoch.0,
        members,
        relays: places.iter().map(SeatBody::of).collect(),
    }))
}

/// Ends a room: its members are told goodbye
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64)),
    responses((status = 204, description = "It is ended")))]
pub(super) async fn delete(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::Admin)?;
    if http.plane.delete_room(&room).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unserved())
    }
}

/// What a join would do now, and why
#[utoipa::path(get, path = "/v1/rooms/{room}/explain", tag = "rooms",
    params(("room" = String, Path, description = "Its name", max_length = 64), Whom),
    responses((status = 200, body = ExplainBody)))]
pub(super) async fn explain(
    State(http): State<Http>,
    caller: Caller,
    Room(room): Room,
    Asked(whom): Asked<Whom>,
) -> Result<Json<ExplainBody>, Problem> {
    caller.may(Scope::Read)?;
    let client = Request {
        region: whom.region.unwrap_or_default().into(),
        ..Request::default()
    };
    let (before, after, explanation) = http.plane.explain(&room, &client).await?;
    Ok(Json(ExplainBody {
        room: room.to_string(),
        epoch: before.map_or(0, |lease| lease.epoch.0),
        epoch_after: after.epoch.0,
        relays: names(&after),
        text: explanation.to_string(),
        explanation: serde_json::to_value(&explanation).unwrap_or_default(),
    }))
}

fn unserved() -> Problem {
    Problem::room_unknown("a join makes it")
}

fn names(lease: &Lease) -> Vec<String> {
    lease.seats.iter().map(|seat| seat.relay.to_string()).collect()
}

impl RoomLine {
    fn of(lease: &Lease, members: u32) -> Self {
        Self {
            room: lease.room.to_string(),
            epoch: lease.epoch.0,
            members,
            relays: names(lease),
        }
    }
}

impl SeatBody {
    pub(super) fn of(place: &Place) -> Self {
        Self {
            id: place.seat.relay.to_string(),
            carries: place.seat.carries,
            region: place.region.to_string(),
            zone: place.zone.to_string(),
            addresses: addresses(&place.addresses),
            certificates: place.certificates.iter().map(|hash| hex(hash)).collect(),
        }
    }
}
