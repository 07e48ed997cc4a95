//! The connections of an HTTP proxy: accept, decide by rule, forward.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1 as server;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{client, server as tls_server};

use super::answer::{Action, Hook, whole};
use super::record::{Outcome, Record};
use super::tap::{Side, Tap};
use super::{Answer, Body, BoxError, Shared, Upstream};

/// What a client that expects HTTP can make nothing of.
const NOT_HTTP: &[u8] = b"\x00\x15\xff this is no HTTP answer\n";

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    shared.log.ring();
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = serve(stream, shared).await {
                            tracing::debug!(error = format!("{error:#}"), "a connection of the HTTP proxy ended early");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "the HTTP proxy could not accept a connection"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A byte stream with a TCP connection at its bottom.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tls_server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Stream for client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// How a connection ends once its service refused to answer.
#[derive(Clone, Copy)]
enum Ending {
    Reset,
    NotHttp,
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &shared.acceptor {
        Some(acceptor) => Box::new(
            acceptor
                .accept(stream)
                .await
                .context("the TLS handshake with the client failed")?,
        ),
        None => Box::new(stream),
    };
    let line = Arc::new(Line {
        shared,
        link: tokio::sync::Mutex::default(),
        ending: Mutex::default(),
    });
    let mut connection =
        server::Builder::new().serve_connection(TokioIo::new(stream), Exchange(line.clone()));
    let served = (&mut connection).await;
    let ending = *line.ending.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stream = connection.into_parts().io.into_inner();
    match ending {
        Some(Ending::NotHttp) => {
            stream.write_all(NOT_HTTP).await?;
            stream.shutdown().await?;
        }
        Some(Ending::Reset) => stream.tcp().set_zero_linger()?,
        None => served.context("HTTP with the client")?,
    }
    Ok(())
}

/// One client connection and the upstream connection that belongs to it.
struct Line {
    shared: Arc<Shared>,
    link: tokio::sync::Mutex<Option<Link>>,
    ending: Mutex<Option<Ending>>,
}

/// An open upstream connection; its driver ends with it.
struct Link {
    send: SendRequest<Body>,
    _driver: JoinSet<()>,
}

/// hyper's view of a [`Line`].
struct Exchange(Arc<Line>);

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let line = self.0.clone();
        Box::pin(async move { line.answer(request).await })
    }
}

/// Notes a request as broken if its handling is dropped halfway, for the client went away.
struct Unanswered<'a>(Option<&'a Line>, usize);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.shared.log.end(self.1, Outcome::Broken);
        }
    }
}

impl Line {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let record = self.shared.log.open(&head);
        let rule = self.shared.rules.pick(&record);
        self.shared.log.ring();
        let mut unanswered = Unanswered(Some(self), record.index);
        let body = self.tap(
            body.map_err(BoxError::from).boxed_unsync(),
            Side::Request,
            &record,
        );
        let response = self
            .react(rule, Request::from_parts(head, body), &record)
            .await?;

        unanswered.0 = None;
        let (head, body) = response.into_parts();
        self.shared
            .log
            .change(record.index, |record| record.status = Some(head.status));
        Ok(Response::from_parts(
            head,
            self.tap(body, Side::Response, &record),
        ))
    }

    fn tap(&self, body: Body, side: Side, record: &Record) -> Body {
        Tap::new(
            body,
            side,
            self.shared.log.clone(),
            record.index,
            self.shared.capture,
        )
        .boxed_unsync()
    }

    async fn react(
        &self,
        rule: Option<Answer>,
        request: Request<Body>,
        record: &Record,
    ) -> Result<Response<Body>, BoxError> {
        match rule.map(|answer| answer.0) {
            None => self.forward(request, record).await,
            Some(Action::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.forward(request, record).await
            }
            Some(Action::PauseBefore(hook)) => {
                hook(record.clone()).await;
                self.forward(request, record).await
            }
            Some(Action::PauseAfter(hook)) => {
                let response = self.forward(request, record).await?;
                hook(record.clone()).await;
                Ok(response)
            }
            Some(Action::Reply(reply)) => {
                drain(request.into_body()).await?;
                Ok(reply.response(record))
            }
            Some(Action::Hang) => {
                drain(request.into_body()).await?;
                std::future::pending().await
            }
            Some(Action::NotHttp) => {
                drain(request.into_body()).await?;
                Err(self.end(Ending::NotHttp, record))
            }
            Some(Action::DropBefore(hook)) => {
                drain(request.into_body()).await?;
                self.drop_at(hook, record).await
            }
            Some(Action::DropAfter(hook)) => {
                let response = self.forward(request, record).await?;
                let is_watch =
                    record.query.contains("watch=true") || record.query.contains("watch=1");
                if !is_watch {
                    drain(response.into_body()).await?;
                }
                self.drop_at(hook, record).await
            }
        }
    }

    async fn drop_at(
        &self,
        hook: Option<Hook>,
        record: &Record,
    ) -> Result<Response<Body>, BoxError> {
        let error = self.end(Ending::Reset, record);
        if let Some(hook) = hook {
            let dropped = self.shared.log.get(record.index);
            // A task of its own: when the hook ends the client, hyper drops this future at once.
            tokio::spawn(hook(dropped.unwrap_or_else(|| record.clone()))).await?;
        }
        Err(error)
    }

    /// Sets how the connection ends; the error that it returns makes hyper hand the connection back.
    fn end(&self, ending: Ending, record: &Record) -> BoxError {
        self.end_with(ending);
        self.shared.log.end(record.index, Outcome::Dropped);
        "ended by a rule".into()
    }

    fn end_with(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
    }

    async fn forward(
        &self,
        request: Request<Body>,
        record: &Record,
    ) -> Result<Response<Body>, BoxError> {
        let Some(upstream) = &self.shared.upstream else {
            drain(request.into_body()).await?;
            let mut response =
                Response::new(whole(Bytes::from_static(b"no rule answers this request\n")));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            return Ok(response);
        };
        match self.send(upstream, request).await {
            Ok(response) => {
                self.shared.log.change(record.index, |record| {
                    record.upstream_status = Some(response.status())
                });
                Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
            }
            // As if there were no proxy: an upstream that doesn't answer is a connection that breaks.
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the HTTP proxy got no answer");
                self.end_with(Ending::Reset);
                Err(error.into())
            }
        }
    }

    async fn send(
        &self,
        upstream: &Upstream,
        request: Request<Body>,
    ) -> Result<Response<Incoming>> {
        let mut slot = self.link.lock().await;
        let reusable = match slot.as_mut() {
            Some(link) => link.send.ready().await.is_ok(),
            None => false,
        };
        if !reusable {
            *slot = None;
        }
        let link = match &mut *slot {
            Some(link) => link,
            empty => empty.insert(connect(upstream).await?),
        };
        link.send
            .send_request(request)
            .await
            .context("the upstream broke off")
    }
}

async fn connect(upstream: &Upstream) -> Result<Link> {
    let stream = TcpStream::connect(upstream.address)
        .await
        .with_context(|| format!("nothing answers at the upstream {}", upstream.address))?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &upstream.tls {
        Some(connector) => {
            let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
            let tls = connector
                .connect(name, stream)
                .await
                .context("the TLS handshake with the upstream failed")?;
            Box::new(tls)
        }
        None => Box::new(stream),
    };
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection of the HTTP proxy broke");
        }
    });
    Ok(Link {
        send,
        _driver: driver,
    })
}

/// Reads a body to its end, so that the sender isn't cut off while it still writes.
async fn drain(mut body: Body) -> Result<(), BoxError> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
