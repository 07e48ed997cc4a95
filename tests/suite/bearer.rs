//! A team whose login may have a real PKI engine issue certificates, and what its
//! trials look at.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::{PkiEngine, PkiRole};
use ground::{Right, wait_for};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::QUICK;
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team, merge};

/// The kind that these trials are about.
pub const KIND: &str = "VaultPKISecret";

/// The type of Secret that TLS servers read.
pub const TLS: &str = "kubernetes.io/tls";

/// A team with a PKI engine.
pub struct Bearer {
    pub team: Team,
    pub engine: PkiEngine,
    /// Where the role `web` issues.
    pub issue: String,
}

impl Bearer {
    pub async fn start(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &PkiRole,
    ) -> Result<Self> {
        Self::with(suite, grade, name, names, role, QUICK).await
    }

    /// The same, with another configuration of the operator.
    pub async fn with(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &PkiRole,
        more: &str,
    ) -> Result<Self> {
        let (tenant, more) = tenant_of(suite, grade, name, names, more).await?;
        let engine = tenant
            .pki_engine(Duration::from_secs(30 * 24 * 3600))
            .await?;
        let issue = engine.role("web", role).await?;
        let revoke = format!("{}/revoke", engine.mount);
        let all = [&issue, revoke.as_str()];
        tenant.grant(&all, &Right::ALL).await?;
        let team = Team::of(suite, tenant, None, &more).await?;
        Ok(Self {
            team,
            engine,
            issue,
        })
    }

    /// A VaultPKISecret for the role `web` into the Secret of its name.
    pub fn manifest(&self, name: &str, more: Value) -> Value {
        let mut spec = json!({
            "mount": self.engine.mount, "role": "web", "commonName": "web.test",
            "destination": { "name": name, "create": true },
        });
        merge(&mut spec, more);
        json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": KIND,
            "metadata": { "name": name }, "spec": spec,
        })
    }

    pub async fn ask(&self, name: &str, more: Value) -> Result<()> {
        let manifest = self.manifest(name, more).to_string();
        self.team.tenant.apply(&manifest).await?;
        Ok(())
    }

    /// Waits until it is synced, and answers with the serial number that status names.
    pub async fn wait_serial(&self, name: &str) -> Result<String> {
        self.team
            .wait_condition(KIND, name, "Ready", "True")
            .await?;
        self.serial_of(name).await
    }

    /// Waits for another serial number.
    pub async fn wait_other(&self, name: &str, than: &str) -> Result<String> {
        wait_for(
            &format!("another certificate than {than}"),
            LONG,
            || async {
                let serial = self.serial_of(name).await?;
                ensure!(serial != than, "still that one");
                Ok(serial)
            },
        )
        .await
    }

    pub async fn serial_of(&self, name: &str) -> Result<String> {
        let status = self.status(name).await?;
        let serial = status["serialNumber"].as_str().context("no serial")?;
        Ok(serial.to_owned())
    }

    pub async fn status(&self, name: &str) -> Result<Value> {
        self.team.status(KIND, name).await
    }

    /// Waits for a condition `Certificate` with this reason.
    pub async fn wait_told(&self, name: &str, reason: &str) -> Result<String> {
        let of = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| c.reason == reason;
        let told = self
            .team
            .wait_for_condition(KIND, name, "Certificate", of)
            .await?;
        Ok(told.message)
    }

    /// The certificate that the Secret holds.
    pub async fn der(&self, secret: &str) -> Result<CertificateDer<'static>> {
        let text = self.team.value(secret, "certificate").await?;
        Ok(CertificateDer::from_pem_slice(text.as_bytes())?)
    }

    /// How many certificates the operator was given so far.
    pub fn issued(&self, suite: &Suite) -> Result<usize> {
        Ok(self.issues(suite)?.len())
    }

    /// When each of them was issued.
    pub fn issues(&self, suite: &Suite) -> Result<Vec<Timestamp>> {
        let eye = Eye::on(suite, &self.team);
        let issues = eye.vault.requests(&eye.at_vault().path(&self.issue))?;
        Ok(issues.into_iter().map(|issue| issue.at).collect())
    }

    /// However late we look: some were issued after the first, and none sooner after the
    /// one before than this.
    pub fn issued_apart(&self, suite: &Suite, least: Duration) -> Result<()> {
        let issues = self.issues(suite)?;
        ensure!(issues.len() >= 2, "{issues:?}");
        let gaps = issues.windows(2).map(|two| two[1].duration_since(two[0]));
        let soonest = gaps.min().context("no gap")?;
        ensure!(soonest.unsigned_abs() >= least, "{issues:?}");
        Ok(())
    }

    /// How often the operator asked for a revocation.
    pub fn revocations(&self, suite: &Suite) -> Result<usize> {
        let eye = Eye::on(suite, &self.team);
        let path = format!("{}/revoke", self.engine.mount);
        eye.vault.count(&eye.at_vault().path(&path))
    }

    /// Whether Vault's engine holds it for revoked.
    pub async fn is_revoked(&self, serial: &str) -> Result<bool> {
        let path = format!("{}/cert/{serial}", self.engine.mount);
        let found = self.team.tenant.vault.read(&path).await?;
        let at = found["data"]["revocation_time"].as_i64();
        Ok(at.context("no revocation time")? > 0)
    }

    pub async fn wait_revoked(&self, serial: &str) -> Result<()> {
        wait_for(&format!("the revocation of {serial}"), LONG, || async {
            ensure!(self.is_revoked(serial).await?, "it is not");
            Ok(())
        })
        .await
    }

    pub async fn edit(&self, name: &str, patch: Value) -> Result<()> {
        self.team.merge_into(KIND, name, patch).await
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.team.delete(KIND, name).await
    }
}
