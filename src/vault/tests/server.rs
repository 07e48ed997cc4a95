//! A small HTTPS server on loopback that answers as a test tells it to, and
//! remembers the connections and requests that it saw.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET /v1/secret/data/app?version=1`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The name in the TLS hello.
    pub sni: Option<String>,
}

impl Seen {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(n, _)| n == name);
        of_name.map(|(_, v)| v.as_str()).collect()
    }
}

/// What the server answers.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Chunked, that is: without an announced length.
    pub chunked: bool,
}

/// An answer with a body.
pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: body.into(),
        chunked: false,
    }
}

impl Answer {
    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

#[derive(Default)]
struct Log {
    connections: usize,
    requests: Vec<Seen>,
}

/// A running server; dropping it ends it.
pub struct Server {
    pub port: u16,
    /// The CA that signed its certificate.
    pub ca_pem: String,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves with a certificate for `names`.
    pub async fn start(
        names: &[&str],
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ca_pem, config) = certified(names);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Log::default()));
        let script: Script = Arc::new(script);
        let shared = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let (acceptor, log, script) =
                    (acceptor.clone(), Arc::clone(&shared), Arc::clone(&script));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let sni = tls.get_ref().1.server_name().map(str::to_owned);
                    serve(tls, sni, &log, &script).await;
                });
            }
        });
        Self {
            port,
            ca_pem,
            log,
            task,
        }
    }

    /// `https://<host>:<port>`
    pub fn address(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.log.lock().unwrap().requests.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A CA and a server configuration with a certificate that it signed.
fn certified(names: &[&str]) -> (String, rustls::ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (ca.pem(), config)
}

/// One connection, as many requests as come over it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    sni: Option<String>,
    log: &Mutex<Log>,
    script: &Script,
) {
    let mut received = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut received, sni.as_deref()).await {
        log.lock().unwrap().requests.push(seen.clone());
        let answer = script(&seen);
        let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &match answer.chunked {
            true => format!(
                "transfer-encoding: chunked\r\n\r\n{:x}\r\n",
                answer.body.len()
            ),
            false => format!("content-length: {}\r\n\r\n", answer.body.len()),
        };
        let end: &[u8] = if answer.chunked {
            b"\r\n0\r\n\r\n"
        } else {
            b""
        };
        for part in [head.as_bytes(), &answer.body, end] {
            if stream.write_all(part).await.is_err() {
                return;
            }
        }
        let _ = stream.flush().await;
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    sni: Option<&str>,
) -> Option<Seen> {
    let head_end = loop {
        if let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(received).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(received[..head_end].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length");
    let length: usize = length.map_or(0, |(_, v)| v.parse().unwrap());
    let body_end = head_end + 4 + length;
    while received.len() < body_end {
        if stream.read_buf(received).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(received[head_end + 4..body_end].to_vec()).ok()?;
    received.drain(..body_end);
    Some(Seen {
        line,
        headers,
        body,
        sni: sni.map(str::to_owned),
    })
}
