//! `GET /v1/presence/{fingerprint}`: whether somebody can be called.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use wzp_control_core::policy::Scope;
use wzp_identity::Fingerprint;
use wzp_wire::RelayId;

use super::{
    Http,
    body::{Json, Segment},
    caller::Caller,
    problem::Problem,
};

/// Where an identity is.
#[derive(Serialize, ToSchema)]
pub(super) struct PresenceBody {
    /// 32 hex digits.
    fingerprint: String,
    online: bool,
    /// To which it is connected.
    relays: Vec<String>,
}

/// Whether an identity is connected
#[utoipa::path(get, path = "/v1/presence/{fingerprint}", tag = "calls",
    params(("fingerprint" = String, Path, description = "32 hex digits")),
    responses((status = 200, body = PresenceBody)))]
pub(super) async fn presence(
    State(http): State<Http>,
    caller: Caller,
    Segment(fingerprint): Segment,
) -> Result<Json<PresenceBody>, Problem> {
    caller.may(Scope::Read)?;
    let fingerprint: Fingerprint = fingerprint
        .parse()
        .map_err(|error: wzp_identity::FingerprintError| Problem::path_invalid(error.to_string()))?;
    let relays = http.plane.look(|inner, _| inner.presence(&fingerprint));
    Ok(Json(PresenceBody {
        fingerprint: fingerprint.to_hex(),
        online: !relays.is_empty(),
        relays: relays.iter().map(RelayId::to_string).collect(),
    }))
}
