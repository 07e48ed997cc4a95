//! A Role from which single rights are taken, and what names a right that is
//! lacking.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::judges::role_use::{Right, rights};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Tenant, wait_for};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::install::is_allowed;
use crate::support::LONG;

/// A Role of the cluster, from which single rights can be taken.
pub struct Shipped {
    tenant: Tenant,
    name: &'static str,
    pub rights: BTreeSet<Right>,
}

impl Shipped {
    pub async fn of(tenant: &Tenant, name: &'static str) -> Result<Self> {
        let roles: Api<Role> = tenant.api();
        let rules = roles.get(name).await?.rules.context("no rules")?;
        let shipped = Self {
            tenant: tenant.clone(),
            name,
            rights: rights(&rules),
        };
        ensure!(!shipped.rights.is_empty(), "{name} gives nothing");
        Ok(shipped)
    }

    /// Takes the right away, and waits until the API server knows.
    pub async fn without(&self, right: &Right) -> Result<()> {
        self.without_each(&BTreeSet::from([right.clone()])).await
    }

    /// Takes several away.
    pub async fn without_each(&self, rights: &BTreeSet<Right>) -> Result<()> {
        self.set(self.rights.difference(rights)).await?;
        for right in rights {
            self.wait(right, false).await?;
        }
        Ok(())
    }

    /// Gives it back.
    pub async fn with(&self, right: &Right) -> Result<()> {
        self.with_all(&BTreeSet::from([right.clone()])).await
    }

    /// Gives several back.
    pub async fn with_all(&self, rights: &BTreeSet<Right>) -> Result<()> {
        self.set(self.rights.iter()).await?;
        for right in rights {
            self.wait(right, true).await?;
        }
        Ok(())
    }

    async fn set(&self, rights: impl Iterator<Item = &Right>) -> Result<()> {
        let rules = rights.map(|right| PolicyRule {
            api_groups: Some(vec![right.group.clone()]),
            resources: Some(vec![right.resource.clone()]),
            resource_names: right.name.clone().map(|name| vec![name]),
            verbs: vec![right.verb.clone()],
            ..PolicyRule::default()
        });
        let patch = Patch::Merge(json!({ "rules": rules.collect::<Vec<_>>() }));
        let roles: Api<Role> = self.tenant.api();
        roles
            .patch(self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn wait(&self, right: &Right, allowed: bool) -> Result<()> {
        let namespace = &self.tenant.namespace;
        let user = format!("system:serviceaccount:{namespace}:{OPERATOR_ACCOUNT}");
        let (resource, subresource) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        let attributes = json!({
            "namespace": namespace, "verb": right.verb, "group": right.group,
            "resource": resource, "subresource": subresource, "name": right.name,
        });
        wait_for(&format!("{right}: {allowed}"), LONG, || async {
            let now = is_allowed(&self.tenant, &user, &attributes).await?;
            ensure!(now == allowed, "it is {now}");
            Ok(())
        })
        .await
    }
}

/// Whether a text names the right as one that is lacking.
pub fn names(text: &str, right: &Right) -> bool {
    // A log holds the quotes of a message escaped.
    let text = text.replace('\\', "");
    let refusal = format!("cannot {} resource \"{}\"", right.verb, right.resource);
    let named = |line: &str| right.name.as_ref().is_none_or(|name| line.contains(name));
    text.lines()
        .any(|line| line.contains(&refusal) && named(line))
}
