//! Several workloads over time, under any policy: how many roll at once, when, and how often each restarts.

use proptest::prelude::*;

use super::*;
use crate::config::window;
use crate::reconcile::pace::progress;
use crate::reconcile::view::Rollout as Rolling;

const RESOURCES: [&str; 3] = ["app", "db", "tls"];

/// Which resources restart each workload.
const USES: [&[usize]; 4] = [&[0], &[0, 1], &[1, 2], &[0, 1, 2]];

/// Seconds within which a rollout must get on; none takes longer.
const DEADLINE: u32 = 600;

/// A namespace with its workloads, each with its restarts so far.
struct Namespace {
    policy: Rollout,
    takes: i64,
    wanted: Vec<Wanted>,
    workloads: Vec<(WorkloadMeta, Vec<i64>)>,
}

impl Namespace {
    fn new(policy: Rollout, takes: i64) -> Self {
        let first = |name: &&str| {
            let mut first = wanted(name, "first", 0);
            first.state.initial = true;
            first
        };
        let workload = || WorkloadMeta {
            created: Some(at(0)),
            rollout: Rolling {
                deadline: DEADLINE,
                ..Rolling::default()
            },
            ..WorkloadMeta::default()
        };
        Self {
            policy,
            takes,
            wanted: RESOURCES.iter().map(first).collect(),
            workloads: USES.map(|_| (workload(), Vec::new())).into(),
        }
    }

    fn change(&mut self, resource: usize, now: i64) {
        let text = format!("of {now}");
        self.wanted[resource] = wanted(RESOURCES[resource], &text, now);
    }

    /// Ends the rollouts that are through; answers with when the next one is.
    fn roll(&mut self, now: i64) -> Option<i64> {
        let takes = self.takes;
        let mut next = None;
        for (workload, restarts) in &mut self.workloads {
            let ends = restarts.last().map(|began| began + takes);
            workload.rollout.under_way = ends.is_some_and(|ends| ends > now);
            next = next
                .into_iter()
                .chain(ends.filter(|ends| *ends > now))
                .min();
        }
        next
    }

    fn rolling(&self, but: usize, now: i64) -> Vec<Timestamp> {
        let others = self.workloads.iter().enumerate();
        let others = others.filter(|(number, _)| *number != but);
        others
            .filter_map(|(_, (other, restarts))| {
                let began = restarts.last().map(|began| at(*began));
                progress(other, began, None, at(now)).rolls_until
            })
            .collect()
    }

    /// One workload's turn; answers with when it is looked at again.
    fn turn(&mut self, number: usize, now: i64) -> Result<Option<i64>, TestCaseError> {
        let rolling = self.rolling(number, now);
        let used: Vec<Wanted> = USES[number]
            .iter()
            .map(|resource| self.wanted[*resource].clone())
            .collect();
        let (workload, restarts) = &mut self.workloads[number];
        let scene = |_: &[&Wanted]| Scene {
            own: progress(
                workload,
                restarts.last().map(|began| at(*began)),
                None,
                at(now),
            ),
            rolling: rolling.len(),
            free_at: rolling.iter().min().copied(),
            ..Scene::default()
        };
        let decided = decide(workload, &used, &key(1), &self.policy, scene, at(now));
        let again = decided.again.map(Timestamp::as_second);
        let Some(patch) = decided.patch else {
            return Ok(again);
        };
        workload.annotations.extend(patch.annotations);
        if patch.template.is_empty() {
            return Ok(again);
        }
        let most = usize::from(self.policy.max_concurrent);
        prop_assert!(
            most == 0 || rolling.len() < most,
            "{rolling:?} roll at {now}"
        );
        let open = window::opening(&self.policy.windows, at(now)) == Some(at(now));
        prop_assert!(open, "outside of the windows at {}", now);
        let last = restarts.last().copied().unwrap_or(i64::MIN / 2);
        let apart = u64::try_from(now - last).unwrap();
        prop_assert!(
            apart >= self.policy.min_interval.as_secs(),
            "after {}",
            apart
        );
        let waits = self.policy.only_when_available && workload.rollout.under_way;
        prop_assert!(!waits, "it rolls at {}", now);
        let since = |one: &Wanted| one.state.changed_at.as_second() > last;
        prop_assert!(used.iter().any(since), "nothing changed before {}", now);
        workload.template.extend(patch.template);
        workload.rollout.under_way = true;
        restarts.push(now);
        Ok(again)
    }
}

fn policies() -> impl Strategy<Value = Rollout> {
    let window = prop::option::of((0_i64..24, 1_i64..24));
    (0_u64..60, 0_u64..5000, 0_u16..4, any::<bool>(), window).prop_map(
        |(debounce, interval, most, available, window)| Rollout {
            debounce: Duration::from_secs(debounce),
            min_interval: Duration::from_secs(interval),
            max_concurrent: most,
            only_when_available: available,
            windows: window
                .map(|(from, hours)| {
                    let to = (from + hours) % 24;
                    format!("daily {from:02}:00-{to:02}:00").parse().unwrap()
                })
                .into_iter()
                .collect(),
            ..Rollout::default()
        },
    )
}

proptest! {
    /// Never more at once than may, nor at another time than the policy has it; and each change ends in one restart of
    /// each workload, several that waited in the same.
    #[test]
    fn several_workloads_restart_once_for_each_change_and_never_more_at_once_than_may(
        policy in policies(),
        takes in 1_i64..i64::from(DEADLINE),
        changes in prop::collection::btree_map(10_i64..20_000, 0_usize..3, 1..12),
        order in Just([0_usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let mut all = Namespace::new(policy, takes);
        let mut changes = changes.into_iter().peekable();
        let mut now = 0;
        // Once for what is there first.
        let mut looks = 0;
        loop {
            while let Some((_, resource)) = changes.next_if(|(when, _)| *when <= now) {
                all.change(resource, now);
            }
            let mut next = all.roll(now);
            for number in order {
                let again = all.turn(number, now)?.filter(|again| *again > now);
                next = next.into_iter().chain(again).min();
            }
            // Who has just begun ends, too.
            let ends = all.roll(now);
            let change = changes.peek().map(|(when, _)| *when);
            let Some(next) = next.into_iter().chain(ends).chain(change).min() else {
                break;
            };
            now = next;
            looks += 1;
            prop_assert!(looks < 1000, "no end at {}", now);
        }
        for (number, (workload, restarts)) in all.workloads.iter().enumerate() {
            let used = USES[number].iter().map(|resource| &all.wanted[*resource]);
            for one in used.filter(|one| !one.state.initial) {
                prop_assert!(runs(workload, one), "{} is behind {}", number, one.resource);
                let changed = one.state.changed_at.as_second();
                prop_assert!(restarts.iter().any(|at| *at >= changed));
            }
        }
    }
}
