//! What is read from requests: each thing that can be wrong with it has its own problem.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use wzp_wire::{RelayId, RoomName};

use super::{Http, problem::Problem};

/// A JSON body, and its bytes. An empty one is `{}`.
pub(super) struct Body<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
}

/// A query; a name that is none is a mistake.
pub(super) struct Asked<T>(pub(super) T);

/// The room in the path.
pub(super) struct Room(pub(super) RoomName);

/// JSON, not to be kept by anybody.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Http> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, http: &Http) -> Result<Self, Problem> {
        let said = request.headers().get(header::CONTENT_TYPE).cloned();
        let bytes = Bytes::from_request(request, http).await.map_err(unreadable)?;
        let said = said.as_ref().and_then(|said| said.to_str().ok());
        let json = said.is_some_and(|said| {
            let kind = said.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        });
        if !json && !bytes.is_empty() {
            return Err(Problem::body_type("send it with Content-Type: application/json"));
        }
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let value = serde_json::from_slice(text).map_err(|error| match error.classify() {
            Category::Data => Problem::body_invalid(error.to_string()),
            Category::Io | Category::Syntax | Category::Eof => Problem::body_malformed(error.to_string()),
        })?;
        Ok(Self { value, bytes })
    }
}

impl<T: DeserializeOwned> FromRequestParts<Http> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, http).await;
        query
            .map(|Query(asked)| Self(asked))
            .map_err(|error| Problem::query_invalid(error.body_text()))
    }
}

impl FromRequestParts<Http> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        let Path(name) = path(parts, http).await?;
        let room = RoomName::parse(&name).map_err(|error| Problem::room_invalid(error.to_string()))?;
        if name == "*" {
            return Err(Problem::room_invalid("* stands for every room"));
        }
        Ok(Self(room))
    }
}

/// The one parameter of the path, as it is.
pub(super) struct Segment(pub(super) String);

impl FromRequestParts<Http> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Self, Problem> {
        path(parts, http).await.map(|Path(segment)| Self(segment))
    }
}

async fn path(parts: &mut Parts, http: &Http) -> Result<Path<String>, Problem> {
    let path = Path::<String>::from_request_parts(parts, http).await;
    path.map_err(|error| Problem::path_invalid(error.body_text()))
}

/// A relay's name as somebody wrote it.
pub(super) fn relay(name: &str) -> Result<RelayId, Problem> {
    RelayId::parse(name).map_err(|error| Problem::relay_unknown(error.to_string()))
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::body_too_large("64 KiB are the most")
    } else {
        Problem::body_malformed(rejection.body_text())
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let headers = [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::CACHE_CONTROL, "no-store"),
                ];
                (headers, body).into_response()
            }
            Err(error) => Problem::internal(error.to_string()).into_response(),
        }
    }
}
