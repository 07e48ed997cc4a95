//! A tenant with a secret of each kind and an application, whom something happens to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::resources::static_secret;
use ground::{Right, wait_for};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::site::installation::{Installation, Overlay, deployment, from_secret};
use crate::site::{LONG, Site, leased};

/// The resources whose Secrets the application uses, each named like its Secret.
const USED: [(&str, &str); 3] = [
    ("VaultDynamicSecret", "app"),
    ("VaultStaticSecret", "settings"),
    ("VaultPKISecret", "web"),
];

/// How long the certificate lives: longer than any run.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A tenant with a leased login, a static secret and a certificate that an application uses.
pub struct Tenancy<'a> {
    pub site: &'a Site,
    pub installation: Installation,
    creds: String,
    /// The leases at Vault, and what the Secrets hold.
    before: (Vec<String>, Vec<Value>),
}

impl<'a> Tenancy<'a> {
    pub async fn start(site: &'a Site, name: &str) -> Result<Self> {
        Self::start_in(
            site,
            Installation::prepare(site, Overlay::Beside, name).await?,
        )
        .await
    }

    /// The same in an installation that is prepared already.
    pub async fn start_in(site: &'a Site, installation: Installation) -> Result<Self> {
        let tenant = &installation.tenant;
        let engine = leased::engine(site, tenant, &["app"]).await?;
        let authority = tenant.pki_engine(LIFE).await?;
        let issue = authority.role("web", &PkiRole::default()).await?;
        let creds = leased::leases(&engine);
        let login = format!("{creds}/app");
        tenant.grant(&[&login, &issue], &Right::ALL).await?;
        for name in ["settings", "probe"] {
            let data = json!({ "value": "0" });
            tenant.vault.kv2_put(&tenant.kv2, name, &data).await?;
        }
        let targets = json!([{ "kind": "Deployment", "name": "app" }]);
        let settings = static_secret(
            tenant,
            "settings",
            json!({ "rolloutRestartTargets": targets.clone() }),
        );
        let probe = static_secret(tenant, "probe", json!({ "path": "probe" }));
        let container = json!({ "env": [
            from_secret("USERNAME", "app", "username"), from_secret("VALUE", "settings", "value"),
            from_secret("CERTIFICATE_PEM", "web", "tls.crt"),
        ] });
        let app = deployment("app", 1, container, json!({}));
        let login = leased::login(&engine, "app");
        let certificate = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultPKISecret",
            "metadata": { "name": "web" },
            "spec": {
                "mount": authority.mount, "role": "web", "commonName": "web.test",
                "destination": { "name": "web", "create": true, "type": "kubernetes.io/tls" },
                "rolloutRestartTargets": targets,
            },
        });
        installation
            .bring(&[login, settings, probe, certificate, app])
            .await?;
        installation.install(site).await?;
        installation.rolled_out("app", 1).await?;
        let mut tenancy = Self {
            site,
            installation,
            creds,
            before: Default::default(),
        };
        tenancy.works("0").await?;
        tenancy.before = tenancy.now().await?;
        Ok(tenancy)
    }

    async fn now(&self) -> Result<(Vec<String>, Vec<Value>)> {
        let leases = self.site.ground.vault.api.leases(&self.creds).await?;
        let mut held = Vec::new();
        for (_, name) in USED {
            let secret = self.installation.tenant.secret(name).await?;
            let secret = secret.context("no Secret")?;
            held.push(json!([secret.metadata.uid, secret.data]));
        }
        Ok((leases, held))
    }

    /// Something new in Vault arrives, which only an operator that works brings.
    pub async fn works(&self, value: &str) -> Result<()> {
        let tenant = &self.installation.tenant;
        let data = json!({ "value": value });
        tenant.vault.kv2_put(&tenant.kv2, "probe", &data).await?;
        wait_for("what is new in Vault", LONG, || async {
            let secret = tenant.secret("probe").await?.context("no Secret")?;
            let held = secret.data.unwrap_or_default();
            let held = held.get("value").context("no key")?;
            ensure!(held.0 == value.as_bytes(), "it holds another");
            Ok(())
        })
        .await
    }

    /// The operator comes back after `what`; how long that takes is printed.
    pub async fn comes_back(&self, what: &str, begun: Instant) -> Result<()> {
        self.works(what).await?;
        println!("{what}: it works again after {:.1?}", begun.elapsed());
        self.site.ready_operator(&self.installation.home()).await?;
        for (kind, name) in USED {
            self.installation.ready(kind, name).await?;
        }
        self.unchanged().await.with_context(|| what.to_owned())
    }

    pub async fn unchanged(&self) -> Result<()> {
        let now = self.now().await?;
        ensure!(
            now.0 == self.before.0,
            "leases: {:?}, before: {:?}",
            now.0,
            self.before.0
        );
        ensure!(now.1 == self.before.1, "a Secret was changed");
        ensure!(self.installation.restarts("app").await? == 0, "a restart");
        Ok(())
    }

    pub async fn operator(&self) -> Result<Pod> {
        self.site.ready_operator(&self.installation.home()).await
    }

    pub fn pods(&self) -> kube::Api<Pod> {
        kube::Api::namespaced(self.site.ground.client.clone(), &self.installation.home())
    }
}
