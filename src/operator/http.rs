//! `/healthz`, `/readyz` and `/metrics`. The endpoints come up before anything
//! else, so that a start that waits for something can be asked what for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::BindAddress;
use crate::telemetry::Metrics;

/// What the operator still waits for, by topic; ready when there is nothing. And
/// remarks: what somebody who asks should know although all is in order.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Said>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Waits(String),
    Remarks(String),
}

impl Readiness {
    /// The operator waits for `topic`, because of `why`. Tells whether that is news.
    pub fn waits(&self, topic: &str, why: &str) -> bool {
        self.say(topic, Said::Waits(why.to_owned()))
    }

    /// `topic` is no reason to wait, but something is to be said about it. Tells
    /// whether that is news.
    pub fn remarks(&self, topic: &str, what: &str) -> bool {
        self.say(topic, Said::Remarks(what.to_owned()))
    }

    fn say(&self, topic: &str, said: Said) -> bool {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = topics.insert(topic.to_owned(), said);
        old.as_ref() != topics.get(topic)
    }

    /// `topic` is there, and nothing is to be said about it.
    pub fn has(&self, topic: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(topic);
    }

    /// Whether nothing is waited for, and what is to be said.
    fn answer(&self) -> (bool, String) {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !topics.values().any(|said| matches!(said, Said::Waits(_)));
        let mut text = if ready { "ok" } else { "not ready" }.to_owned();
        for (topic, Said::Waits(what) | Said::Remarks(what)) in topics.iter() {
            text.push_str(&format!("\n{topic}: {what}"));
        }
        (ready, text)
    }
}

/// Listens where the configuration says; `None` where it says nowhere.
///
/// # Errors
/// A sentence naming the address and the configuration key.
pub async fn listen(address: BindAddress, key: &str) -> Result<Option<TcpListener>, String> {
    let mut failed = None;
    for candidate in address.candidates() {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => failed = Some(format!("{candidate}: {error}")),
        }
    }
    failed.map_or(Ok(None), |why| {
        Err(format!(
            "cannot listen on {why}; free the port, or set {key} to another"
        ))
    })
}

/// Serves the probes until `stop`.
pub async fn probes(listener: TcpListener, readiness: Readiness, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(readiness);
    serve(listener, router, stop).await;
}

/// Serves the metrics until `stop`. What they tell of is this thread's alone, and
/// handlers have to be ones that could move to another: so they ask, and are
/// answered from here.
pub async fn metrics(listener: TcpListener, metrics: Metrics, stop: CancellationToken) {
    let (ask, mut asked) = mpsc::channel::<Scrape>(1);
    let router = Router::new()
        .route("/metrics", get(exposition))
        .with_state(ask);
    let answers = async {
        while let Some(scrape) = asked.recv().await {
            // Who asked may be gone.
            let _ = scrape.answer.send(metrics.exposition(&scrape.accept));
        }
    };
    tokio::join!(serve(listener, router, stop), answers);
}

/// Somebody asks for the metrics.
struct Scrape {
    /// The `Accept` header.
    accept: String,
    /// Takes content type and text.
    answer: oneshot::Sender<(&'static str, String)>,
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "an HTTP endpoint ended");
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let (ready, text) = readiness.answer();
    if ready {
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn exposition(State(ask): State<mpsc::Sender<Scrape>>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let (answer, answered) = oneshot::channel();
    let accept = accept.unwrap_or_default().to_owned();
    // Both fail only at the end of the process.
    let _ = ask.send(Scrape { accept, answer }).await;
    match answered.await {
        Ok((type_, text)) => ([(header::CONTENT_TYPE, type_)], text).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
