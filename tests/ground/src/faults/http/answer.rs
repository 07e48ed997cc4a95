//! What a rule does with a request instead of passing it through.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::json;

use super::Body;
use super::record::Record;

/// Run at the moment that a rule names; the connection waits for it. It runs to its end even if the client goes away.
pub(in crate::faults) type Hook = Arc<dyn Fn(Record) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a client that meets the rule gets.
#[derive(Clone)]
pub struct Answer(pub(super) Action);

#[derive(Clone)]
pub(super) enum Action {
    Reply(Reply),
    NotHttp,
    Hang,
    Delay(Duration),
    DropBefore(Option<Hook>),
    DropAfter(Option<Hook>),
    PauseBefore(Hook),
    PauseAfter(Hook),
}

/// An answer of the proxy's own; the request isn't forwarded.
#[derive(Clone)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Fixed(Bytes),
    /// So many MiB, in pieces, without a Content-Length.
    Huge(usize),
    /// These, and then the end of the connection instead of that of the body.
    Cut(Bytes),
    /// Redirect: the base to which the request's path and query are added.
    Elsewhere(String),
}

impl Answer {
    /// This status with an empty body, without forwarding. An impossible status becomes 500.
    pub fn status(status: u16) -> Self {
        Self::body(status, "text/plain", Bytes::new())
    }

    /// This status and body, without forwarding.
    pub fn body(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self(Action::Reply(Reply {
            status,
            headers,
            content: Content::Fixed(body.into()),
        }))
    }

    /// This status with a JSON body, without forwarding.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::body(status, "application/json", body.to_string())
    }

    /// An error as the API server words it: a `Status` object with this reason, such as `Forbidden`.
    pub fn kubernetes_error(status: u16, reason: &str, message: &str) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": status});
        Self::json(status, &body)
    }

    /// An error as Vault words it: `{"errors": [...]}`.
    pub fn vault_error(status: u16, errors: &[&str]) -> Self {
        Self::json(status, &json!({ "errors": errors }))
    }

    /// 307 to the same path and query below `base`, such as `https://127.0.0.1:8200`.
    pub fn redirect(base: impl Into<String>) -> Self {
        let content = Content::Elsewhere(base.into().trim_end_matches('/').to_owned());
        Self(Action::Reply(Reply {
            status: StatusCode::TEMPORARY_REDIRECT,
            headers: HeaderMap::new(),
            content,
        }))
    }

    /// 200 with JSON as content type and a body that is none.
    pub fn garbage() -> Self {
        Self::body(
            200,
            "application/json",
            &b"{\"data\": \xff\xfe\x00 <html>"[..],
        )
    }

    /// 200 with JSON as content type, of whose body only this comes before the connection ends.
    pub fn cut(body: impl Into<Bytes>) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self(Action::Reply(Reply {
            status: StatusCode::OK,
            headers,
            content: Content::Cut(body.into()),
        }))
    }

    /// Bytes that are no HTTP answer at all, then the end of the connection.
    pub fn not_http() -> Self {
        Self(Action::NotHttp)
    }

    /// 200 with one JSON object of `mebibytes` MiB, sent piece by piece without a length, so that only reading tells how
    /// long it is. [`Record::received`] then says how much the client took (and what the socket's buffers hold).
    pub fn huge(mebibytes: usize) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self(Action::Reply(Reply {
            status: StatusCode::OK,
            headers,
            content: Content::Huge(mebibytes),
        }))
    }

    /// Takes the request and never answers it; the connection stays open.
    pub fn hang() -> Self {
        Self(Action::Hang)
    }

    /// Waits, then forwards as usual.
    pub fn delay(delay: Duration) -> Self {
        Self(Action::Delay(delay))
    }

    /// Resets the connection without forwarding: the request had no effect.
    pub fn drop_before() -> Self {
        Self(Action::DropBefore(None))
    }

    /// Forwards, reads the whole answer (of a watch its head), then resets the connection: the request took effect, and
    /// the client can't know (a lost answer).
    pub fn drop_after() -> Self {
        Self(Action::DropAfter(None))
    }

    pub(in crate::faults) fn run_and_drop_before(hook: Hook) -> Self {
        Self(Action::DropBefore(Some(hook)))
    }

    pub(in crate::faults) fn run_and_drop_after(hook: Hook) -> Self {
        Self(Action::DropAfter(Some(hook)))
    }

    pub(in crate::faults) fn run_and_forward(hook: Hook) -> Self {
        Self(Action::PauseBefore(hook))
    }

    pub(in crate::faults) fn forward_and_run(hook: Hook) -> Self {
        Self(Action::PauseAfter(hook))
    }

    /// Adds a header to an answer of the proxy's own, such as `Retry-After: 2`. On other answers, and with a name or a
    /// value that HTTP doesn't allow, it changes nothing.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Action::Reply(reply), Ok(name), Ok(value)) = (
            &mut self.0,
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            reply.headers.append(name, value);
        }
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Action::Reply(reply) => return write!(f, "answer {}", reply.status),
            Action::NotHttp => "answer something that isn't HTTP",
            Action::Hang => "never answer",
            Action::Delay(delay) => return write!(f, "wait {delay:?}"),
            Action::DropBefore(_) => "drop before forwarding",
            Action::DropAfter(_) => "drop after the upstream answered",
            Action::PauseBefore(_) => "hold back before forwarding",
            Action::PauseAfter(_) => "hold the upstream's answer back",
        })
    }
}

impl Reply {
    pub(super) fn response(self, record: &Record) -> Response<Body> {
        let mut headers = self.headers;
        let body = match self.content {
            Content::Fixed(bytes) => whole(bytes),
            Content::Huge(mebibytes) => huge(mebibytes),
            Content::Cut(begin) => cut(begin),
            Content::Elsewhere(base) => {
                let query = if record.query.is_empty() {
                    String::new()
                } else {
                    format!("?{}", record.query)
                };
                if let Ok(location) =
                    HeaderValue::from_str(&format!("{base}{}{query}", record.path))
                {
                    headers.insert(LOCATION, location);
                }
                whole(Bytes::new())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

/// A body that is there at once.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn cut(begin: Bytes) -> Body {
    let end = async {
        // What came before is sent once nothing more is there.
        tokio::task::yield_now().await;
        Err("cut by a rule".into())
    };
    let frames = futures::stream::iter([Ok(Frame::data(begin))]);
    StreamBody::new(frames.chain(futures::stream::once(end))).boxed_unsync()
}

fn huge(mebibytes: usize) -> Body {
    const PIECE: usize = 64 * 1024;
    let filling = Bytes::from(vec![b'a'; PIECE]);
    let pieces = std::iter::once(Bytes::from_static(b"{\"data\":{\"data\":{\"key\":\""))
        .chain(std::iter::repeat_n(
            filling,
            mebibytes * 1024 * 1024 / PIECE,
        ))
        .chain(std::iter::once(Bytes::from_static(b"\"}}}")));
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}
