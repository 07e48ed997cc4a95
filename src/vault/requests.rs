//! The requests as rustify endpoints: vaultrs' own where they fit, one of ours
//! for reads of any path; and the middleware that adds the headers.

use std::collections::BTreeMap;

use http::header::{HeaderName, HeaderValue};
use reqwest::Url;
use rustify::endpoint::{Endpoint, MiddleWare};
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde_json::{Map, Value};
use vaultrs::api::EndpointMiddleware;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;

use crate::policy::Read;
use crate::problem::{Problem, printable};

use super::channel::below;

/// The longest path or query, in bytes before encoding.
const PATH_LIMIT: usize = 4096;

/// A request of a path under `/v1/`: `GET`, or `PUT` where it has a body.
/// rustify encodes the path, segment by segment.
pub(super) struct Call {
    path: String,
    query: Vec<(String, String)>,
    body: Option<Map<String, Value>>,
}

impl Call {
    /// A read of a path that [`check_path`] accepts.
    pub(super) fn get(path: &str, query: &[(String, String)]) -> Self {
        Self {
            path: path.to_owned(),
            query: query.to_vec(),
            body: None,
        }
    }

    /// The request of a read; its path as above.
    pub(super) fn of(read: &Read) -> Self {
        Self {
            body: read.body.clone(),
            ..Self::get(&read.path, &read.query)
        }
    }

    /// A write.
    pub(super) fn put(path: &str, body: &Map<String, Value>) -> Self {
        Self {
            body: Some(body.clone()),
            ..Self::get(path, &[])
        }
    }
}

impl Endpoint for Call {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        match self.body {
            Some(_) => RequestMethod::PUT,
            None => RequestMethod::GET,
        }
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(body) = &self.body else {
            return Ok(None);
        };
        let unusable = |e: serde_json::Error| ClientError::DataParseError { source: e.into() };
        serde_json::to_vec(body).map(Some).map_err(unusable)
    }

    fn query(&self) -> Result<Option<String>, ClientError> {
        if self.query.is_empty() {
            return Ok(None);
        }
        rustify::http::build_query(&self.query).map(Some)
    }
}

/// A login by the kubernetes method with a VaultAuth's `params`.
pub(super) struct KubernetesLogin {
    /// What vaultrs sends.
    pub(super) inner: LoginWithKubernetesRequest,
    /// Added to the body where `inner` has no such field.
    pub(super) params: BTreeMap<String, String>,
}

impl Endpoint for KubernetesLogin {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.inner.path()
    }

    fn method(&self) -> RequestMethod {
        self.inner.method()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let own = self.inner.body()?;
        if self.params.is_empty() {
            return Ok(own);
        }
        let unusable = |e: serde_json::Error| ClientError::DataParseError { source: e.into() };
        let mut body: Map<String, Value> =
            serde_json::from_slice(&own.unwrap_or_default()).map_err(unusable)?;
        for (name, value) in &self.params {
            body.entry(name.as_str())
                .or_insert_with(|| Value::String(value.clone()));
        }
        serde_json::to_vec(&body).map(Some).map_err(unusable)
    }
}

/// Path and query of a read as the request line has them, for tests of what
/// goes out: through the same encoders, without a connection.
///
/// # Errors
/// [`Problem::InvalidSpec`] for a path that is not sent.
pub fn target(read: &Read) -> Result<String, Problem> {
    const ADDRESS: &str = "https://vault.invalid";
    check_path(read.fields.path, &read.path)?;
    let internal = |why: String| Problem::Internal { why };
    let dressed = Dressed::new(None, None, &[])?;
    let request = Call::of(read)
        .with_middleware(&dressed)
        .request(ADDRESS)
        .map_err(|e| internal(e.to_string()))?;
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let address = Url::parse(ADDRESS).map_err(|e| internal(e.to_string()))?;
    let url = below(&address, path).map_err(internal)?;
    Ok(url.as_str().trim_start_matches(ADDRESS).to_owned())
}

/// vaultrs' middleware, and after it the headers of connection and login: they
/// can add to its headers, not replace them.
pub(super) struct Dressed {
    /// API version, token, Vault namespace.
    pub(super) vault: EndpointMiddleware,
    /// Further headers; the first of a name wins.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Dressed {
    /// The middleware for one request.
    ///
    /// `header_sets` are of one resource each, the more particular one first.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`] for what no header can carry. vaultrs would
    /// panic on it.
    pub(super) fn new(
        token: Option<&str>,
        vault_namespace: Option<&str>,
        header_sets: &[&BTreeMap<String, String>],
    ) -> Result<Self, Problem> {
        let invalid = |field: &str, why: &str| Problem::InvalidSpec {
            field: field.to_owned(),
            why: why.to_owned(),
        };
        let vault_namespace = vault_namespace.filter(|ns| !ns.is_empty());
        if vault_namespace.is_some_and(|ns| HeaderValue::from_str(ns).is_err()) {
            return Err(invalid(
                "spec.namespace",
                "the Vault namespace holds control characters",
            ));
        }
        if token.is_some_and(|t| HeaderValue::from_str(t).is_err()) {
            return Err(Problem::VaultAnswerUnusable {
                path: "the login".to_owned(),
                why: "the token holds characters that no header can carry".to_owned(),
                refusal: false,
            });
        }
        let mut headers = Vec::new();
        for (name, value) in header_sets.iter().copied().flatten() {
            let field = format!("spec.headers[{}]", printable(name, 100));
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid(&field, "this is no name of a header"))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| invalid(&field, "the value holds control characters"))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Self {
            vault: EndpointMiddleware {
                token: token.unwrap_or_default().to_owned(),
                version: "v1".to_owned(),
                wrap: None,
                namespace: vault_namespace.map(str::to_owned),
            },
            headers,
        })
    }
}

impl MiddleWare for Dressed {
    fn request<E: Endpoint>(
        &self,
        endpoint: &E,
        request: &mut http::Request<Vec<u8>>,
    ) -> Result<(), ClientError> {
        self.vault.request(endpoint, request)?;
        let headers = request.headers_mut();
        if let Some(token) = headers.get_mut("X-Vault-Token") {
            token.set_sensitive(true);
        }
        for (name, value) in &self.headers {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }

    fn response<E: Endpoint>(
        &self,
        _endpoint: &E,
        _response: &mut http::Response<Vec<u8>>,
    ) -> Result<(), ClientError> {
        Ok(())
    }
}

/// Refuses paths that would arrive as another one: rustify drops `.` and `..`,
/// Vault joins double slashes.
///
/// # Errors
/// [`Problem::InvalidSpec`].
pub(super) fn check_path(field: &str, path: &str) -> Result<(), Problem> {
    let invalid = |why: String| Problem::InvalidSpec {
        field: field.to_owned(),
        why,
    };
    if path.len() > PATH_LIMIT {
        return Err(invalid(format!("longer than {PATH_LIMIT} bytes")));
    }
    if path.chars().any(char::is_control) {
        return Err(invalid("the path holds control characters".to_owned()));
    }
    match path.split('/').find(|s| matches!(*s, "" | "." | "..")) {
        Some(segment) => Err(invalid(format!(
            "{}: the segment \"{segment}\" cannot be part of a path in Vault",
            printable(path, 200)
        ))),
        None => Ok(()),
    }
}
