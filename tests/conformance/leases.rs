//! The part of the script about what Vault gives for a time: leases of a database
//! engine, and the tokens that they hang on.

use std::time::Duration;

use serde_json::{Map, Value, json};
use vault_tenant_operator::policy::Read;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Reply, Task, Token, Upkeep, Vault};

use super::vault::{Keepers, Script};

/// What people let the login do with leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRights {
    All,
    /// All but renewals by the id in the path.
    NoRenewalByPath,
    /// All but renewals and revocations in either form.
    NoneOfLeases,
}

/// Life of a lease of the role `app`, at first and at most, in seconds.
pub const TTL: u64 = 600;
pub const MAX_TTL: u64 = 3600;

/// Between two rotations of the static role `turned`, in seconds.
pub const PERIOD: u64 = 3600;

pub(super) fn data(reply: &Reply) -> Value {
    let data = reply.data.as_ref().map(|data| data.expose().get());
    data.map_or(Value::Null, |text| {
        serde_json::from_str(text).expect("JSON")
    })
}

/// Credentials as an answer gave them.
struct Credentials {
    lease: String,
    username: String,
}

impl<V: Vault> Script<'_, V> {
    async fn credentials(&mut self, what: &str, token: &Token, path: &str) -> Option<Credentials> {
        let mount = self.place.db.clone();
        let read = Read {
            path: format!("{mount}/{path}"),
            mount,
            ..Read::default()
        };
        let reply = match self.vault.read(&self.endpoint, token, &read).await {
            Ok(reply) => reply,
            Err(problem) => {
                self.say(what, Err(problem));
                return None;
            }
        };
        let found = data(&reply);
        let keys: Vec<&String> = found.as_object().into_iter().flat_map(Map::keys).collect();
        let (lease, name) = (&reply.lease, format!("{}/", read.path));
        let ttl = found["ttl"].as_u64().map(|ttl| (1..=PERIOD).contains(&ttl));
        let rotates = ttl.map(|ttl| format!(", ttl within the period {ttl}"));
        self.say(
            what,
            Ok(format!(
                "{} {keys:?}, a lease of the path {} of {} s, renewable {}{}",
                reply.status,
                lease.id.starts_with(&name),
                lease.duration.as_secs(),
                lease.renewable,
                rotates.unwrap_or_default(),
            )),
        );
        let username = found["username"].as_str().unwrap_or_default().to_owned();
        Some(Credentials {
            lease: lease.id.clone(),
            username,
        })
    }

    pub(super) async fn ask(
        &self,
        token: &Token,
        task: Task,
        path: String,
        body: Value,
    ) -> Result<Reply, Problem> {
        let Value::Object(body) = body else {
            unreachable!()
        };
        let request = Upkeep {
            task,
            vault_namespace: None,
            path,
            body,
        };
        self.vault.upkeep(&self.endpoint, token, &request).await
    }

    /// About a lease, by its id in the path, then in the body.
    pub(super) async fn of_lease(
        &mut self,
        what: &str,
        token: &Token,
        task: Task,
        lease: &str,
        more: Value,
    ) {
        let mut body = more.clone();
        body["lease_id"] = json!(lease);
        let by_path = self.ask(
            token,
            task,
            format!("{}/{lease}", task.form().unwrap_or_default()),
            more,
        );
        let by_path = by_path.await;
        self.lease_said(&format!("{what}, by path"), by_path, lease);
        let in_body = self
            .ask(
                token,
                task,
                task.form().unwrap_or_default().to_owned(),
                body,
            )
            .await;
        self.lease_said(&format!("{what}, in the body"), in_body, lease);
    }

    async fn look_up(&mut self, what: &str, token: &Token, lease: &str) {
        let body = json!({ "lease_id": lease });
        let form = Task::LookUpLease.form().unwrap_or_default().to_owned();
        let answer = self.ask(token, Task::LookUpLease, form, body).await;
        let said = answer.map(|reply| {
            let same = data(&reply)["id"].as_str() == Some(lease);
            format!("{}, the same {same}", reply.status)
        });
        self.say(what, said);
    }

    fn lease_said(&mut self, what: &str, answer: Result<Reply, Problem>, lease: &str) {
        let said = answer.map(|reply| {
            let found = &reply.lease;
            if found.id.is_empty() {
                return format!("{}", reply.status);
            }
            // What is capped depends on how much time has passed.
            let capped = Duration::from_secs(MAX_TTL - 60)..=Duration::from_secs(MAX_TTL);
            let lasts = match capped.contains(&found.duration) {
                true => "what is left of the longest life".to_owned(),
                false => format!("{} s", found.duration.as_secs()),
            };
            let same = found.id == lease;
            let renewable = found.renewable;
            format!(
                "{}, {lasts}, renewable {renewable}, the same {same}",
                reply.status
            )
        });
        self.say(what, said);
    }

    async fn of_token(&mut self, what: &str, token: &Token, task: Task, other: &Token) {
        let body = json!({ "accessor": other.accessor });
        let answer = self
            .ask(
                token,
                task,
                task.form().unwrap_or_default().to_owned(),
                body,
            )
            .await;
        let said = answer.map(|reply| {
            let found = data(&reply);
            let life = match reply.token_life {
                Some(life) => life.as_secs(),
                None => found["ttl"].as_u64().unwrap_or_default(),
            };
            let whole = (1190..=1200).contains(&life);
            let mut said = format!("{}, a whole life {whole}", reply.status);
            if task == Task::LookUpToken {
                let same = found["entity_id"].as_str() == Some(other.entity.as_str());
                said += &format!(", renewable {}, its entity {same}", found["renewable"]);
            }
            said
        });
        self.say(what, said);
    }
}

/// Runs the part; it ends early where something fails that the rest needs.
pub(super) async fn run<V: Vault>(
    script: &mut Script<'_, V>,
    keepers: &impl Keepers,
) -> Option<()> {
    keepers.lease_rights(LeaseRights::All).await;
    let jwt = keepers.jwt("app").await;
    let token = &script.log_in("login", jwt.clone()).await?;
    let one = script
        .credentials("credentials", token, "creds/app")
        .await?;
    let other = script
        .credentials("credentials again", token, "creds/app")
        .await?;
    let differ = one.username != other.username && one.lease != other.lease;
    script.say("they differ", Ok(differ.to_string()));

    let (renew, revoke) = (Task::RenewLease, Task::RevokeLease);
    let asked = json!({ "increment": TTL });
    let long = json!({ "increment": 2 * MAX_TTL });
    let sync = json!({ "sync": true });
    script
        .of_lease("renew", token, renew, &one.lease, asked.clone())
        .await;
    script
        .of_lease("renew for too long", token, renew, &one.lease, long)
        .await;
    script.look_up("look up", token, &one.lease).await;
    script
        .of_lease("revoke", token, revoke, &one.lease, sync.clone())
        .await;
    script
        .of_lease(
            "renew what is revoked",
            token,
            renew,
            &one.lease,
            asked.clone(),
        )
        .await;
    script
        .look_up("look up what is revoked", token, &one.lease)
        .await;

    for (what, rights) in [
        ("no renewal by path", LeaseRights::NoRenewalByPath),
        ("nothing of leases", LeaseRights::NoneOfLeases),
    ] {
        keepers.lease_rights(rights).await;
        script
            .of_lease(what, token, renew, &other.lease, asked.clone())
            .await;
    }
    script
        .of_lease("  nor revoke", token, revoke, &other.lease, sync)
        .await;
    keepers.lease_rights(LeaseRights::All).await;

    let second = &script.log_in("a second login", jwt).await?;
    let its = script
        .credentials("its credentials", second, "creds/app")
        .await?;
    script
        .of_token("look the second up", token, Task::LookUpToken, second)
        .await;
    script
        .of_token("renew the second", token, Task::RenewToken, second)
        .await;
    let form = Task::RevokeToken.form().unwrap_or_default().to_owned();
    let ended = script.ask(second, Task::RevokeToken, form, json!({})).await;
    script.say(
        "the second ends itself",
        ended.map(|reply| reply.status.to_string()),
    );
    script
        .of_lease("renew what hung on it", token, renew, &its.lease, asked)
        .await;
    script
        .of_token("look it up", token, Task::LookUpToken, second)
        .await;
    script
        .of_token("renew it", token, Task::RenewToken, second)
        .await;
    script
        .credentials("static credentials", token, "static-creds/turned")
        .await?;
    Some(())
}
