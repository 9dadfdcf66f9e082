//! HTTP to the control plane: bounded in time and size, TLS by the certificates that the system trusts.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::ControlError;

/// One request and its answer.
const PATIENCE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_millis(1_500);
/// The list of a thousand relays, several times over.
const MOST_BYTES: usize = 4 << 20;
/// What is said of an answer that is no problem document.
const NO_CODE: &str = "unknown";

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

/// An error as the control plane says it (RFC 9457).
#[derive(serde::Deserialize, Default)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    code: String,
}

impl Http {
    /// `url` is where `/v1` is to be found.
    pub(super) fn new(url: &str) -> Result<Self, ControlError> {
        let wrong = |why| ControlError::Url {
            url: url.to_owned(),
            why,
        };
        let base = url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| wrong("it can't be read"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it should begin with https:// or http://")),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("there is no host in it"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(https)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base,
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.ask(Method::GET, path, None, Bytes::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        bearer: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, ControlError> {
        let body =
            serde_json::to_vec(body).map_err(|_| ControlError::Protocol("our request can't be written"))?;
        self.ask(Method::POST, path, bearer, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Bytes,
    ) -> Result<T, ControlError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(ACCEPT, "application/json, application/problem+json")
            .header(USER_AGENT, concat!("wzp-sdk/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| ControlError::Protocol("our request can't be written"))?;
        let (status, bytes) = tokio::time::timeout(PATIENCE, self.exchange(request))
            .await
            .map_err(|_| self.unreachable("it did not answer in time".into()))??;
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| ControlError::Protocol("its answer can't be read"))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ControlError> {
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| self.unreachable(Box::new(error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect();
        let body = body.await.map_err(|error| self.unreachable(error))?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> ControlError {
        ControlError::Unreachable {
            url: self.base.clone(),
            source,
        }
    }
}

fn refused(status: StatusCode, body: &[u8]) -> ControlError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let said = if problem.detail.is_empty() {
        problem.title
    } else {
        problem.detail
    };
    let text = match said.as_str() {
        "" => status.to_string(),
        said => wzp_sdk_core::call::readable(said),
    };
    ControlError::Refused {
        status: status.as_u16(),
        code: match problem.code.as_str() {
            "" => NO_CODE.to_owned(),
            code => wzp_sdk_core::call::readable(code),
        },
        text,
    }
}

/// Without https nobody needs certificates, which a small container may not even have.
fn tls(https: bool) -> Result<ClientConfig, ControlError> {
    let mut roots = RootCertStore::empty();
    if https {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(ControlError::NoRoots);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ControlError::Tls(Box::new(error)))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
