//! What the tour looks at: Secrets, conditions, events and restarts, always as an administrator and always from the API
//! server. Nothing here changes anything or trusts the operator's own word alone.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::{Kind, Templates};
use ground::{Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Resource, ResourceExt};

/// Long enough for a busy machine; a step that takes longer has failed.
pub const LONG: Duration = Duration::from_secs(90);

/// The Secret when one of its keys has this value.
pub async fn secret_with(tenant: &Tenant, name: &str, key: &str, value: &str) -> Result<Secret> {
    let what = format!("{key} of the Secret {name} to be {value:?}");
    wait_for(&what, LONG, || async {
        let secret = tenant.secret(name).await?;
        let secret = secret.with_context(|| format!("there is no Secret {name}"))?;
        let data = secret.data.as_ref();
        let found = data.and_then(|data| data.get(key));
        let found = found.with_context(|| format!("the Secret {name} has no key {key}"))?;
        let found = String::from_utf8_lossy(&found.0);
        ensure!(found == value, "it is {found:?}");
        Ok(secret)
    })
    .await
}

/// A condition of a resource when it has this status and speaks of the present generation.
pub async fn condition<K>(
    tenant: &Tenant,
    name: &str,
    type_: &str,
    status: &str,
) -> Result<Condition>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let what = format!("{type_}={status} of {} {name}", resource.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(tenant.client.clone(), &tenant.namespace, &resource);
    wait_for(&what, LONG, || async {
        let object = api.get(name).await?;
        let list = object.data["status"]["conditions"].clone();
        let conditions: Vec<Condition> = serde_json::from_value(list).unwrap_or_default();
        let found = conditions.iter().find(|condition| {
            condition.type_ == type_ && condition.observed_generation == object.metadata.generation
        });
        let found = found.with_context(|| seen(&conditions))?;
        ensure!(found.status == status, "{}", seen(&conditions));
        Ok(found.clone())
    })
    .await
}

fn seen(conditions: &[impl Debug]) -> String {
    format!("its conditions are {conditions:?}")
}

/// The sentence of an event about an object, once there is one with this reason that holds this text.
pub async fn event(tenant: &Tenant, about: &str, reason: &str, text: &str) -> Result<String> {
    let what = format!("an event {reason} about {about} that names {text}");
    wait_for(&what, LONG, || async {
        let events = tenant.api::<Event>().list(&ListParams::default()).await?;
        let mut notes = events
            .items
            .into_iter()
            .filter(|event| {
                let name = event.regarding.as_ref().and_then(|it| it.name.as_deref());
                name == Some(about) && event.reason.as_deref() == Some(reason)
            })
            .filter_map(|event| event.note);
        let found = notes.find(|note| note.contains(text));
        found.context("no such event yet")
    })
    .await
}

/// Waits until all pods of a Deployment have its present template and are available; returns how many.
pub async fn rolled_out(tenant: &Tenant, name: &str) -> Result<i32> {
    let what = format!("the Deployment {name} to be rolled out");
    wait_for(&what, LONG, || async {
        let deployment = tenant.api::<Deployment>().get(name).await?;
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let status = deployment.status.clone().unwrap_or_default();
        ensure!(
            status.observed_generation == deployment.metadata.generation
                && status.replicas == wanted
                && status.updated_replicas == wanted
                && status.available_replicas == wanted,
            "its status is {status:?}"
        );
        Ok(wanted.unwrap_or_default())
    })
    .await
}

/// How often a Deployment has rolled since it was made.
pub async fn restarts(tenant: &Tenant, name: &str) -> Result<usize> {
    let (client, namespace) = (&tenant.client, &tenant.namespace);
    let templates = Templates::of(client, Kind::Deployment, namespace, name).await?;
    Ok(templates.restarts())
}

/// The keys of a Secret in words.
pub fn keys(secret: &Secret) -> String {
    let keys = secret.data.iter().flatten().map(|(key, _)| key.as_str());
    keys.collect::<Vec<_>>().join(" and ")
}

/// Who owns an object: `KIND NAME`, or nobody.
pub fn owner(object: &impl Resource) -> String {
    let owner = object.owner_references().first();
    owner.map_or("nobody".to_owned(), |owner| {
        format!("{} {}", owner.kind, owner.name)
    })
}
