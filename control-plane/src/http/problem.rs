//! What went wrong, as RFC 9457 has it. The codes are stable; titles and details are for people.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    plane::{DrainError, JoinError},
    store::StoreError,
};

const CONTENT_TYPE: &str = "application/problem+json";
/// When it is worth asking again while the database is away, or no relay is attached.
const AGAIN: Duration = Duration::from_secs(1);

/// An answer that is none.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

/// RFC 9457.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// A URI that names the code.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// For people.
    detail: String,
    /// For programs; stable.
    code: &'static str,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident $code:literal $title:literal;)*) => {
        impl Problem {
            $($(#[$doc])* pub(super) fn $name(detail: impl Into<String>) -> Self {
                Self::new(StatusCode::$status, $code, $title, detail.into())
            })*
        }
    };
}

problems! {
    body_malformed = BAD_REQUEST "body_malformed" "The body is no JSON";
    body_invalid = UNPROCESSABLE_ENTITY "body_invalid" "The body says something else than expected";
    body_too_large = PAYLOAD_TOO_LARGE "body_too_large" "The body is too large";
    body_type = UNSUPPORTED_MEDIA_TYPE "body_type" "The body is not said to be JSON";
    query_invalid = BAD_REQUEST "query_invalid" "The query says something else than expected";
    cursor_invalid = BAD_REQUEST "cursor_invalid" "The cursor is none that was given out";
    path_invalid = BAD_REQUEST "path_invalid" "The path names nothing that could be";
    room_invalid = BAD_REQUEST "room_invalid" "That is no name of a room";
    header_invalid = BAD_REQUEST "header_invalid" "A header says something else than expected";
    credentials_missing = UNAUTHORIZED "credentials_missing" "Nothing was shown that lets in";
    key_invalid = UNAUTHORIZED "key_invalid" "The API key is none of this cluster";
    scope_missing = FORBIDDEN "scope_missing" "The API key may not be used for this";
    identity_invalid = UNPROCESSABLE_ENTITY "identity_invalid" "The identity key is none";
    proof_wrong = UNAUTHORIZED "proof_wrong" "The signature is not that of the identity for this join";
    proof_stale = UNAUTHORIZED "proof_stale" "The signature is too old, or from the future";
    proof_replayed = CONFLICT "proof_replayed" "The nonce was used before";
    room_closed = FORBIDDEN "room_closed" "The room takes only whom a server lets in";
    idempotency_conflict = UNPROCESSABLE_ENTITY "idempotency_conflict" "The idempotency key was used for another request";
    room_unknown = NOT_FOUND "room_unknown" "No relay serves this room";
    relay_unknown = NOT_FOUND "relay_unknown" "No relay of this name is known";
    api_key_unknown = NOT_FOUND "api_key_unknown" "There is no such API key";
    not_found = NOT_FOUND "not_found" "There is nothing here";
    method_not_allowed = METHOD_NOT_ALLOWED "method_not_allowed" "That cannot be done here";
    rate_limited = TOO_MANY_REQUESTS "rate_limited" "Too many requests";
    too_many_watchers = SERVICE_UNAVAILABLE "too_many_watchers" "Too many watch the list";
    policy_unknown = NOT_FOUND "policy_unknown" "The room has no policy of its own";
    no_relay = SERVICE_UNAVAILABLE "no_relay" "No relay is attached";
    contended = SERVICE_UNAVAILABLE "contended" "The room changes too fast";
    database_unavailable = SERVICE_UNAVAILABLE "database_unavailable" "The database cannot be used now";
    internal = INTERNAL_SERVER_ERROR "internal" "A fault of the control plane";
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            code,
            title,
            detail,
            retry_after: None,
        }
    }

    /// It is worth trying again after that.
    pub(super) fn again(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("urn:wzp:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code,
        };
        // A plain struct of strings always serializes.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds(after).into());
        }
        response
    }
}

/// Whole seconds, rounded up.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

pub(super) async fn no_route() -> Problem {
    Problem::not_found("see /openapi.json for what is")
}

pub(super) async fn no_method() -> Problem {
    Problem::method_not_allowed("see /openapi.json for what can")
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a request failed for the database"
        );
        Self::database_unavailable(error.to_string()).again(AGAIN)
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::NoRelay(error) => Self::no_relay(error.to_string()).again(AGAIN),
            JoinError::Store(error) => error.into(),
            JoinError::Contended => Self::contended(error.to_string()).again(AGAIN),
            JoinError::Grant => Self::internal(error.to_string()),
        }
    }
}

impl From<DrainError> for Problem {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::Unknown => Self::relay_unknown(error.to_string()),
        }
    }
}
