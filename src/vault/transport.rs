//! Sends one request of rustify over a connection's channel and reads the
//! answer up to a limit. What rustify would lose (headers of errors, the cause
//! of a broken connection, redirects) comes back as a [`Failure`].

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use reqwest::Url;
use rustify::errors::ClientError;

use super::channel::{Channel, ca_in_words};
use super::resolver::AddressRefused;

/// The longest answer that is read, in bytes.
pub(super) const ANSWER_LIMIT: usize = 4 * 1024 * 1024;
/// A longer `Retry-After` is cut to this: a Vault must not be able to put its
/// clients off for ever.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// Why there is no 2xx answer.
pub(super) enum Failure {
    /// The guardrails refuse the address; nothing was sent.
    Refused(String),
    /// No connection, none that TLS accepts, or one that broke.
    Unreachable(String),
    /// The answer is longer than [`ANSWER_LIMIT`].
    TooLong,
    /// A redirect, and where to if its `Location` is a URL.
    Redirect(StatusCode, Option<Url>),
    /// Any other status.
    Status(Refusal),
    /// The request could not be built.
    Unbuildable(String),
}

/// An answer with an error status.
pub(super) struct Refusal {
    /// The status.
    pub(super) status: StatusCode,
    /// `Retry-After` in seconds; dates are not read.
    pub(super) retry_after: Option<Duration>,
    /// The body.
    pub(super) body: Vec<u8>,
}

/// Names the kind only: bodies must not reach a log.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Refused(_) => "address refused",
            Failure::Unreachable(_) => "unreachable",
            Failure::TooLong => "answer too long",
            Failure::Redirect(..) => "redirect",
            Failure::Status(_) => "error status",
            Failure::Unbuildable(_) => "request not built",
        })
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}

/// One hop of one request.
pub(super) struct Transport<'a> {
    /// Over which client.
    pub(super) channel: &'a Channel,
    /// Where a redirect sent it instead of the request's own path.
    pub(super) redirected_to: Option<Url>,
}

type Sending<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, ClientError>> + Send + 'a>>;

impl rustify::client::Client for Transport<'_> {
    // As async_trait writes it.
    fn send<'life0, 'async_trait>(&'life0 self, request: Request<Vec<u8>>) -> Sending<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.exchange(request)
                .await
                .map_err(|failure| ClientError::GenericError {
                    source: failure.into(),
                })
        })
    }

    /// Only the path of what rustify builds on this base is used: the channel
    /// knows the address.
    fn base(&self) -> &str {
        "https://vault.invalid"
    }
}

impl Transport<'_> {
    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        self.channel
            .check_literal()
            .map_err(|AddressRefused(why)| Failure::Refused(why))?;
        let (parts, body) = request.into_parts();
        let url = match &self.redirected_to {
            Some(url) => url.clone(),
            None => {
                let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
                self.channel.url(path).map_err(Failure::Unbuildable)?
            }
        };
        let (dialled, host) = self.channel.dialled(&url);
        let mut outgoing = reqwest::Request::new(parts.method, dialled);
        *outgoing.headers_mut() = parts.headers;
        if let Some(host) = host {
            outgoing.headers_mut().insert(HOST, host);
        }
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            outgoing.headers_mut().insert(CONTENT_TYPE, json);
            *outgoing.body_mut() = Some(body.into());
        }
        let answer = self.channel.http.execute(outgoing).await;
        let mut answer = answer.map_err(|e| self.broken(&e))?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        if status.is_redirection() {
            return Err(Failure::Redirect(status, location(&url, &headers)));
        }
        let body = self.read(&mut answer).await?;
        if status.is_success() {
            let mut response = Response::new(body);
            *response.status_mut() = status;
            return Ok(response);
        }
        Err(Failure::Status(Refusal {
            status,
            retry_after: retry_after(&headers),
            body,
        }))
    }

    async fn read(&self, answer: &mut reqwest::Response) -> Result<Vec<u8>, Failure> {
        let announced = answer.content_length().unwrap_or(0);
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        if announced > ANSWER_LIMIT {
            return Err(Failure::TooLong);
        }
        // At once as large as announced: growing would copy the secret about.
        let mut body = Vec::with_capacity(announced);
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broken(&e))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The transport's error in words for people.
    fn broken(&self, error: &reqwest::Error) -> Failure {
        let connection = &self.channel.connection;
        let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause);
            next = cause.source();
        }
        if let Some(refused) = causes
            .iter()
            .find_map(|e| e.downcast_ref::<AddressRefused>())
        {
            return Failure::Refused(refused.0.clone());
        }
        if let Some(tls) = causes.iter().find_map(|e| tls_error(*e)) {
            return Failure::Unreachable(tls_in_words(tls, &ca_in_words(connection)));
        }
        if error.is_timeout() {
            let what = if error.is_connect() {
                "connection"
            } else {
                "complete answer"
            };
            let within = connection.timeout.as_secs_f64();
            return unreachable(&format!("no {what} within the timeout of {within} s"));
        }
        // Without close_notify too, whose error is more about TLS than about Vault.
        if causes.iter().any(|e| ended(*e)) {
            return unreachable("the connection ended in the middle of an answer");
        }
        // The outer ones say only "error sending request".
        unreachable(&match causes.as_slice() {
            [.., before, last] => format!("{before}: {last}"),
            [last] => last.to_string(),
            [] => "the connection failed".to_owned(),
        })
    }
}

fn unreachable(what: &str) -> Failure {
    Failure::Unreachable(format!(
        "{what}; check the address, the network policies, and what answers there"
    ))
}

fn ended(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// rustls' own error, which I/O errors carry inside rather than as a source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    tls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn tls_in_words(error: &rustls::Error, ca: &str) -> String {
    use rustls::{CertificateError as Bad, Error::InvalidCertificate};
    match error {
        // A bad signature: by a CA of the same name, but with another key.
        InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => format!(
            "its TLS certificate is not signed by {ca}; give the connection the CA that signed it"
        ),
        InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => format!(
            "its TLS certificate, checked against {ca}, is for another name ({error}); set tlsServerName to a name in it"
        ),
        InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => format!(
            "its TLS certificate is not valid at this time ({error}); renew the certificate, or correct the clock"
        ),
        InvalidCertificate(_) => {
            format!("its TLS certificate, checked against {ca}, is not valid: {error}")
        }
        _ => format!("TLS failed: {error}"),
    }
}

fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    from.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = Duration::from_secs(seconds.parse().ok()?);
    Some(wait.min(RETRY_AFTER_LIMIT))
}
