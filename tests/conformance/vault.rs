//! The same for the port to Vault: one script of logins and reads of both
//! versions of KV, with what people do there between them.

use serde_json::{Value, json};
use vault_tenant_operator::config::Config;
use vault_tenant_operator::config::address::Address;
use vault_tenant_operator::key::{ObjectKey, Redacted};
use vault_tenant_operator::policy::{
    CaSource, Connection, Login, LoginMethod, OwnIdentity, PermittedLogin, Policy, Read,
    permit_connection, permit_login,
};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Endpoint, Reply, Token, Vault};

use super::certificates;
use super::leases::{self, LeaseRights};

/// What becomes of a version of KV v2.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Delete,
    Undelete,
    Destroy,
}

/// What people do at Vault, each world in its own way.
#[allow(async_fn_in_trait, reason = "static dispatch on one thread")]
pub trait Keepers {
    /// A token of a ServiceAccount; only `app` may log in.
    async fn jwt(&self, account: &str) -> String;
    /// Writes a path of KV v1, and a new version of it to KV v2.
    async fn put(&self, path: &str, fields: Value);
    async fn change(&self, path: &str, version: u64, change: Change);
    /// Whether the path may be read, of either engine.
    async fn allow(&self, path: &str, allowed: bool);
    async fn revoke(&self, token: &Token);
    /// What the login may do with leases; it may read the engine's credentials.
    async fn lease_rights(&self, rights: LeaseRights);
    async fn seal(&self, sealed: bool);
}

/// Where the script runs.
pub struct Place {
    pub address: String,
    pub ca_pem: Option<Vec<u8>>,
    pub namespace: String,
    /// Vault's role for the account `app`.
    pub role: String,
    /// The mounts of KV.
    pub kv1: String,
    pub kv2: String,
    /// The mount of a database engine with the roles of `leases`.
    pub db: String,
    /// The mount of a PKI engine with the roles of `certificates`.
    pub pki: String,
}

/// What the script must answer, a line for each request.
pub const EXPECTED: &str = include_str!("vault.txt");

impl Place {
    fn login(&self) -> PermittedLogin {
        let mut config = Config::default();
        config.connection.address = Some(Address::parse(&self.address).expect("an address"));
        let (policy, own) = (Policy::new(&config), OwnIdentity::default());
        let connection = Connection {
            origin: None,
            address: self.address.clone(),
            ca: CaSource::System,
            tls_server_name: None,
            skip_tls_verify: false,
            headers: [].into(),
            timeout: std::time::Duration::from_secs(20),
        };
        let login = Login {
            origin: None,
            mount: "kubernetes".to_owned(),
            vault_namespace: None,
            params: [].into(),
            headers: [].into(),
            method: LoginMethod::Kubernetes {
                role: self.role.clone(),
                service_account: ObjectKey::new(&self.namespace, "app"),
                audiences: vec!["vault".to_owned()],
                expiration_seconds: 600,
            },
        };
        let connection = permit_connection(connection, &policy, &own).expect("a connection");
        permit_login(login, connection, &policy, &own).expect("a login")
    }

    /// Vault's words without what is of this place alone.
    fn plain(&self, words: &str) -> String {
        words
            .replace(&self.kv1, "KV1")
            .replace(&self.kv2, "KV2")
            .replace(&self.db, "DB")
            .replace(&self.pki, "PKI")
            .replace(&self.namespace, "TEAM")
    }

    fn problem(&self, problem: &Problem) -> String {
        let words = match problem {
            Problem::LoginFailed { why, .. }
            | Problem::VaultUnavailable { why, .. }
            | Problem::VaultUnreachable { why, .. } => why.clone(),
            Problem::VaultDenied { path, why } => format!("{path}: {why}"),
            other => other.to_string(),
        };
        format!("{}: {}", problem.reason(), self.plain(&words))
    }
}

/// The data, with what is looked at of KV v2's metadata, and the lease.
fn shown(reply: &Reply) -> String {
    let data = reply.data.as_ref().map(|data| data.expose().get());
    let mut data: Value = data.map_or(Value::Null, |text| {
        serde_json::from_str(text).expect("JSON")
    });
    if let Some(metadata) = data.get("metadata").cloned() {
        let deleted = metadata["deletion_time"].as_str() != Some("");
        data["metadata"] = json!({
            "deleted": deleted, "destroyed": metadata["destroyed"], "version": metadata["version"],
        });
    }
    let mut words = format!("{} {data}", reply.status);
    if reply.lease != Default::default() {
        words += &format!(", {:?}", reply.lease);
    }
    for (what, texts) in [("errors", &reply.errors), ("warnings", &reply.warnings)] {
        if !texts.is_empty() {
            words += &format!(", {what} {texts:?}");
        }
    }
    words
}

/// A script's progress.
pub(super) struct Script<'a, V> {
    pub(super) vault: &'a V,
    pub(super) place: &'a Place,
    pub(super) endpoint: Endpoint,
    login: PermittedLogin,
    said: Vec<String>,
}

impl<V: Vault> Script<'_, V> {
    pub(super) fn say(&mut self, what: &str, answer: Result<String, Problem>) {
        let answer = answer.unwrap_or_else(|problem| self.place.problem(&problem));
        self.said.push(format!("{what}: {answer}"));
    }

    /// The same, where Vault's words name what differs each time.
    pub(super) fn say_without(&mut self, what: &str, answer: Result<String, Problem>, name: &str) {
        self.say(what, answer);
        if let Some(last) = self.said.last_mut() {
            *last = last.replace(name, "NUMBER");
        }
    }

    pub(super) async fn log_in(&mut self, what: &str, jwt: String) -> Option<Token> {
        let jwt = Redacted::new(jwt);
        let answer = self.vault.login(&self.endpoint, &self.login, &jwt).await;
        let token = answer.as_ref().ok().cloned();
        self.say(what, answer.map(|token| of(&token)));
        token
    }

    async fn renew(&mut self, what: &str, held: &Token) {
        let answer = self.vault.renew_self(&self.endpoint, &self.login, held);
        let shown = |token: Token| {
            let same = (token.secret.expose(), &token.accessor, &token.entity)
                == (held.secret.expose(), &held.accessor, &held.entity);
            format!("{}, the same {same}", of(&token))
        };
        let answer = answer.await.map(shown);
        self.say(what, answer);
    }

    async fn read(&mut self, what: &str, token: &Token, path: &str, version: Option<u64>) {
        let (mount, path) = match path.strip_prefix("v1 ") {
            Some(path) => (&self.place.kv1, path.to_owned()),
            None => (&self.place.kv2, format!("data/{path}")),
        };
        let read = Read {
            mount: mount.clone(),
            path: format!("{mount}/{path}"),
            query: version
                .map(|number| ("version".to_owned(), number.to_string()))
                .into_iter()
                .collect(),
            ..Read::default()
        };
        let answer = self.vault.read(&self.endpoint, token, &read).await;
        self.say(what, answer.map(|reply| shown(&reply)));
    }

    async fn health(&mut self, what: &str) {
        let answer = self.vault.health(&self.endpoint).await;
        self.say(what, answer.map(|()| "well".to_owned()));
    }
}

/// A token without what differs each time.
fn of(token: &Token) -> String {
    format!(
        "a token of {} s, renewable {}, with accessor {} and entity {}",
        token.ttl.as_secs(),
        token.renewable,
        !token.accessor.is_empty(),
        !token.entity.is_empty(),
    )
}

/// Runs the script; it ends early where a login fails that the rest needs.
pub async fn run<V: Vault>(vault: &V, place: &Place, keepers: &impl Keepers) -> Vec<String> {
    let login = place.login();
    let mut script = Script {
        vault,
        place,
        endpoint: Endpoint {
            connection: login.connection().clone(),
            ca_pem: place.ca_pem.clone(),
        },
        login,
        said: Vec::new(),
    };
    if let Some(token) = logins(&mut script, keepers).await {
        versions(&mut script, keepers, &token).await;
        let _ = refusals(&mut script, keepers, &token).await;
        let _ = leases::run(&mut script, keepers).await;
        let _ = certificates::run(&mut script, keepers).await;
    }
    script.said
}

async fn logins<V: Vault>(script: &mut Script<'_, V>, keepers: &impl Keepers) -> Option<Token> {
    script.health("health").await;
    let other = keepers.jwt("other").await;
    script.log_in("login of another account", other).await;
    script
        .log_in("login with what is no token", "nonsense".to_owned())
        .await;
    let jwt = keepers.jwt("app").await;
    let token = script.log_in("login", jwt).await?;
    script.renew("renew", &token).await;
    Some(token)
}

async fn versions<V: Vault>(script: &mut Script<'_, V>, keepers: &impl Keepers, token: &Token) {
    script.read("nothing in v1", token, "v1 app", None).await;
    script.read("nothing in v2", token, "app", None).await;
    keepers.put("app", json!({ "password": "a" })).await;
    script.read("v1", token, "v1 app", None).await;
    script.read("v2", token, "app", None).await;
    keepers
        .put("app", json!({ "number": 1, "password": "b" }))
        .await;
    script.read("v1 anew", token, "v1 app", None).await;
    script.read("the newest", token, "app", None).await;
    for version in 0..=3 {
        let what = format!("  version {version}");
        script.read(&what, token, "app", Some(version)).await;
    }
    for (what, version, change) in [
        ("deleted", 2, Change::Delete),
        ("brought back", 2, Change::Undelete),
        ("the first destroyed", 1, Change::Destroy),
        ("the newest destroyed", 2, Change::Destroy),
    ] {
        keepers.change("app", version, change).await;
        script.read(what, token, "app", None).await;
        script.read("  version 1", token, "app", Some(1)).await;
        script.read("  version 2", token, "app", Some(2)).await;
    }
    keepers.put("app", json!({ "password": "c" })).await;
    script.read("a third", token, "app", None).await;
}

async fn refusals<V: Vault>(
    script: &mut Script<'_, V>,
    keepers: &impl Keepers,
    token: &Token,
) -> Option<()> {
    keepers.allow("app", false).await;
    script.read("denied in v1", token, "v1 app", None).await;
    script.read("denied in v2", token, "app", None).await;
    script.read("  another path", token, "other", None).await;
    keepers.allow("app", true).await;
    script.read("allowed again", token, "app", None).await;

    keepers.revoke(token).await;
    script
        .read("with a revoked token", token, "app", None)
        .await;
    script.renew("renew a revoked token", token).await;
    let jwt = keepers.jwt("app").await;
    let token = &script.log_in("login anew", jwt.clone()).await?;
    script.read("with the new one", token, "app", None).await;

    keepers.seal(true).await;
    script.health("health of a sealed one").await;
    script.read("read", token, "app", None).await;
    script.renew("renew", token).await;
    script.log_in("login", jwt.clone()).await;
    keepers.seal(false).await;
    script.health("health when unsealed").await;
    script
        .read("with the token of before", token, "app", None)
        .await;
    script.log_in("login", jwt).await.map(drop)
}
