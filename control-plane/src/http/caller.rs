//! Who asks, how often, and how long the answer took.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use wzp_control_core::{
    limits::{Limiter, Prefix, Verdict},
    policy::Scope,
};

use super::{
    Http,
    problem::{self, Problem},
};
use crate::{clock, store::ApiKeyRow};

/// Rates by network and by key.
pub(super) struct Limits {
    pub(super) prefixes: Mutex<Limiter<Prefix>>,
    pub(super) keys: Mutex<Limiter<String>>,
    pub(super) behind_proxy: bool,
}

/// What the caller has shown.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// No `Authorization`.
    Nobody,
    /// One that is no key of this cluster.
    Wrong,
    /// A key.
    Key(ApiKeyRow),
}

impl Caller {
    /// The key, if it may be used for this.
    pub(super) fn may(&self, scope: Scope) -> Result<&ApiKeyRow, Problem> {
        match self {
            Self::Nobody => Err(Problem::credentials_missing(
                "send Authorization: Bearer with an API key",
            )),
            Self::Wrong => Err(Problem::key_invalid("it is wrong, or was deleted")),
            Self::Key(key) if key.scopes.allow(scope) => Ok(key),
            Self::Key(key) => Err(Problem::scope_missing(format!(
                "key {} has the scopes {}, this takes {scope}",
                key.id, key.scopes
            ))),
        }
    }
}

impl FromRequestParts<Http> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Http) -> Result<Self, Problem> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Nobody))
    }
}

/// Finds out who asks, and whether that is too often.
pub(super) async fn identify(
    State(http): State<Http>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = caller(&http, request.headers()).await;
    let verdict = http.limits.judge(&caller, peer.ip(), request.headers());
    if let Some(verdict) = verdict
        && let Some(after) = verdict.retry_after
    {
        http.plane.metrics.limited(if matches!(caller, Caller::Key(_)) {
            "key"
        } else {
            "prefix"
        });
        let again = format!("try again in {} s", problem::seconds(after));
        let mut response = Problem::rate_limited(again).again(after).into_response();
        tell(&mut response, verdict);
        return response;
    }
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if let Some(verdict) = verdict {
        tell(&mut response, verdict);
    }
    response
}

async fn caller(http: &Http, headers: &HeaderMap) -> Caller {
    let Some(shown) = headers.get(header::AUTHORIZATION) else {
        return Caller::Nobody;
    };
    let bearer = shown.to_str().ok().and_then(|shown| {
        let (scheme, key) = shown.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let Some(bearer) = bearer else {
        return Caller::Wrong;
    };
    match http.keys.find(&http.plane.store, bearer).await {
        Some(key) => Caller::Key(key),
        None => Caller::Wrong,
    }
}

impl Limits {
    /// `None`: whoever runs the machine is not limited.
    fn judge(&self, caller: &Caller, peer: IpAddr, headers: &HeaderMap) -> Option<Verdict> {
        let now = clock::now();
        if let Caller::Key(key) = caller {
            return Some(lock(&self.keys).take(now, &key.id));
        }
        let address = self.address(peer, headers);
        if address.is_loopback() {
            return None;
        }
        Some(lock(&self.prefixes).take(now, &Prefix::of(address)))
    }

    /// The client's, as our own proxy wrote it.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
        let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        last.filter(|_| self.behind_proxy)
            .unwrap_or_else(|| peer.to_canonical())
    }
}

fn lock<K>(limiter: &Mutex<Limiter<K>>) -> std::sync::MutexGuard<'_, Limiter<K>> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(response: &mut Response, verdict: Verdict) {
    let fields = [
        ("ratelimit-limit", u64::from(verdict.limit)),
        ("ratelimit-remaining", u64::from(verdict.remaining)),
        ("ratelimit-reset", problem::seconds(verdict.reset)),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value.into());
    }
}

/// Counts an answer, and how long it took, by its route.
pub(super) async fn measure(State(http): State<Http>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let began = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    // Others are made up by whoever asks.
    let method = if method.as_str().len() > 7 {
        "other"
    } else {
        method.as_str()
    };
    let code = response.status().as_u16();
    http.plane.metrics.request(route, method, code, began.elapsed());
    response
}
