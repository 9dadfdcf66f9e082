//! What the API is, made from its code.

use axum::{extract::State, http::header, response::IntoResponse};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Content, Ref, ResponseBuilder, ServerBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{Http, health, join, keys, list, mesh, policies, presence, problem, relays, rooms, watch};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "WZP control plane",
        description = "Places rooms on relays and tells clients where they are. Every error is an \
                       `application/problem+json` (RFC 9457) with a stable `code`."
    ),
    paths(
        list::relays, relays::relay, relays::drain, relays::undrain,
        rooms::rooms, rooms::room, rooms::delete, rooms::explain, join::join,
        mesh::mesh, presence::presence, keys::list, keys::create, keys::delete, keys::rotate, keys::jwks, keys::join_token,
        relays::fleet, watch::watch, policies::list, policies::policy, policies::set, policies::delete,
        health::prometheus_sd, openapi
    ),
    components(schemas(problem::ProblemBody)),
    security(("api_key" = [])),
    modifiers(&Rest)
)]
struct Api;

/// What every operation has.
struct Rest;

impl Modify for Rest {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key"))
            .build();
        if let Some(components) = &mut api.components {
            components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
        }
        let problem = ResponseBuilder::new()
            .description("What went wrong")
            .content(
                "application/problem+json",
                Content::new(Some(Ref::from_schema_name("ProblemBody"))),
            )
            .build();
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.delete, &mut item.put];
            for operation in operations.into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                responses.insert("default".to_owned(), problem.clone().into());
            }
        }
    }
}

/// The document, made once.
pub(super) fn document(public_url: &str) -> String {
    let mut api = Api::openapi();
    api.servers = Some(vec![ServerBuilder::new().url(public_url).build()]);
    // A plain tree of strings always serializes.
    api.to_json().unwrap_or_default()
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(super) async fn openapi(State(http): State<Http>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], http.openapi.clone())
}
