//! A team with many secrets, for trials in which the number is what matters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::faults::HttpProxy;
use ground::judges::workloads::Kind;
use ground::{Tenant, wait_for};
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{vault_proxy, workload};
use crate::support::{LONG, Suite, Team};

/// A team with many secrets and a workload that restarts with the first of them.
pub struct Many {
    pub team: Team,
    count: usize,
}

impl Many {
    /// The name of the one with this number, and its first content.
    pub fn name(number: usize) -> String {
        format!("s-{number:03}")
    }

    /// What a team with so many names, and with these others.
    pub async fn tenant(
        suite: &Suite,
        grade: Grade,
        name: &str,
        (count, others): (usize, &[&str]),
        more: &str,
    ) -> Result<(Tenant, String)> {
        let made: Vec<String> = (0..count).map(Self::name).collect();
        let made = made.iter().map(String::as_str);
        let secrets: Vec<&str> = made.chain(others.iter().copied()).collect();
        let names = Names {
            secrets: &secrets,
            workloads: &[(Kind::Deployment, "app")],
        };
        // Some are more than are watched: soon looked at.
        let more = format!("  pollInterval: 2s\n{more}");
        tenant_of(suite, grade, name, names, &more).await
    }

    /// The same as a team, with a proxy in front of Vault.
    pub async fn team_behind_vault_proxy(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: (usize, &[&str]),
        more: &str,
    ) -> Result<(Team, HttpProxy)> {
        let (mut tenant, more) = Self::tenant(suite, grade, name, names, more).await?;
        let proxy = vault_proxy(&suite.ground).await?;
        tenant.vault_address = proxy.url();
        let team = Team::of(suite, tenant, None, &more).await?;
        Ok((team, proxy))
    }

    fn is_one(name: &str) -> bool {
        name.starts_with("s-")
    }

    /// Makes them, each read again after `refresh`; all are ready.
    pub async fn make(team: Team, count: usize, refresh: &str) -> Result<Self> {
        let app = workload(Kind::Deployment, "app", &Self::name(0), json!({}));
        team.tenant.apply(&app.to_string()).await?;
        let make = async |number: usize| {
            let name = Self::name(number);
            team.put(&name, json!({ "value": name })).await?;
            let mut more = json!({ "refreshAfter": refresh });
            if number == 0 {
                more["rolloutRestartTargets"] = json!([{ "kind": "Deployment", "name": "app" }]);
            }
            team.static_secret(&name, more).await
        };
        futures::stream::iter(0..count)
            .map(make)
            .buffer_unordered(8)
            .try_collect::<Vec<_>>()
            .await?;
        let made = Self { team, count };
        made.wait_all_ready().await?;
        made.team.wait_current(&Self::name(0)).await?;
        Ok(made)
    }

    /// The messages of those conditions Ready of its secrets that are as `wanted`, once all are.
    async fn wait_all(
        &self,
        what: &str,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<String>> {
        wait_for(what, LONG, || async {
            let kind = self.team.resources("VaultStaticSecret");
            let all = kind.list(&ListParams::default()).await?;
            let told: Vec<String> = all
                .iter()
                .filter(|one| Self::is_one(&one.name_any()))
                .filter_map(|one| {
                    let conditions = one.data["status"]["conditions"].as_array()?;
                    let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
                    let (status, reason) = (ready["status"].as_str()?, ready["reason"].as_str()?);
                    wanted(status, reason).then(|| ready["message"].to_string())
                })
                .collect();
            ensure!(told.len() == self.count, "{} of {}", told.len(), self.count);
            Ok(told)
        })
        .await
    }

    /// Waits until all are ready.
    pub async fn wait_all_ready(&self) -> Result<()> {
        self.wait_all("all to be ready", |status, _| status == "True")
            .await
            .map(drop)
    }

    /// Waits until none is ready for this reason, and answers with the messages.
    pub async fn wait_all_told(&self, reason: &str) -> Result<Vec<String>> {
        let what = format!("all to say {reason}");
        self.wait_all(&what, |status, said| status == "False" && said == reason)
            .await
    }

    /// Uid and version of each destination.
    pub async fn contents(&self) -> Result<BTreeMap<String, String>> {
        let all = self.team.secrets().list(&ListParams::default()).await?;
        let mut contents = BTreeMap::new();
        for secret in all {
            let meta = secret.metadata;
            let name = meta.name.context("no name")?;
            if Self::is_one(&name) {
                contents.insert(name, format!("{:?} {:?}", meta.uid, meta.resource_version));
            }
        }
        Ok(contents)
    }

    /// The conditions of each of its resources.
    pub async fn conditions(&self) -> Result<BTreeMap<String, String>> {
        let kind = self.team.resources("VaultStaticSecret");
        let all = kind.list(&ListParams::default()).await?;
        let of =
            |one: DynamicObject| (one.name_any(), one.data["status"]["conditions"].to_string());
        Ok(all
            .into_iter()
            .map(of)
            .filter(|(name, _)| Self::is_one(name))
            .collect())
    }
}
