//! What the operator keeps of the workloads that resources restart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::key::ObjectKey;

/// Kinds of workloads that a rollout can restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `apps/v1 Deployment`
    Deployment,
    /// `apps/v1 StatefulSet`
    StatefulSet,
    /// `apps/v1 DaemonSet`
    DaemonSet,
    /// `argoproj.io/v1alpha1 Rollout` of Argo Rollouts
    ArgoRollout,
}

impl WorkloadKind {
    /// Whether its controller says itself that a rollout does not get on.
    #[must_use]
    pub const fn tells_failure(self) -> bool {
        matches!(self, Self::Deployment | Self::ArgoRollout)
    }

    /// All of them.
    pub const ALL: [WorkloadKind; 4] = [
        WorkloadKind::Deployment,
        WorkloadKind::StatefulSet,
        WorkloadKind::DaemonSet,
        WorkloadKind::ArgoRollout,
    ];

    /// As manifests write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::DaemonSet => "DaemonSet",
            WorkloadKind::ArgoRollout => "argo.Rollout",
        }
    }

    /// Its API group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            WorkloadKind::ArgoRollout => "argoproj.io",
            _ => "apps",
        }
    }

    /// Its plural, as URLs and Roles have it.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployments",
            WorkloadKind::StatefulSet => "statefulsets",
            WorkloadKind::DaemonSet => "daemonsets",
            WorkloadKind::ArgoRollout => "rollouts",
        }
    }

    /// The kind of that name, if it is one of these.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Where it is.
    pub object: ObjectKey,
}

impl std::fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.object.name)
    }
}

/// A Secret that a pod template uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Its name; it is in the namespace of the workload.
    pub secret: String,
    /// The keys without which the pods do not start: each that is named, and not as optional.
    pub keys: BTreeSet<String>,
}

/// How the last rollout of a workload stands, and what the next one may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Whether pods of an older template are still there, as far as status tells.
    pub under_way: bool,
    /// Whether it did not get on within its deadline.
    pub failing: bool,
    /// Whether a new template leaves pods to be replaced by hand: `OnDelete`, or
    /// below a partition.
    pub by_hand: bool,
    /// Whether the controller has its own part of such a rollout still to do: the
    /// pods above the partition.
    pub has_part: bool,
    /// Whether somebody took the last restart back before it was through.
    pub undone: bool,
    /// Whether status says that no pod is still ending.
    pub sees_ends: bool,
    /// How many pods it should have.
    pub pods: i64,
    /// How many pods are of the newest template, while it is under way.
    pub updated: i64,
    /// When that was last seen to grow.
    pub got_on: Option<Timestamp>,
    /// When this process first saw that it is under way.
    pub seen: Option<Timestamp>,
    /// Whether pods of an older template are left.
    pub leaves_old: bool,
    /// Seconds within which it gets on (`spec.progressDeadlineSeconds`).
    pub deadline: u32,
    /// Seconds that its pods are given to end.
    pub grace: u32,
}

impl Rollout {
    /// Whether what is left of it waits for a person.
    #[must_use]
    pub const fn awaits_hand(&self) -> bool {
        self.by_hand && !self.has_part
    }
}

/// What the operator keeps of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadMeta {
    /// Uid, the first half of the fence.
    pub uid: String,
    /// resourceVersion, the second half.
    pub resource_version: String,
    /// A digest of the pod template.
    pub pod_template: u64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether a deletion has begun.
    pub deleting: bool,
    /// `spec.paused` of a Deployment or a Rollout.
    pub paused: bool,
    /// How its last rollout stands.
    pub rollout: Rollout,
    /// Our annotations on the workload itself, by full name.
    pub annotations: BTreeMap<String, String>,
    /// Our annotations on the pod template, by full name; of a Rollout, whose template
    /// no restart changes, the same on itself.
    pub template: BTreeMap<String, String>,
    /// The workload's own labels; `None` where it has more than are looked at.
    pub labels: Option<BTreeMap<String, String>>,
    /// The Secrets that its pod template uses, by name.
    pub uses: Vec<Use>,
}

impl WorkloadMeta {
    /// Notes at `now` what this process knows of a rollout that is under way, beside what the
    /// workload says, which was like `before`: since when, and when it last got on.
    pub fn note_progress(&mut self, before: Option<&Self>, now: Timestamp) {
        if !self.rollout.under_way {
            return;
        }
        let is = &mut self.rollout;
        let before = before.filter(|before| before.uid == self.uid && before.rollout.under_way);
        let Some(before) = before else {
            is.seen = Some(now);
            return;
        };
        let was = before.rollout;
        // What is left of it begins anew where it no longer waits for a person.
        let resumes = was.awaits_hand() && !is.awaits_hand();
        let got_on = is.updated > was.updated || resumes;
        is.got_on = got_on.then_some(now).or(was.got_on);
        is.seen = was.seen;
        if before.pod_template == self.pod_template && is.pods >= was.pods {
            // A pod that went and comes again is none more.
            is.updated = is.updated.max(was.updated);
        }
    }

    /// Whether anything but the resourceVersion differs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let same_version = |meta: &Self| Self {
            resource_version: String::new(),
            ..meta.clone()
        };
        same_version(self) != same_version(other)
    }
}

#[cfg(test)]
#[path = "workloads_tests.rs"]
mod tests;
