//! What the operator may do: asked for each namespace at start, soon again while
//! something is missing, and now and then for what has changed since; single rights
//! when one was refused. Every account may ask this about itself (`system:basic-user`).

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
use crate::rights::{Difference, Granted, Right, compare};

/// How long the answer about a single right is believed.
const REVIEW_LIFE: Duration = Duration::from_secs(60);

/// Between two looks at all rights, while something is missing.
const PAUSE: Duration = Duration::from_secs(30);

/// Between two looks at all rights, while nothing is missing: who changed a Role is
/// told what it gives too much, and that this is gone.
const PERIOD: Duration = Duration::from_secs(600);

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
/// known, and again as [`keep_looking`] has it.
pub async fn run(engine: Rc<Operator>, cluster: Rc<KubeCluster>, namespace: String) {
    while !engine.knows_what_is_asked() {
        tokio::time::sleep(WAIT).await;
    }
    let look = async || match cluster.compared(&engine, &namespace).await {
        Ok(found) => engine.reviewed(&namespace, &found),
        Err(problem) => {
            tracing::info!(namespace, %problem, "the operator's rights are not known, asking again");
            true
        }
    };
    keep_looking(look, async || engine.refused_in(&namespace).await).await;
}

/// Looks for ever: after [`PAUSE`] where the look tells that something is missing, or
/// once `refused` ends since a refusal has shown it, and after [`PERIOD`] otherwise.
async fn keep_looking(look: impl AsyncFn() -> bool, refused: impl AsyncFn()) {
    loop {
        let missing = look().await || tokio::time::timeout(PERIOD, refused()).await.is_ok();
        if missing {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    /// How many looks there are in the first hour.
    async fn looks_in_an_hour(missing: bool, refused: impl AsyncFn()) -> usize {
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            missing
        };
        let hour = Duration::from_secs(3600) - Duration::from_millis(1);
        let ended = tokio::time::timeout(hour, keep_looking(look, refused)).await;
        assert!(ended.is_err(), "it looks for ever");
        looks.get()
    }

    #[tokio::test(start_paused = true)]
    async fn rights_are_looked_at_every_ten_minutes_and_soon_again_while_one_is_missing() {
        assert_eq!(looks_in_an_hour(false, async || pending().await).await, 6);
        assert_eq!(looks_in_an_hour(true, async || pending().await).await, 120);
        // A refusal in the second minute of each of them.
        let refused = async || tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(looks_in_an_hour(false, refused).await, 30);
    }
}
