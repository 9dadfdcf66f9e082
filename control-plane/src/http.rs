//! The HTTP API, for clients, servers and whoever runs the cluster. `/openapi.json` describes it.

mod body;
mod caller;
mod health;
mod join;
mod keys;
mod list;
mod mesh;
mod openapi;
mod policies;
mod presence;
mod problem;
mod relays;
mod rooms;
mod watch;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, post},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
};
use tracing::warn;
use wzp_control_core::limits::{Limiter, Prefix, Quota};

use crate::{config::Rates, keys::ApiKeys, plane::Plane};
use caller::Limits;
use join::{Nonces, Policies};
use list::Cache;

/// Nothing that anybody asks takes more.
const MAX_BODY: usize = 64 * 1_024;
/// Networks and keys whose rate is known.
const LIMITED: usize = 50_000;
/// In which a rate may be used at once.
const WINDOW: Duration = Duration::from_secs(2);

/// What every request may need.
#[derive(Clone)]
pub(crate) struct Http(Arc<Shared>);

pub(crate) struct Shared {
    plane: Arc<Plane>,
    keys: Arc<ApiKeys>,
    limits: Limits,
    cache: Cache,
    nonces: Nonces,
    policies: Policies,
    watchers: Arc<Semaphore>,
    openapi: String,
}

impl std::ops::Deref for Http {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Http {
    pub(crate) fn new(
        plane: Arc<Plane>,
        keys: Arc<ApiKeys>,
        rates: Rates,
        behind_proxy: bool,
        public_url: &str,
    ) -> Self {
        let quota = |rate: u32| Quota {
            requests: rate.saturating_mul(2),
            window: WINDOW,
        };
        Self(Arc::new(Shared {
            plane,
            keys,
            limits: Limits {
                prefixes: Mutex::new(Limiter::<Prefix>::new(quota(rates.prefix), LIMITED)),
                keys: Mutex::new(Limiter::new(quota(rates.key), LIMITED)),
                behind_proxy,
            },
            cache: Cache::default(),
            nonces: Nonces::default(),
            policies: Policies::default(),
            watchers: Arc::new(Semaphore::new(watch::WATCHERS)),
            openapi: openapi::document(public_url),
        }))
    }
}

/// Answers until `stop` is notified.
pub(crate) async fn serve(listener: TcpListener, http: Http, stop: Arc<Notify>) {
    let service = router(http).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(async move { stop.notified().await });
    if let Err(error) = served.await {
        warn!(%error, "http ended");
    }
}

fn router(http: Http) -> Router {
    Router::new()
        .route("/v1/relays", get(list::relays))
        .route("/v1/relays/{relay}", get(relays::relay).post(relays::act))
        .route("/v1/rooms", get(rooms::rooms))
        .route("/v1/rooms/{room}", get(rooms::room).delete(rooms::delete))
        .route("/v1/rooms/{room}/join", post(join::join))
        .route("/v1/rooms/{room}/explain", get(rooms::explain))
        .route("/v1/mesh", get(mesh::mesh))
        .route("/v1/presence/{fingerprint}", get(presence::presence))
        .route("/v1/api-keys", get(keys::list).post(keys::create))
        .route("/v1/api-keys/{id}", delete(keys::delete))
        .route("/v1/keys:rotate", post(keys::rotate))
        .route("/v1/join-token", get(keys::join_token))
        .route("/v1/fleet", get(relays::fleet))
        .route("/v1/relays/watch", get(watch::watch))
        .route("/v1/room-policies", get(policies::list))
        .route(
            "/v1/room-policies/{room}",
            get(policies::policy).put(policies::set).delete(policies::delete),
        )
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/internal/v1/prometheus-sd", get(health::prometheus_sd))
        .route("/openapi.json", get(openapi::openapi))
        .layer(middleware::from_fn_with_state(http.clone(), caller::identify))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(http.clone(), caller::measure))
        .with_state(http)
}
