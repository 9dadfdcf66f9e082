//! One relay: what is known of it, and emptying it.

use std::time::Duration;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wzp_control_core::{
    drain,
    policy::Scope,
    registry::{self, Relay},
};
use wzp_wire::{Instant, RelayId};

use super::{
    Http,
    body::{self, Body, Json, Segment},
    caller::Caller,
    list::{AddressBody, addresses, name},
    problem::Problem,
};
use crate::{authority::hex, plane::DrainView};

const DEADLINE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// A relay as this replica knows it.
#[derive(Serialize, ToSchema)]
pub(super) struct RelayDetail {
    id: String,
    region: String,
    zone: String,
    node: String,
    version: String,
    /// joining, checking, listed, silent or lost.
    state: String,
    /// active, avoid or draining, if it is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<String>,
    /// Why it is not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    addresses: Vec<AddressBody>,
    /// SHA-256 of each certificate that it may show, in hex.
    certificates: Vec<String>,
    /// Of all that it can carry: as it said, and with what was assigned in the last 20 s.
    load: f32,
    load_corrected: f32,
    rooms: u32,
    members: u32,
    connections: u64,
    cpu_permille: u32,
    egress_bits_per_second: u64,
    packets_per_second: u64,
    /// Since it was heard.
    heard_ms: u64,
    /// Its clock minus ours, when that is worth a note.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_off_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainBody>,
}

/// How a relay is emptied.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRequest {
    /// Everybody has moved by then.
    #[schema(minimum = 1000, maximum = 3_600_000, default = 10000)]
    deadline_ms: Option<u64>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// A drain.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct DrainBody {
    relay: String,
    deadline_ms: u64,
    eta_ms: u64,
    /// Rooms in the plan, told to move, and without a member on the relay.
    rooms: usize,
    rooms_ordered: usize,
    rooms_done: usize,
    members: u32,
    members_left: u32,
    steps: Vec<StepBody>,
    /// Rooms that have nowhere to go.
    stuck: Vec<String>,
}

/// One room of a drain.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct StepBody {
    room: String,
    members: u32,
    /// Since the start of the drain.
    after_ms: u64,
    /// The relays that serve it then, the carrying ones first.
    relays: Vec<String>,
}

/// What became of an undrain.
#[derive(Serialize, ToSchema)]
pub(super) struct Undrained {
    relay: String,
    /// Rooms that were not yet told to move, and stay.
    rooms_stayed: usize,
}

/// One relay
#[utoipa::path(get, path = "/v1/relays/{relay}", tag = "relays",
    params(("relay" = String, Path, description = "Its name")),
    responses((status = 200, body = RelayDetail)))]
pub(super) async fn relay(
    State(http): State<Http>,
    caller: Caller,
    Segment(segment): Segment,
) -> Result<Json<RelayDetail>, Problem> {
    caller.may(Scope::Read)?;
    let id = body::relay(&segment)?;
    let detail = http.plane.look(|inner, now| {
        let relay = inner.world.registry.relay(&id)?;
        Some(detail(relay, now, inner.drain_view(&id, now)))
    });
    detail.map(Json).ok_or_else(|| unknown(&id))
}

/// Every relay that is known, whatever its state.
#[derive(Serialize, ToSchema)]
pub(super) struct FleetBody {
    relays: Vec<RelayDetail>,
}

/// Every relay that is known, those that clients are not told of too, and why they are not
#[utoipa::path(get, path = "/v1/fleet", tag = "relays", responses((status = 200, body = FleetBody)))]
pub(super) async fn fleet(State(http): State<Http>, caller: Caller) -> Result<Json<FleetBody>, Problem> {
    caller.may(Scope::Read)?;
    let relays = http.plane.look(|inner, now| {
        let relays = inner.world.registry.relays();
        relays
            .map(|relay| detail(relay, now, inner.drain_view(&relay.hello.relay, now)))
            .collect()
    });
    Ok(Json(FleetBody { relays }))
}

/// `{relay}:drain` and `{relay}:undrain`: a name of a relay has no colon.
pub(super) async fn act(
    state: State<Http>,
    caller: Caller,
    Segment(segment): Segment,
    body: Result<Body<DrainRequest>, Problem>,
) -> Result<Response, Problem> {
    caller.may(Scope::Admin)?;
    match segment.rsplit_once(':') {
        Some((id, "drain")) => drain(state, body::relay(id)?, body?.value),
        Some((id, "undrain")) => undrain(state, body::relay(id)?),
        _ => Err(Problem::not_found(
            "{relay}:drain and {relay}:undrain are what can be done",
        )),
    }
}

/// Empties a relay
///
/// Its rooms go to others, members without a gap; undone by `:undrain` until it is over.
#[utoipa::path(post, path = "/v1/relays/{relay}:drain", tag = "relays",
    params(("relay" = String, Path, description = "Its name")),
    request_body = Option<DrainRequest>,
    responses((status = 202, description = "It goes on", body = DrainBody),
              (status = 200, description = "It was only planned", body = DrainBody)))]
pub(super) fn drain(
    State(http): State<Http>,
    relay: RelayId,
    request: DrainRequest,
) -> Result<Response, Problem> {
    let DrainRequest { deadline_ms, dry_run } = request;
    let deadline = match deadline_ms {
        None => drain::DEADLINE,
        Some(ms) if DEADLINE_MS.contains(&ms) => Duration::from_millis(ms),
        Some(_) => return Err(Problem::body_invalid("deadline_ms is 1,000 to 3,600,000")),
    };
    let (status, view) = if dry_run {
        (StatusCode::OK, http.plane.plan_drain(&relay, deadline)?)
    } else {
        (StatusCode::ACCEPTED, http.plane.drain(&relay, deadline)?)
    };
    Ok((status, Json(DrainBody::of(&view))).into_response())
}

/// Uses a relay again
#[utoipa::path(post, path = "/v1/relays/{relay}:undrain", tag = "relays",
    params(("relay" = String, Path, description = "Its name")),
    responses((status = 200, body = Undrained)))]
pub(super) fn undrain(State(http): State<Http>, relay: RelayId) -> Result<Response, Problem> {
    let rooms_stayed = http.plane.undrain(&relay)?;
    let relay = relay.to_string();
    Ok(Json(Undrained { relay, rooms_stayed }).into_response())
}

fn unknown(id: &RelayId) -> Problem {
    Problem::relay_unknown(format!("{id} has not been attached"))
}

fn detail(relay: &Relay, now: Instant, drain: Option<DrainView>) -> RelayDetail {
    let hello = &relay.hello;
    let beat = relay.heartbeat.map(|(_, beat)| beat).unwrap_or_default();
    let (state, offer, why_not) = match &relay.state {
        registry::State::Joining => ("joining", None, None),
        registry::State::Checking { why_not } => ("checking", None, why_not.clone()),
        registry::State::Listed { offer } => ("listed", Some(name(offer)), None),
        registry::State::Silent => ("silent", None, None),
        registry::State::Lost => ("lost", None, None),
    };
    RelayDetail {
        id: hello.relay.to_string(),
        region: hello.place.region.to_string(),
        zone: hello.place.zone.to_string(),
        node: hello.place.node.to_string(),
        version: hello.version.to_string(),
        state: state.to_owned(),
        offer,
        why_not,
        addresses: addresses(&hello.addresses),
        certificates: hello.certificates.iter().map(|hash| hex(hash)).collect(),
        load: relay.load.reported(),
        load_corrected: relay.load.corrected(now),
        rooms: beat.rooms,
        members: beat.members,
        connections: beat.connections,
        cpu_permille: beat.cpu_permille,
        egress_bits_per_second: beat.egress_bits_per_second,
        packets_per_second: beat.packets_per_second,
        heard_ms: millis(now.duration_since(relay.heard)),
        clock_off_ms: relay.clock_off_ms,
        drain: drain.as_ref().map(DrainBody::of),
    }
}

impl DrainBody {
    fn of(view: &DrainView) -> Self {
        let DrainView { plan, progress } = view;
        let step = |step: &drain::Step| StepBody {
            room: step.write.lease.room.to_string(),
            members: step.members,
            after_ms: millis(step.after),
            relays: step
                .write
                .lease
                .seats
                .iter()
                .map(|seat| seat.relay.to_string())
                .collect(),
        };
        Self {
            relay: plan.relay.to_string(),
            deadline_ms: millis(plan.deadline),
            eta_ms: progress.eta_ms,
            rooms: progress.rooms,
            rooms_ordered: progress.rooms_ordered,
            rooms_done: progress.rooms_done,
            members: progress.members,
            members_left: progress.members_left,
            steps: plan.steps.iter().map(step).collect(),
            stuck: plan.stuck.iter().map(ToString::to_string).collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
