//! `GET /v1/relays`: signed, so that a copy from any cache can be trusted; made once for each list, and packed once.
#![expect(unused_qualifications, reason = "what utoipa makes of its attributes")]

use std::{io::Write, sync::Arc};

use arc_swap::ArcSwapOption;
use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use wzp_control_core::{Address, list::Band, registry::Offer};
use wzp_identity::sign_detached;

use super::{Http, body::Asked, problem::Problem};
use crate::{
    authority::hex,
    clock,
    plane::{List, Listed},
};

/// What clients verify the signature as.
const KIND: &str = "wzp-relays";
const SIGNATURE: HeaderName = HeaderName::from_static("x-jws-signature");
const CACHE_CONTROL: HeaderValue =
    HeaderValue::from_static("public, max-age=5, stale-while-revalidate=30, stale-if-error=86400");
/// After which nobody should go by a list any more.
const VALID: u64 = 86_400;
const MAX_PAGE: usize = 200;

/// The list that everybody asks for, as it was last made.
#[derive(Default)]
pub(super) struct Cache(ArcSwapOption<(Arc<List>, Rendered)>);

/// Ready to be sent.
#[derive(Clone)]
struct Rendered {
    etag: String,
    body: Bytes,
    gzip: Bytes,
    signature: HeaderValue,
}

/// Which relays.
#[derive(Debug, Default, Deserialize, IntoParams, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Of this region only.
    region: Option<String>,
    /// Of this state only.
    state: Option<StateName>,
    /// With an address of this family only.
    family: Option<FamilyName>,
    /// Relays on a page.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How clients should take a relay.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateName {
    /// As they like.
    Active,
    /// If others are worse.
    Avoid,
    /// If there is no other.
    Draining,
}

/// Of an address.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ToSchema)]
pub(super) enum FamilyName {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// Relays that clients may use.
#[derive(Serialize, ToSchema)]
pub(super) struct RelayList {
    /// Rises with every change.
    generation: u64,
    /// Unix seconds.
    issued_at: u64,
    /// Unix seconds; nobody should go by the list after that.
    expires_at: u64,
    relays: Vec<RelayBody>,
    /// For the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RelayBody {
    id: String,
    region: String,
    zone: String,
    state: StateName,
    addresses: Vec<AddressBody>,
    /// SHA-256 of each certificate that it may show, in hex.
    certificates: Vec<String>,
    /// How much it can carry beside others, 1 to 1,000.
    weight: u32,
    /// How much it has to do.
    load: LoadName,
}

/// Of all that a relay can carry.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoadName {
    /// Below half.
    Low,
    /// Between.
    Mid,
    /// 80 % and more.
    High,
}

/// Where a relay can be reached over UDP.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AddressBody {
    ip: String,
    port: u16,
    family: FamilyName,
    /// How it became known: explicit, service, node, observed or bound.
    source: String,
}

/// The relays that clients may use
#[utoipa::path(get, path = "/v1/relays", tag = "relays", params(Filter), security(()),
    responses(
        (status = 200, description = "Signed over the body before any Content-Encoding, by a key of /.well-known/jwks.json",
         body = RelayList, headers(("etag"), ("cache-control"), ("x-jws-signature"))),
        (status = 304, description = "As in If-None-Match")
    ))]
pub(super) async fn relays(
    State(http): State<Http>,
    headers: HeaderMap,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    let list = http.plane.list();
    let rendered = if filter == Filter::default() {
        http.cache.get(&http, &list)?
    } else {
        render(&http, &list, &filter)?
    };
    let gzip = accepts_gzip(&headers);
    // Another encoding is another representation, so it has a tag of its own.
    let etag = format!("\"{}{}\"", rendered.etag, if gzip { "-gzip" } else { "" });
    let known = is_known(&headers, &etag);
    http.plane.metrics.listed(if known { "hit_304" } else { "full" });
    let etag = HeaderValue::try_from(etag).map_err(|error| Problem::internal(error.to_string()))?;
    let common = [
        (header::ETAG, etag),
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
        (SIGNATURE, rendered.signature),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok(if gzip {
        let encoding = [(header::CONTENT_ENCODING, "gzip")];
        (common, kind, encoding, rendered.gzip).into_response()
    } else {
        (common, kind, rendered.body).into_response()
    })
}

impl Cache {
    fn get(&self, http: &Http, list: &Arc<List>) -> Result<Rendered, Problem> {
        if let Some(kept) = self.0.load_full()
            && Arc::ptr_eq(&kept.0, list)
        {
            return Ok(kept.1.clone());
        }
        let rendered = render(http, list, &Filter::default())?;
        self.0.store(Some(Arc::new((Arc::clone(list), rendered.clone()))));
        Ok(rendered)
    }
}

fn render(http: &Http, list: &List, filter: &Filter) -> Result<Rendered, Problem> {
    let (relays, next_cursor) = filter.page(list)?;
    let document = RelayList {
        generation: list.generation,
        issued_at: list.issued_at,
        expires_at: list.issued_at + VALID,
        relays: relays.into_iter().map(RelayBody::of).collect(),
        next_cursor,
    };
    let internal = |error: &dyn std::error::Error| Problem::internal(error.to_string());
    let body = serde_json::to_vec(&document).map_err(|error| internal(&error))?;
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packer.write_all(&body).and_then(|()| packer.finish());
    let key = http.plane.authority.grant_key(clock::unix_seconds());
    let key = key.ok_or_else(|| Problem::internal("there is no key"))?;
    let signature = sign_detached(&key, KIND, &body);
    let hash = Sha256::digest(&body);
    Ok(Rendered {
        etag: format!(
            "g{}-{}",
            list.generation,
            hex(hash.first_chunk::<8>().unwrap_or(&[0; 8]))
        ),
        gzip: packed.map_err(|error| internal(&error))?.into(),
        body: body.into(),
        signature: HeaderValue::try_from(signature).map_err(|error| internal(&error))?,
    })
}

impl Filter {
    fn page<'a>(&self, list: &'a List) -> Result<(Vec<&'a Listed>, Option<String>), Problem> {
        let Self {
            region,
            state,
            family,
            limit,
            cursor,
        } = self;
        if limit.is_some_and(|limit| !(1..=MAX_PAGE).contains(&limit)) {
            return Err(Problem::query_invalid("limit is 1 to 200"));
        }
        let after = cursor
            .as_deref()
            .map(decode_cursor)
            .transpose()?
            .unwrap_or_default();
        let wanted = |relay: &&Listed| {
            region.as_ref().is_none_or(|region| **region == *relay.region)
                && state.is_none_or(|state| state == StateName::of(relay.offer))
                && family.is_none_or(|family| relay.addresses.iter().any(|at| FamilyName::of(at) == family))
                && relay.relay.as_str() > after.as_str()
        };
        let mut relays: Vec<_> = list.relays.iter().filter(wanted).collect();
        relays.sort_by(|a, b| a.relay.cmp(&b.relay));
        // Without a limit all come: a client that is told of few relays finds a bad one.
        let limit = limit.unwrap_or(usize::MAX);
        let next = relays.get(limit).and_then(|_| relays.get(limit - 1));
        let next = next.map(|last| encode_cursor(last.relay.as_str()));
        relays.truncate(limit);
        Ok((relays, next))
    }
}

/// Nobody should make one up: what it means may change.
pub(super) fn encode_cursor(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{after}"))
}

pub(super) fn decode_cursor(cursor: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let after = text.as_deref().and_then(|text| text.strip_prefix("1:"));
    after
        .map(str::to_owned)
        .ok_or_else(|| Problem::cursor_invalid("begin without one"))
}

impl RelayBody {
    fn of(relay: &Listed) -> Self {
        Self {
            id: relay.relay.to_string(),
            region: relay.region.to_string(),
            zone: relay.zone.to_string(),
            state: StateName::of(relay.offer),
            addresses: addresses(&relay.addresses),
            certificates: relay.certificates.iter().map(|hash| hex(hash)).collect(),
            weight: relay.weight,
            load: match relay.band {
                Band::Low => LoadName::Low,
                Band::Mid => LoadName::Mid,
                Band::High => LoadName::High,
            },
        }
    }
}

impl StateName {
    pub(super) fn of(offer: Offer) -> Self {
        match offer {
            Offer::Active => Self::Active,
            Offer::Avoid => Self::Avoid,
            Offer::Draining => Self::Draining,
        }
    }
}

impl FamilyName {
    fn of(address: &Address) -> Self {
        if address.socket.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

pub(super) fn addresses(addresses: &[Address]) -> Vec<AddressBody> {
    let body = |address: &Address| AddressBody {
        ip: address.socket.ip().to_string(),
        port: address.socket.port(),
        family: FamilyName::of(address),
        source: name(&address.source),
    };
    addresses.iter().map(body).collect()
}

/// The name that a plain enum of the core has in JSON.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut accepted = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    accepted.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !["q=0", "q=0.0"].contains(&quality.trim())
    })
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    known.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}
