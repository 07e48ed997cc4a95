//! The real API server answers as the simulation's model does: one script, one
//! transcript for both.

use anyhow::{Result, ensure};
use ground::Tenant;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use vault_tenant_operator::operator::cluster_port;

use crate::script::{EXPECTED, People, run};
use crate::support::{Suite, deployment, resources, static_secret};

crate::trials!["conformance": the_real_api_server_answers_as_the_model];

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
