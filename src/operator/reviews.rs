//! What the operator may do: asked once for each namespace at start, and again
//! while something is missing; single rights when one was refused. Every account
//! may ask this about itself (`system:basic-user`).

use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::Operator;
use super::cluster::KubeCluster;
use crate::problem::Problem;
use crate::rights::{Difference, Granted, Right, as_rules, compare};

/// How long the answer about a single right is believed.
const REVIEW_LIFE: Duration = Duration::from_secs(60);

/// Between two looks at all rights, while something is missing.
const PAUSE: Duration = Duration::from_secs(30);

/// Between two looks whether the first lists are here.
const WAIT: Duration = Duration::from_millis(500);

/// The most single rights that are asked for after an answer that is not whole.
const SINGLE_LIMIT: usize = 64;

/// The answers about single rights, by namespace and right.
pub type Answers = std::collections::HashMap<(String, Right), (Instant, bool)>;

impl KubeCluster {
    /// Whether the operator has one right in a namespace; `anew`: by no answer of
    /// before.
    ///
    /// # Errors
    /// Transport.
    pub(super) async fn ask(
        &self,
        namespace: &str,
        right: &Right,
        anew: bool,
    ) -> Result<bool, Problem> {
        let key = (namespace.to_owned(), right.clone());
        let known = self.reviews.borrow().get(&key).copied();
        if let Some((asked, allowed)) = known
            && !anew
            && asked.elapsed() < REVIEW_LIFE
        {
            return Ok(allowed);
        }
        let (resource, subresource) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: given(&right.group),
                    resource: given(resource),
                    subresource: given(subresource),
                    name: right.name.clone(),
                    verb: given(&right.verb),
                    namespace: given(namespace),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let request = api.create(&params, &review);
        let what = || format!("ask whether it may {right} in {namespace}");
        let answer = self.count("create", what, request).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let mut reviews = self.reviews.borrow_mut();
        reviews.retain(|_, (asked, _)| asked.elapsed() < REVIEW_LIFE);
        reviews.insert(key, (Instant::now(), allowed));
        Ok(allowed)
    }

    /// All rules that hold for the operator in a namespace, and whether that is
    /// all: authorizers other than RBAC need not know.
    async fn granted(&self, namespace: &str) -> Result<(Vec<Granted>, bool), Problem> {
        let review = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec {
                namespace: Some(namespace.to_owned()),
            },
            ..SelfSubjectRulesReview::default()
        };
        let api: Api<SelfSubjectRulesReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let request = api.create(&params, &review);
        let what = || format!("ask what it may do in {namespace}");
        let answer = self.count("create", what, request).await?;
        let status = answer.status.unwrap_or_default();
        let rules = status.resource_rules.iter().map(Granted::from).collect();
        Ok((rules, !status.incomplete))
    }

    async fn compared(&self, engine: &Operator, namespace: &str) -> Result<Difference, Problem> {
        let (granted, whole) = self.granted(namespace).await?;
        let mut found = compare(&engine.needed_in(namespace), &granted);
        if !whole {
            let mut missing = std::collections::BTreeSet::new();
            for right in found.missing.into_iter().take(SINGLE_LIMIT) {
                if !self.ask(namespace, &right, false).await? {
                    missing.insert(right);
                }
            }
            found.missing = missing;
        }
        Ok(found)
    }
}

/// Looks at the operator's rights in a namespace: once what is needed there is
/// known, and again while something is missing or was refused.
pub async fn run(engine: Rc<Operator>, cluster: Rc<KubeCluster>, namespace: String) {
    while !engine.knows_what_is_asked() {
        tokio::time::sleep(WAIT).await;
    }
    let mut told = Difference::default();
    loop {
        let missing = match cluster.compared(&engine, &namespace).await {
            Ok(found) => {
                if found.surplus != told.surplus && !found.surplus.is_empty() {
                    let rules = as_rules(&found.surplus);
                    tracing::warn!(
                        namespace,
                        rules,
                        "the operator may do more than it needs, take it out of its Roles"
                    );
                }
                let missing = engine.reviewed(&namespace, &found);
                told = found;
                missing
            }
            Err(problem) => {
                tracing::info!(namespace, %problem, "the operator's rights are not known, asking again");
                true
            }
        };
        if !missing {
            engine.refused_in(&namespace).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
