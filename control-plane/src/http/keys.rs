//! API keys, and the keys of the cluster.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wzp_control_core::policy::{Scope, Scopes};
use wzp_identity::GrantPublicKey;

use super::{
    Http,
    body::{Body, Json, Segment},
    caller::Caller,
    list::name,
    problem::Problem,
};
use crate::{clock, store::ApiKeyRow};

/// An API key without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiKeyBody {
    id: String,
    name: String,
    /// join, read, admin.
    scopes: Vec<String>,
    /// Unix seconds.
    made_at: u64,
}

/// Every API key.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiKeysBody {
    api_keys: Vec<ApiKeyBody>,
}

/// A key that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApiKey {
    /// For people.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    #[schema(min_items = 1)]
    scopes: Vec<ScopeName>,
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeName {
    /// To let anybody into rooms.
    Join,
    /// To see rooms, relays and the mesh.
    Read,
    /// For everything.
    Admin,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeApiKey {
    /// Shown now and never again.
    key: String,
    #[serde(flatten)]
    body: ApiKeyBody,
}

/// RFC 7517.
#[derive(Serialize, ToSchema)]
pub(super) struct Jwks {
    keys: Vec<Jwk>,
}

/// RFC 8037.
#[derive(Serialize, ToSchema)]
pub(super) struct Jwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    kid: String,
    x: String,
}

/// API keys
#[utoipa::path(get, path = "/v1/api-keys", tag = "keys", responses((status = 200, body = ApiKeysBody)))]
pub(super) async fn list(State(http): State<Http>, caller: Caller) -> Result<Json<ApiKeysBody>, Problem> {
    caller.may(Scope::Admin)?;
    let rows = http.plane.store.api_keys().await?;
    let api_keys = rows.iter().map(ApiKeyBody::of).collect();
    Ok(Json(ApiKeysBody { api_keys }))
}

/// Makes an API key; it is shown in the answer, and never again
#[utoipa::path(post, path = "/v1/api-keys", tag = "keys", request_body = NewApiKey,
    responses((status = 201, body = MadeApiKey)))]
pub(super) async fn create(
    State(http): State<Http>,
    caller: Caller,
    body: Result<Body<NewApiKey>, Problem>,
) -> Result<Response, Problem> {
    caller.may(Scope::Admin)?;
    let NewApiKey { name, scopes } = body?.value;
    if !(1..=64).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(Problem::body_invalid("name has 1 to 64 bytes"));
    }
    if scopes.is_empty() {
        return Err(Problem::body_invalid("scopes are some of join, read, admin"));
    }
    let scopes: Scopes = scopes.into_iter().map(Scope::from).collect();
    let (key, row) = http.keys.add(&http.plane.store, &name, scopes).await?;
    let body = ApiKeyBody::of(&row);
    Ok((StatusCode::CREATED, Json(MadeApiKey { key, body })).into_response())
}

/// Forgets an API key; other replicas do within seconds
#[utoipa::path(delete, path = "/v1/api-keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The part of the key that is no secret")),
    responses((status = 204, description = "It is no key any more")))]
pub(super) async fn delete(
    State(http): State<Http>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Problem> {
    caller.may(Scope::Admin)?;
    if http.keys.delete(&http.plane.store, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::api_key_unknown("see /v1/api-keys for those that are"))
    }
}

/// What relays are started with
#[derive(Serialize, ToSchema)]
pub(super) struct JoinTokenBody {
    /// `wzp1.AUTHORITY.SECRET`
    join_token: String,
}

/// The join token, with which relays enter the cluster
#[utoipa::path(get, path = "/v1/join-token", tag = "keys", responses((status = 200, body = JoinTokenBody)))]
pub(super) async fn join_token(
    State(http): State<Http>,
    caller: Caller,
) -> Result<Json<JoinTokenBody>, Problem> {
    caller.may(Scope::Admin)?;
    let join_token = http.plane.authority.join_token();
    Ok(Json(JoinTokenBody { join_token }))
}

/// New keys for certificates and grants
///
/// They are believed at once and sign half a minute later; those of before are believed until the next rotation.
#[utoipa::path(post, path = "/v1/keys:rotate", tag = "keys", responses((status = 200, body = Jwks)))]
pub(super) async fn rotate(State(http): State<Http>, caller: Caller) -> Result<Json<Jwks>, Problem> {
    caller.may(Scope::Admin)?;
    let rotated = http
        .plane
        .authority
        .rotate(&http.plane.store, clock::unix_seconds())
        .await;
    rotated.map_err(|error| Problem::database_unavailable(error.to_string()))?;
    http.plane.tell_keys();
    Ok(Json(Jwks::of(&http)))
}

/// The public halves of the keys that sign grants and the relay list
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "keys", security(()), responses((status = 200, body = Jwks)))]
pub(super) async fn jwks(State(http): State<Http>) -> Json<Jwks> {
    Json(Jwks::of(&http))
}

impl Jwks {
    fn of(http: &Http) -> Self {
        let keys = http.plane.authority.trusted().grant_keys;
        Self {
            keys: keys.iter().map(Jwk::of).collect(),
        }
    }
}

impl Jwk {
    fn of(key: &GrantPublicKey) -> Self {
        Self {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            purpose: "sig",
            kid: key.id().to_string(),
            x: URL_SAFE_NO_PAD.encode(key.to_bytes()),
        }
    }
}

impl ApiKeyBody {
    fn of(row: &ApiKeyRow) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            scopes: row.scopes.iter().map(|scope| name(&scope)).collect(),
            made_at: row.made_at,
        }
    }
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Join => Self::Join,
            ScopeName::Read => Self::Read,
            ScopeName::Admin => Self::Admin,
        }
    }
}
