//! `/metrics`, `/livez` and `/readyz`, for whoever runs the relay.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch, time};
use tracing::warn;

use crate::{doors::Door, metrics::CONTENT_TYPE, relay::Shared};

/// A packet loop that has not turned for this long is dead.
const DEAD_AFTER: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct Http {
    relay: Arc<Shared>,
    alive: watch::Receiver<bool>,
}

/// Answers HTTP for as long as the relay runs.
pub(crate) async fn serve(listener: TcpListener, relay: Arc<Shared>, doors: Vec<Arc<Door>>) {
    let (said, alive) = watch::channel(true);
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Http { relay, alive });
    let served = async { axum::serve(listener, router).await };
    tokio::select! {
        served = served => if let Err(error) = served {
            warn!(%error, "http ended");
        },
        () = watch_loops(doors, said) => {}
    }
}

async fn metrics(State(http): State<Http>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        http.relay.metrics.render(&http.relay),
    )
}

/// Whether every packet loop turns. It depends on nothing outside this process.
async fn livez(State(http): State<Http>) -> (StatusCode, &'static str) {
    if *http.alive.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a packet loop stands still\n")
    }
}

/// Whether newcomers are taken.
async fn readyz(State(http): State<Http>) -> (StatusCode, &'static str) {
    if http.relay.lifecycle().admits() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}

async fn watch_loops(doors: Vec<Arc<Door>>, said: watch::Sender<bool>) {
    let mut last: Vec<u64> = Vec::new();
    let mut still: Vec<u32> = Vec::new();
    loop {
        let ticks: Vec<u64> = doors.iter().flat_map(|door| door.running.ticks()).collect();
        still.resize(ticks.len(), 0);
        for (at, (still, tick)) in still.iter_mut().zip(&ticks).enumerate() {
            *still = if last.get(at) == Some(tick) { *still + 1 } else { 0 };
        }
        last = ticks;
        if said.send(still.iter().all(|&times| times < DEAD_AFTER)).is_err() {
            return;
        }
        time::sleep(LOOK_EVERY).await;
    }
}
