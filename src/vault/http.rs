//! The real port to Vault: vaultrs' requests over one HTTP client for each
//! connection. A token goes to the connection's own address and to what the
//! guardrails list, never elsewhere; no answer reaches a log.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use reqwest::Url;
use ring::digest::{SHA256, digest};
use rustify::endpoint::Endpoint as Request;
use tokio::time::Instant;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::token::requests::RenewTokenSelfRequest;

use crate::key::Redacted;
use crate::policy::{Connection, LoginMethod, PermittedLogin, Read};
use crate::problem::{Problem, printable};

use super::budget::{Budget, Limits};
use super::channel::{Channel, same_origin};
use super::classify::{
    Asked, Envelope, Operation, failure, is_missing, problem, strange, unusable,
};
use super::ports::{Endpoint, Reply, Token, Upkeep, Vault};
use super::requests::{Call, Dressed, KubernetesLogin, check_path};
use super::resolver::AddressRule;
use super::transport::{Failure, Transport};

/// The most redirects of one request.
const REDIRECTS: usize = 3;
/// The most clients kept, and for how long an unused one is.
const CHANNELS: usize = 64;
const CHANNEL_IDLE: Duration = Duration::from_secs(600);

/// May a request of that connection be redirected to this address
/// (`https://host:port`)? The error is a sentence that says why not.
pub type RedirectRule = Arc<dyn Fn(&str, &Connection) -> Result<(), String> + Send + Sync>;

/// Told of every request: operation, outcome (`ok`, `missing` or a problem's
/// reason) and seconds, without the wait for the budget.
pub type RequestObserver = Rc<dyn Fn(&'static str, &'static str, f64)>;

/// What of the guardrails only shows when packets travel.
#[derive(Clone)]
pub struct TravelRules {
    /// Asked about each address that a name resolves to.
    pub address: AddressRule,
    /// Asked about redirects to another host.
    pub redirect: RedirectRule,
}

/// [`Vault`] over HTTP.
pub struct HttpVault {
    user_agent: String,
    limits: Limits,
    rules: TravelRules,
    observer: RequestObserver,
    channels: RefCell<Vec<Kept>>,
    budgets: RefCell<Vec<(String, Rc<Budget>)>>,
}

/// A channel with what identifies it.
struct Kept {
    connection: Connection,
    ca: Option<[u8; 32]>,
    channel: Rc<Channel>,
    used: Instant,
}

/// A 2xx, or a 404 of Vault's own to a read.
struct Answer {
    status: u16,
    envelope: Envelope,
}

impl HttpVault {
    /// A port without connections yet. `namespace` is the operator's own, for
    /// the User-Agent.
    #[must_use]
    pub fn new(
        namespace: &str,
        limits: Limits,
        rules: TravelRules,
        observer: RequestObserver,
    ) -> Self {
        Self {
            user_agent: format!(
                "vault-tenant-operator/{} ({namespace})",
                env!("CARGO_PKG_VERSION")
            ),
            limits,
            rules,
            observer,
            channels: RefCell::default(),
            budgets: RefCell::default(),
        }
    }

    /// Sends a request, follows its redirects as far as the guardrails let it,
    /// and tells the observer of each hop.
    async fn exchange<R: Request>(
        &self,
        asked: Asked<'_>,
        endpoint: &Endpoint,
        request: R,
        dressed: &Dressed,
    ) -> Result<Answer, Problem> {
        let request = request.with_middleware(dressed);
        let mut connection = endpoint.connection.get().clone();
        let mut redirected_to: Option<Url> = None;
        for _ in 0..=REDIRECTS {
            let channel = self.channel(&connection, endpoint.ca_pem.as_deref())?;
            // A probe must not wait behind what it is to tell about.
            let bucket = match asked.operation {
                Operation::Health => format!("health of {}", channel.origin()),
                _ => channel.origin(),
            };
            self.budget(&bucket).take().await;
            let begun = Instant::now();
            let transport = Transport {
                channel: &channel,
                redirected_to: redirected_to.take(),
            };
            let answered = match request.exec(&transport).await {
                Ok(result) => Ok((
                    result.response.status().as_u16(),
                    result.response.into_body(),
                )),
                Err(error) => match failure(error) {
                    Failure::Redirect(status, Some(to)) if matches!(status.as_u16(), 307 | 308) => {
                        self.observe(asked, "redirect", begun);
                        connection = self.redirect(&connection, &channel, &to)?;
                        redirected_to = Some(to);
                        continue;
                    }
                    Failure::Status(refusal) if is_missing(asked, &refusal) => {
                        Ok((404, refusal.body))
                    }
                    Failure::Redirect(status, Some(to)) => Err(unusable(
                        asked,
                        format!(
                            "it is a redirect (HTTP {}) to {}, which is not followed; give the address that serves Vault's API",
                            status.as_u16(),
                            place(&to)
                        ),
                    )),
                    other => Err(problem(asked, other)),
                },
            };
            let answer = answered.and_then(|(status, body)| {
                let envelope = Envelope::read(asked, &body)?;
                Ok(Answer { status, envelope })
            });
            let outcome = match &answer {
                Ok(Answer { status: 404, .. }) => "missing",
                Ok(_) => "ok",
                Err(problem) => problem.reason(),
            };
            self.observe(asked, outcome, begun);
            return answer;
        }
        let last = redirected_to.as_ref().map_or_else(String::new, place);
        Err(unusable(
            asked,
            format!(
                "more than {REDIRECTS} redirects, the last one to {last}; give the address that serves Vault's API"
            ),
        ))
    }

    /// The connection to follow a redirect on.
    fn redirect(
        &self,
        connection: &Connection,
        channel: &Channel,
        to: &Url,
    ) -> Result<Connection, Problem> {
        let from = channel.url("/").map_err(|why| Problem::Internal { why })?;
        if same_origin(&from, to) {
            return Ok(connection.clone());
        }
        let address = to.origin().ascii_serialization();
        let allowed = if from.scheme() == "https" && to.scheme() != "https" {
            Err("the token would leave TLS".to_owned())
        } else if !to.username().is_empty() || to.password().is_some() {
            Err("it holds a user".to_owned())
        } else {
            (self.rules.redirect)(&address, connection)
        };
        allowed.map_err(|why| Problem::PolicyDenied {
            rule: "policy.vaultAddresses",
            why: format!(
                "Vault at {} redirects to {}: {}",
                connection.address,
                place(to),
                printable(&why, 200)
            ),
            answered: true,
        })?;
        Ok(Connection {
            address,
            ..connection.clone()
        })
    }

    /// The client for a connection: a kept one, or a new one.
    fn channel(
        &self,
        connection: &Connection,
        ca_pem: Option<&[u8]>,
    ) -> Result<Rc<Channel>, Problem> {
        let ca = ca_pem.map(fingerprint);
        let now = Instant::now();
        let mut kept = self.channels.borrow_mut();
        kept.retain(|k| now.duration_since(k.used) < CHANNEL_IDLE);
        if let Some(found) = kept
            .iter_mut()
            .find(|k| k.ca == ca && k.connection == *connection)
        {
            found.used = now;
            return Ok(Rc::clone(&found.channel));
        }
        let channel = Rc::new(Channel::new(
            connection,
            ca_pem,
            &self.user_agent,
            Arc::clone(&self.rules.address),
        )?);
        if kept.len() >= CHANNELS
            && let Some(oldest) = (0..kept.len()).min_by_key(|i| kept[*i].used)
        {
            kept.swap_remove(oldest);
        }
        kept.push(Kept {
            connection: connection.clone(),
            ca,
            channel: Rc::clone(&channel),
            used: now,
        });
        Ok(channel)
    }

    /// The budget of an address, shared by all connections to it.
    fn budget(&self, origin: &str) -> Rc<Budget> {
        let mut budgets = self.budgets.borrow_mut();
        if let Some((_, budget)) = budgets.iter().find(|(o, _)| o == origin) {
            return Rc::clone(budget);
        }
        if budgets.len() >= CHANNELS {
            // One that nobody waits for; it comes back with a full bucket.
            if let Some(unused) = budgets.iter().position(|(_, b)| Rc::strong_count(b) == 1) {
                budgets.remove(unused);
            }
        }
        let budget = Rc::new(Budget::new(self.limits));
        budgets.push((origin.to_owned(), Rc::clone(&budget)));
        budget
    }

    fn observe(&self, asked: Asked<'_>, outcome: &'static str, begun: Instant) {
        let seconds = begun.elapsed().as_secs_f64();
        (self.observer)(asked.operation.label(), outcome, seconds);
    }
}

impl Vault for HttpVault {
    async fn login(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        jwt: &Redacted<String>,
    ) -> Result<Token, Problem> {
        let login = login.get();
        let LoginMethod::Kubernetes { role, .. } = &login.method else {
            return Err(Problem::NotServed {
                what: format!("the login method {}", login.method.name()),
            });
        };
        check_path("spec.mount", &login.mount)?;
        let connection = endpoint.connection.get();
        let what = format!("auth/{}/login (role {})", login.mount, printable(role, 100));
        let asked = Asked {
            operation: Operation::Login,
            what: &what,
            address: &connection.address,
        };
        let dressed = Dressed::new(
            None,
            login.vault_namespace.as_deref(),
            &[&login.headers, &connection.headers],
        )?;
        let request = KubernetesLogin {
            inner: LoginWithKubernetesRequest {
                mount: login.mount.clone(),
                role: role.clone(),
                jwt: jwt.expose().clone(),
            },
            params: login.params.clone(),
        };
        let answer = self.exchange(asked, endpoint, request, &dressed).await?;
        token(asked, answer)
    }

    async fn renew_self(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        held: &Token,
    ) -> Result<Token, Problem> {
        let connection = endpoint.connection.get();
        let asked = Asked {
            operation: Operation::Renew,
            what: "auth/token/renew-self",
            address: &connection.address,
        };
        let dressed = Dressed::new(
            Some(held.secret.expose()),
            login.get().vault_namespace.as_deref(),
            &[&connection.headers],
        )?;
        let request = RenewTokenSelfRequest { increment: None };
        let answer = self.exchange(asked, endpoint, request, &dressed).await?;
        token(asked, answer)
    }

    async fn read(
        &self,
        endpoint: &Endpoint,
        token: &Token,
        read: &Read,
    ) -> Result<Reply, Problem> {
        check_path(read.fields.path, &read.path)?;
        let connection = endpoint.connection.get();
        let asked = Asked {
            operation: Operation::Read(read.fields),
            what: &read.path,
            address: &connection.address,
        };
        let dressed = Dressed::new(
            Some(token.secret.expose()),
            read.vault_namespace.as_deref(),
            &[&connection.headers],
        )?;
        let Answer { status, envelope } = self
            .exchange(asked, endpoint, Call::of(read), &dressed)
            .await?;
        Ok(envelope.into_reply(status))
    }

    async fn upkeep(
        &self,
        endpoint: &Endpoint,
        token: &Token,
        request: &Upkeep,
    ) -> Result<Reply, Problem> {
        check_path("the lease's id", &request.path)?;
        let connection = endpoint.connection.get();
        // What names the lease is nobody's business but the ledger's.
        let what = request.task.form().unwrap_or(&request.path);
        let asked = Asked {
            operation: Operation::Upkeep(request.task),
            what,
            address: &connection.address,
        };
        let dressed = Dressed::new(
            Some(token.secret.expose()),
            request.vault_namespace.as_deref(),
            &[&connection.headers],
        )?;
        let call = Call::put(&request.path, &request.body);
        let Answer { status, envelope } = self.exchange(asked, endpoint, call, &dressed).await?;
        Ok(envelope.into_reply(status))
    }

    async fn health(&self, endpoint: &Endpoint) -> Result<(), Problem> {
        let connection = endpoint.connection.get();
        let asked = Asked {
            operation: Operation::Health,
            what: "sys/health",
            address: &connection.address,
        };
        let dressed = Dressed::new(None, None, &[&connection.headers])?;
        // Standbys forward to the active node, so they serve.
        let standby = |name: &str| (name.to_owned(), "true".to_owned());
        let query = [standby("standbyok"), standby("perfstandbyok")];
        let request = Call::get("sys/health", &query);
        self.exchange(asked, endpoint, request, &dressed)
            .await
            .map(|_| ())
    }
}

/// The token of a login or renewal.
fn token(asked: Asked<'_>, answer: Answer) -> Result<Token, Problem> {
    let auth = answer
        .envelope
        .auth
        .filter(|auth| !auth.client_token.is_empty())
        .ok_or_else(|| strange(asked, "it holds no token (no field auth.client_token)"))?;
    if HeaderValue::from_str(&auth.client_token).is_err() {
        return Err(strange(asked, "its token holds what no header can carry"));
    }
    Ok(Token {
        secret: Redacted::new(auth.client_token),
        accessor: auth.accessor,
        entity: auth.entity_id,
        ttl: Duration::from_secs(auth.lease_duration),
        renewable: auth.renewable,
    })
}

/// Where a URL leads, without what it may carry.
fn place(url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    printable(&format!("{origin}{}", url.path()), 200)
}

fn fingerprint(pem: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, pem).as_ref());
    hash
}
