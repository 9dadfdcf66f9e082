//! `GET /v1/mesh`: what relays measured to each other.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use wzp_control_core::{mesh::Link, policy::Scope};
use wzp_wire::{Instant, RelayId};

use super::{Http, body::Json, caller::Caller, problem::Problem};

/// Every pair that was measured, in each direction.
#[derive(Serialize, ToSchema)]
pub(super) struct MeshBody {
    relays: Vec<String>,
    links: Vec<LinkBody>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct LinkBody {
    src: String,
    dst: String,
    rtt_ms: f64,
    jitter_ms: f64,
    /// 0 to 1.
    loss: f64,
    /// Whether the last rounds were answered.
    reachable: bool,
    /// Since it was measured.
    age_ms: u64,
}

/// What relays measured to each other
#[utoipa::path(get, path = "/v1/mesh", tag = "relays", responses((status = 200, body = MeshBody)))]
pub(super) async fn mesh(State(http): State<Http>, caller: Caller) -> Result<Json<MeshBody>, Problem> {
    caller.may(Scope::Read)?;
    Ok(Json(http.plane.look(|inner, now| {
        let registry = &inner.world.registry;
        let links = registry.mesh().links();
        MeshBody {
            relays: registry
                .relays()
                .map(|relay| relay.hello.relay.to_string())
                .collect(),
            links: links
                .map(|(src, dst, link)| LinkBody::of(src, dst, link, now))
                .collect(),
        }
    })))
}

impl LinkBody {
    fn of(src: &RelayId, dst: &RelayId, link: &Link, now: Instant) -> Self {
        Self {
            src: src.to_string(),
            dst: dst.to_string(),
            rtt_ms: link.rtt.as_secs_f64() * 1_000.0,
            jitter_ms: link.jitter.as_secs_f64() * 1_000.0,
            loss: f64::from(link.loss_permille) / 1_000.0,
            reachable: link.reachable,
            age_ms: u64::try_from(now.duration_since(link.measured).as_millis()).unwrap_or(u64::MAX),
        }
    }
}
