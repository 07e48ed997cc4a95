//! The part of the script about certificates: of a role that stores them, of one that
//! leases them, and of one that forgets them.

use serde_json::{Map, Value, json};
use vault_tenant_operator::policy::Read;
use vault_tenant_operator::vault::{Reply, Task, Token, Vault};
use x509_parser::pem::parse_x509_pem;

use super::leases::{LeaseRights, TTL, data};
use super::vault::{Keepers, Script};

/// The roles, each of which issues for [`TTL`] at most.
pub const STORES: &str = "stores";
pub const LEASES: &str = "leases";
pub const FORGETS: &str = "forgets";

/// A certificate as an answer gave it.
struct Issued {
    serial: String,
    lease: String,
}

/// Seconds from a certificate's begin to its end, and whether that is the end and this
/// the number of the answer.
fn looked_into(found: &Value) -> Option<(i64, bool)> {
    let (_, pem) = parse_x509_pem(found["certificate"].as_str()?.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let (begin, end) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let serial: Vec<String> = certificate
        .raw_serial()
        .iter()
        .skip_while(|byte| **byte == 0)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let same =
        found["expiration"] == json!(end) && found["serial_number"] == json!(serial.join(":"));
    Some((end - begin, same))
}

impl<V: Vault> Script<'_, V> {
    async fn issue(&mut self, role: &str, token: &Token, asked: Value) -> Option<Issued> {
        let mount = self.place.pki.clone();
        let Value::Object(body) = asked else {
            unreachable!()
        };
        let read = Read {
            path: format!("{mount}/issue/{role}"),
            mount,
            mints: true,
            body: Some(body),
            ..Read::default()
        };
        let what = format!("a certificate of the role that {role}");
        let reply = match self.vault.read(&self.endpoint, token, &read).await {
            Ok(reply) => reply,
            Err(problem) => {
                self.say(&what, Err(problem));
                return None;
            }
        };
        let found = data(&reply);
        let keys: Vec<&String> = found.as_object().into_iter().flat_map(Map::keys).collect();
        let chain = found["ca_chain"].as_array().map_or(0, Vec::len);
        let (lives, same) = looked_into(&found)?;
        // A second may begin between two of Vault's looks at the clock.
        let dated_back = lives - i64::try_from(TTL).ok()?;
        let Reply { status, lease, .. } = &reply;
        // Vault takes a moment, and cuts seconds.
        let lasts = match lease.duration.as_secs() {
            some if (TTL - 5..=TTL).contains(&some) => TTL,
            other => other,
        };
        let said = format!(
            "{status} {keys:?}, a chain of {chain}, dated back half a minute {}, its number and its end {same}, a lease of the path {} of {} s, renewable {}",
            (29..=32).contains(&dated_back),
            lease.id.starts_with(&format!("{}/", read.path)),
            lasts,
            lease.renewable,
        );
        self.say(&what, Ok(said));
        Some(Issued {
            serial: found["serial_number"].as_str()?.to_owned(),
            lease: lease.id.clone(),
        })
    }

    async fn revoke_certificate(&mut self, what: &str, token: &Token, serial: &str) {
        let body = json!({ "serial_number": serial });
        let path = format!("{}/revoke", self.place.pki);
        let answer = self.ask(token, Task::RevokeCertificate, path, body).await;
        let said = answer.map(|reply| reply.status.to_string());
        self.say_without(what, said, serial);
    }
}

/// Runs the part; it ends early where something fails that the rest needs.
pub(super) async fn run<V: Vault>(
    script: &mut Script<'_, V>,
    keepers: &impl Keepers,
) -> Option<()> {
    keepers.lease_rights(LeaseRights::All).await;
    let jwt = keepers.jwt("app").await;
    let token = &script.log_in("login", jwt).await?;
    let named = |ttl: &str| json!({ "common_name": "web.example", "ttl": ttl });
    let whole = format!("{TTL}s");
    let stored = script.issue(STORES, token, named(&whole)).await?;
    let more = script.issue(STORES, token, named("24h")).await?;
    let differ = stored.serial != more.serial;
    script.say("they differ", Ok(differ.to_string()));
    let leased = script.issue(LEASES, token, named(&whole)).await?;
    let forgotten = script.issue(FORGETS, token, named(&whole)).await?;

    script
        .revoke_certificate("revoke", token, &stored.serial)
        .await;
    script
        .revoke_certificate("  again", token, &stored.serial)
        .await;
    script
        .revoke_certificate("revoke what is forgotten", token, &forgotten.serial)
        .await;
    let asked = json!({ "increment": TTL });
    let (renew, revoke) = (Task::RenewLease, Task::RevokeLease);
    script
        .of_lease("renew its lease", token, renew, &leased.lease, asked)
        .await;
    let sync = json!({ "sync": true });
    script
        .of_lease("revoke its lease", token, revoke, &leased.lease, sync)
        .await;
    script
        .revoke_certificate("  by its number then", token, &leased.serial)
        .await;
    Some(())
}
