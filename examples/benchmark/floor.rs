//! The floor: the least that any operator must do. For each secret one read of Vault, one apply of the Secret and one
//! patch of the status, as large as the operator's own; no watch, no list, no check, no event. As many at a time as
//! helps it, over connections that stay open, with the operator's HTTP client, HTTP version and TLS.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _};
use ground::resources::resources;
use ground::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use ground::vault::KUBERNETES_AUTH;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::site::{Site, UNLIMITED};

/// How many at a time are tried.
const AT_A_TIME: [usize; 4] = [8, 16, 32, 64];

/// What the operator asks for in place of a whole Secret.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// What the operator writes for one resource: the floor writes as much.
pub struct Template {
    secret: Value,
    status: Value,
}

impl Template {
    /// Lets an operator write one. That also warms the API server and Vault up.
    pub async fn take(bench: &Bench) -> Result<Self> {
        let site = Site::make(bench, "template", 1, "1000h").await?;
        let operator = site.operator(bench, UNLIMITED).await?;
        site.wait_all_ready().await?;
        let name = Site::name(0);
        let secret = site.tenant.secret(&name).await?.context("no Secret")?;
        let resource = resources(&site.tenant, "VaultStaticSecret")
            .get(&name)
            .await?;
        drop(operator);
        Ok(Self {
            secret: json!({
                "apiVersion": "v1", "kind": "Secret", "type": secret.type_,
                "metadata": {
                    "labels": secret.metadata.labels,
                    "annotations": secret.metadata.annotations,
                    "ownerReferences": secret.metadata.owner_references,
                },
            }),
            status: json!({ "status": resource.data["status"] }),
        })
    }
}

/// The floor at one tenant, logged in as its operator is.
pub struct Floor<'a> {
    http: Client,
    site: &'a Site,
    template: &'a Template,
    api_url: &'a str,
    api_token: String,
    vault_token: String,
    uids: Vec<String>,
}

impl<'a> Floor<'a> {
    /// Gets its tokens, and the uids that its Secrets' owner references need.
    pub async fn at(bench: &'a Bench, site: &'a Site, template: &'a Template) -> Result<Self> {
        let tenant = &site.tenant;
        let ca = reqwest::Certificate::from_pem(tenant.ca_pem.as_bytes())?;
        let jwt = tenant.token(APP_ACCOUNT, &[AUDIENCE]).await?;
        let login = tenant
            .vault
            .kubernetes_login(KUBERNETES_AUTH, tenant.vault_role(), &jwt)
            .await?;
        let vault_token = login["client_token"].as_str().context("no token")?;
        Ok(Self {
            http: Client::builder().tls_certs_only([ca]).no_proxy().build()?,
            site,
            template,
            api_url: &bench.ground.plane.url,
            api_token: tenant.token(OPERATOR_ACCOUNT, &[]).await?,
            vault_token: vault_token.to_owned(),
            uids: site.uids().await?,
        })
    }

    /// All secrets of the site, so many at a time; answers when it began.
    pub async fn all(&self, at_a_time: usize) -> Result<Timestamp> {
        let began = Timestamp::now();
        futures::stream::iter(self.uids.iter().enumerate())
            .map(async |(number, uid)| {
                let name = Site::name(number);
                self.write(&name, uid).await?;
                self.report(&name).await
            })
            .buffer_unordered(at_a_time)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(began)
    }

    /// One read and one apply.
    pub async fn write(&self, name: &str, uid: &str) -> Result<()> {
        let tenant = &self.site.tenant;
        let url = format!("{}/v1/{}/data/{name}", tenant.vault_address, tenant.kv2);
        let read = self
            .http
            .get(url)
            .header("X-Vault-Token", &self.vault_token);
        let answer: Value = serde_json::from_slice(&answer(read).await?)?;
        let found = &answer["data"];
        let mut secret = self.template.secret.clone();
        secret["metadata"]["name"] = json!(name);
        secret["metadata"]["ownerReferences"][0]["name"] = json!(name);
        secret["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
        secret["data"]["_raw"] = json!(STANDARD.encode(found.to_string()));
        for (key, value) in found["data"].as_object().context("no data")? {
            let value = value.as_str().unwrap_or_default();
            secret["data"][key] = json!(STANDARD.encode(value));
        }
        let namespace = &tenant.namespace;
        let path = format!("api/v1/namespaces/{namespace}/secrets/{name}");
        let apply = self
            .patch(&path, "application/apply-patch+yaml")
            .header(ACCEPT, METADATA_ONLY)
            .body(secret.to_string());
        answer_of_patch(apply).await
    }

    async fn report(&self, name: &str) -> Result<()> {
        let namespace = &self.site.tenant.namespace;
        let kind = format!("apis/secrets.hashicorp.com/v1beta1/namespaces/{namespace}");
        let patch = self
            .patch(
                &format!("{kind}/vaultstaticsecrets/{name}/status"),
                "application/merge-patch+json",
            )
            .body(self.template.status.to_string());
        answer_of_patch(patch).await
    }

    fn patch(&self, path: &str, content_type: &str) -> RequestBuilder {
        let url = format!("{}/{path}?fieldManager=floor", self.api_url);
        self.http
            .request(Method::PATCH, url)
            .bearer_auth(&self.api_token)
            .header(CONTENT_TYPE, content_type)
    }
}

async fn answer_of_patch(request: RequestBuilder) -> Result<()> {
    answer(request).await.map(drop)
}

/// The body of a 2xx.
async fn answer(request: RequestBuilder) -> Result<Vec<u8>> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    ensure!(
        status.is_success(),
        "the floor is answered {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body.to_vec())
}

/// How many at a time make the floor fastest on this machine.
pub async fn best(bench: &Bench, template: &Template, resources: usize) -> Result<usize> {
    let mut tried = Vec::new();
    for at_a_time in AT_A_TIME {
        let site = Site::make(bench, "floor-trial", resources, "1000h").await?;
        let began = Floor::at(bench, &site, template)
            .await?
            .all(at_a_time)
            .await?;
        let took = Timestamp::now().duration_since(began).as_secs_f64();
        eprintln!("the floor, {at_a_time} at a time: {took:.2} s");
        tried.push((took, at_a_time));
    }
    let best = tried
        .into_iter()
        .min_by(|one, other| one.0.total_cmp(&other.0));
    Ok(best.context("nothing was tried")?.1)
}
