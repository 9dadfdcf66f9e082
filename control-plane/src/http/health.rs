//! For whoever runs the cluster: whether it lives, what it counts, where its relays are scraped.

use std::collections::BTreeMap;

use axum::{extract::State, http::header, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Http, body::Json};
use crate::metrics::CONTENT_TYPE;

/// Of Prometheus' HTTP service discovery.
#[derive(Serialize, ToSchema)]
pub(super) struct Targets {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

/// Whether this process turns; it depends on nothing outside of it.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether it serves. It does from the start on, with or without the database, as far as it can.
pub(super) async fn readyz(State(http): State<Http>) -> &'static str {
    if http.plane.store.is_reachable() {
        "ok\n"
    } else {
        "ok, without the database\n"
    }
}

pub(super) async fn metrics(State(http): State<Http>) -> impl IntoResponse {
    let text = http.plane.metrics.render(&http.plane);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

/// Where Prometheus finds the metrics of relays
#[utoipa::path(get, path = "/internal/v1/prometheus-sd", tag = "operations", security(()),
    responses((status = 200, body = Vec<Targets>)))]
pub(super) async fn prometheus_sd(State(http): State<Http>) -> Json<Vec<Targets>> {
    Json(http.plane.look(|inner, _| {
        let relays = inner
            .world
            .registry
            .relays()
            .filter(|relay| relay.stream.is_some());
        let scraped = relays.filter(|relay| !relay.hello.metrics_address.is_empty());
        scraped
            .map(|relay| Targets {
                targets: vec![relay.hello.metrics_address.to_string()],
                labels: BTreeMap::from([
                    ("relay", relay.hello.relay.to_string()),
                    ("region", relay.hello.place.region.to_string()),
                    ("zone", relay.hello.place.zone.to_string()),
                ]),
            })
            .collect()
    }))
}
