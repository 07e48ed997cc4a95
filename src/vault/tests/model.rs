//! Model ports: a Vault that knows tokens and denied paths, and a Kubernetes
//! side that counts what is asked of it. Every request takes a tenth of a
//! second of virtual time, so that concurrent ones overlap.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use crate::key::{ObjectKey, Redacted};
use crate::policy::{PermittedLogin, Read};
use crate::problem::Problem;
use crate::vault::{Credentials, Endpoint, Reply, Token, Upkeep, Vault};

const LATENCY: Duration = Duration::from_millis(100);

/// What the models are told and what they saw.
#[derive(Default)]
pub struct World {
    /// Life of the tokens that logins give, in seconds.
    pub ttl: u64,
    /// Life that renewals give.
    pub renewed_ttl: u64,
    pub renewable: bool,
    /// Whether tokens have accessors, as all but batch tokens have.
    pub accessors: bool,
    /// Answers instead of Vault, to logins and renewals.
    pub login_fails: Option<Problem>,
    pub renewal_fails: Option<Problem>,
    pub read_fails: Option<Problem>,
    /// Tokens that Vault knows.
    pub live: HashSet<String>,
    /// Paths that no token may read.
    pub denied: HashSet<String>,
    pub ca: Option<Vec<u8>>,
    pub logins: usize,
    pub renewals: usize,
    pub reads: usize,
    pub token_requests: usize,
    pub secret_reads: usize,
    /// The CA that the last request came with.
    pub last_ca: Option<Vec<u8>>,
}

#[derive(Clone)]
pub struct Model(pub Rc<RefCell<World>>);

impl Model {
    pub fn new(ttl: u64, renewable: bool) -> Self {
        let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        Self(Rc::new(RefCell::new(World {
            ttl,
            renewed_ttl: ttl,
            renewable,
            ca: Some(ca.cert.pem().into_bytes()),
            ..World::default()
        })))
    }

    /// Logins, renewals, reads.
    pub fn counts(&self) -> (usize, usize, usize) {
        let world = self.0.borrow();
        (world.logins, world.renewals, world.reads)
    }
}

impl Vault for Model {
    async fn login(
        &self,
        endpoint: &Endpoint,
        _login: &PermittedLogin,
        jwt: &Redacted<String>,
    ) -> Result<Token, Problem> {
        sleep(LATENCY).await;
        assert_eq!(jwt.expose(), "jwt");
        let mut world = self.0.borrow_mut();
        world.logins += 1;
        world.last_ca = endpoint.ca_pem.clone();
        if let Some(problem) = &world.login_fails {
            return Err(problem.clone());
        }
        let name = format!("token-{}", world.logins);
        world.live.insert(name.clone());
        let accessor = if world.accessors { &name } else { "" };
        Ok(Token {
            accessor: accessor.to_owned(),
            ..token(name.clone(), world.ttl, world.renewable)
        })
    }

    async fn renew_self(
        &self,
        _endpoint: &Endpoint,
        _login: &PermittedLogin,
        held: &Token,
    ) -> Result<Token, Problem> {
        sleep(LATENCY).await;
        let mut world = self.0.borrow_mut();
        world.renewals += 1;
        match &world.renewal_fails {
            Some(problem) => Err(problem.clone()),
            None => Ok(token(held.secret.expose().clone(), world.renewed_ttl, true)),
        }
    }

    async fn read(
        &self,
        _endpoint: &Endpoint,
        token: &Token,
        read: &Read,
    ) -> Result<Reply, Problem> {
        sleep(LATENCY).await;
        let mut world = self.0.borrow_mut();
        world.reads += 1;
        if let Some(problem) = &world.read_fails {
            return Err(problem.clone());
        }
        if !world.live.contains(token.secret.expose()) || world.denied.contains(&read.path) {
            return Err(Problem::VaultDenied {
                path: read.path.clone(),
                why: "HTTP 403: permission denied".to_owned(),
            });
        }
        Ok(Reply {
            status: 200,
            ..Reply::default()
        })
    }

    async fn upkeep(
        &self,
        _endpoint: &Endpoint,
        token: &Token,
        request: &Upkeep,
    ) -> Result<Reply, Problem> {
        sleep(LATENCY).await;
        let world = self.0.borrow();
        if !world.live.contains(token.secret.expose()) || world.denied.contains(&request.path) {
            return Err(Problem::VaultDenied {
                path: request.path.clone(),
                why: "HTTP 403: permission denied".to_owned(),
            });
        }
        Ok(Reply::default())
    }

    async fn health(&self, _endpoint: &Endpoint) -> Result<(), Problem> {
        Ok(())
    }
}

impl Credentials for Model {
    async fn service_account_token(
        &self,
        _account: &ObjectKey,
        _audiences: &[String],
        _expiration_seconds: i64,
    ) -> Result<Redacted<String>, Problem> {
        sleep(LATENCY).await;
        self.0.borrow_mut().token_requests += 1;
        Ok(Redacted::new("jwt".to_owned()))
    }

    async fn secret_value(
        &self,
        _secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem> {
        sleep(LATENCY).await;
        assert_eq!(key, "ca.crt");
        let mut world = self.0.borrow_mut();
        world.secret_reads += 1;
        let missing = || Problem::CredentialUnusable {
            why: "there is no Secret team/vault-ca".to_owned(),
        };
        world.ca.clone().map(Redacted::new).ok_or_else(missing)
    }
}

fn token(name: String, ttl: u64, renewable: bool) -> Token {
    Token {
        secret: Redacted::new(name),
        accessor: String::new(),
        entity: String::new(),
        ttl: Duration::from_secs(ttl),
        renewable,
    }
}
