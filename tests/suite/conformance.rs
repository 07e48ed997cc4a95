//! The real servers answer as the simulation's models do: one script for each
//! port, one transcript for both worlds.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ground::engines::{DatabaseRole, PkiRole, Rotation};
use ground::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use ground::vault_rights::TokenRules;
use ground::{Ground, Options, Right, Tenant};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::cluster_port;
use vault_tenant_operator::vault::{HttpVault, Limits, Token, TravelRules};

use crate::script::certificates::{FORGETS, LEASES, STORES};
use crate::script::leases::{LeaseRights, MAX_TTL, PERIOD, TTL};
use crate::script::vault::{self, Change, Keepers, Place};
use crate::script::{EXPECTED, People, run};
use crate::support::{Suite, deployment, resources, static_secret};

crate::trials![
    "conformance": the_real_api_server_answers_as_the_model, the_real_vault_answers_as_the_model,
];

async fn the_real_api_server_answers_as_the_model(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("conformance").await?;
    // As administrator: this is about the server, not about rights.
    let (client, namespace) = (tenant.client.clone(), tenant.namespace.clone());
    let work = move || -> Result<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let cluster = cluster_port(client, &namespace);
        Ok(runtime.block_on(run(&cluster, &namespace, &tenant)))
    };
    let said = tokio::task::spawn_blocking(work).await??.join("\n");
    ensure!(said == EXPECTED.trim_end(), "{said}");
    Ok(())
}

impl People for Tenant {
    async fn edit(&self, secret: &str, key: &str, value: &str) {
        let params = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "stringData": { key: value } }));
        let secrets = self.api::<k8s_openapi::api::core::v1::Secret>();
        secrets
            .patch(secret, &params, &patch)
            .await
            .expect("an edit");
    }

    async fn deployment(&self, name: &str) -> (String, String) {
        // Of no replicas, so that no controller changes it soon.
        let mut manifest = deployment(name, "none");
        manifest["spec"]["replicas"] = json!(0);
        manifest["spec"]["paused"] = json!(true);
        let new: Deployment = serde_json::from_value(manifest).expect("a Deployment");
        let api = self.api::<Deployment>();
        api.create(&PostParams::default(), &new)
            .await
            .expect("a Deployment");
        let settled = |found: &Deployment| {
            let status = found.status.as_ref();
            status.and_then(|status| status.observed_generation) == found.metadata.generation
        };
        loop {
            let found = api.get(name).await.expect("a Deployment");
            if settled(&found) {
                let meta = found.metadata;
                return (
                    meta.uid.unwrap_or_default(),
                    meta.resource_version.unwrap_or_default(),
                );
            }
        }
    }

    async fn resource(&self, name: &str) -> String {
        let manifest = static_secret(self, name, json!({}));
        self.apply(&manifest.to_string()).await.expect("a resource");
        let found = resources(self, "VaultStaticSecret").get(name).await;
        found.expect("a resource").metadata.uid.unwrap_or_default()
    }
}

async fn the_real_vault_answers_as_the_model(_: &Suite) -> Result<()> {
    // Its own, since it is sealed.
    let ground = Ground::start(Options::default()).await?;
    let tenant = ground.tenant("conformance").await?;
    tenant.token_rules(&rules()).await?;
    let postgres = ground.postgres().await?;
    let database = postgres.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let role = DatabaseRole {
        ttl: Duration::from_secs(TTL),
        max_ttl: Duration::from_secs(MAX_TTL),
        ..DatabaseRole::default()
    };
    let period = Rotation::Period(Duration::from_secs(PERIOD));
    let pki = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let issuing = PkiRole {
        ttl: Duration::from_secs(TTL),
        max_ttl: Duration::from_secs(TTL),
        ..PkiRole::default()
    };
    let leasing = PkiRole {
        generate_lease: true,
        ..issuing
    };
    let forgetting = PkiRole {
        no_store: true,
        ..issuing
    };
    let paths = [
        engine.role("app", &role).await?,
        engine.static_role("turned", period).await?,
        pki.role(STORES, &issuing).await?,
        pki.role(LEASES, &leasing).await?,
        pki.role(FORGETS, &forgetting).await?,
        format!("{}/revoke", pki.mount),
    ];
    let place = Place {
        address: tenant.vault_address.clone(),
        ca_pem: Some(tenant.ca_pem.clone().into_bytes()),
        namespace: tenant.namespace.clone(),
        role: tenant.vault_role().to_owned(),
        kv1: tenant.kv1.clone(),
        kv2: tenant.kv2.clone(),
        db: engine.mount.clone(),
        pki: pki.mount.clone(),
    };
    let ground = Arc::new(ground);
    let keepers = AtVault(Arc::clone(&ground), tenant, paths);
    let work = move || -> Result<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let many = NonZeroU32::MAX;
        let limits = Limits {
            requests_per_second: many,
            burst: many,
        };
        let rules = TravelRules {
            address: Arc::new(|_, _| Ok(())),
            redirect: Arc::new(|_, _| Err("none is expected".to_owned())),
        };
        let vault = HttpVault::new("conformance", limits, rules, Rc::new(|_, _, _| {}));
        Ok(runtime.block_on(vault::run(&vault, &place, &keepers)))
    };
    let said = tokio::task::spawn_blocking(work).await??.join("\n");
    ensure!(said == vault::EXPECTED.trim_end(), "{said}");
    ground.stop().await
}

fn rules() -> TokenRules {
    TokenRules {
        ttl: Duration::from_secs(1200),
        ..TokenRules::default()
    }
}

/// Who keeps the Vault of a ground, with the paths of its engines.
struct AtVault(Arc<Ground>, Tenant, [String; 6]);

impl Keepers for AtVault {
    async fn jwt(&self, account: &str) -> String {
        let account = match account {
            "app" => APP_ACCOUNT,
            _ => OPERATOR_ACCOUNT,
        };
        let token = self.1.token(account, &[AUDIENCE]).await;
        token.expect("a token of the account")
    }

    async fn put(&self, path: &str, fields: Value) {
        let Tenant {
            vault, kv1, kv2, ..
        } = &self.1;
        vault.kv1_put(kv1, path, &fields).await.expect("KV v1");
        vault.kv2_put(kv2, path, &fields).await.expect("KV v2");
    }

    async fn change(&self, path: &str, version: u64, change: Change) {
        let what = match change {
            Change::Delete => "delete",
            Change::Undelete => "undelete",
            Change::Destroy => "destroy",
        };
        let path = format!("{}/{what}/{path}", self.1.kv2);
        let versions = json!({ "versions": [version] });
        let changed = self.1.vault.write(&path, &versions).await;
        changed.expect("a change of a version");
    }

    async fn allow(&self, path: &str, allowed: bool) {
        // Vault takes the rule of the longest path.
        let Tenant { kv1, kv2, .. } = &self.1;
        let mut policy = String::new();
        let mut rule = |path: &str, capability: &str| {
            policy += &format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}\n");
        };
        rule(&format!("{kv1}/*"), "read");
        rule(&format!("{kv2}/data/*"), "read");
        if !allowed {
            rule(&format!("{kv1}/{path}"), "deny");
            rule(&format!("{kv2}/data/{path}"), "deny");
        }
        let written = self.1.vault.policy(self.1.vault_role(), &policy).await;
        written.expect("a policy");
    }

    async fn revoke(&self, token: &Token) {
        let body = json!({ "token": token.secret.expose() });
        let revoked = self.1.vault.write("auth/token/revoke", &body).await;
        revoked.expect("a revocation");
    }

    async fn lease_rights(&self, rights: LeaseRights) {
        let taken: &[Right] = match rights {
            LeaseRights::All => &[],
            LeaseRights::NoRenewalByPath => &[Right::RenewByPath],
            LeaseRights::NoneOfLeases => &[
                Right::RenewByPath,
                Right::RenewInBody,
                Right::RevokeByPath,
                Right::RevokeInBody,
            ],
        };
        let rights: Vec<Right> = Right::ALL
            .into_iter()
            .filter(|right| !taken.contains(right))
            .collect();
        // The default policy lets every token renew any lease.
        let rules = TokenRules {
            no_default_policy: true,
            ..rules()
        };
        self.1.token_rules(&rules).await.expect("rules of tokens");
        let paths = self.2.each_ref().map(String::as_str);
        self.1.grant(&paths, &rights).await.expect("a policy");
    }

    async fn seal(&self, sealed: bool) {
        let vault = &self.0.vault;
        let done = if sealed {
            vault.seal().await
        } else {
            vault.unseal().await
        };
        done.expect("a seal");
    }
}
