//! What a resource says itself of its restarts, a situation each, with what comes of it and what its status says.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::config::{Rollout, RolloutKey, Rotation, RotationStrategy};
use vault_tenant_operator::key::{Kind, ResourceKey};

use crate::api_server::resource;
use crate::certificate_people::certificate;
use crate::lease_people::roll_workloads;
use crate::objects::{Field, Object};
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

fn app() -> ResourceKey {
    resource(Kind::VaultStaticSecret, "app")
}

/// A world in which a rollout takes so long, and restarts keep to this policy.
fn begin(world: &Rc<World>, rollout: u64, policy: Rollout) -> Tenant {
    tokio::task::spawn_local(roll_workloads(Rc::clone(world)));
    world.rollout.set(Duration::from_secs(rollout));
    world.policy.replace(policy);
    let tenant = Tenant(Rc::clone(world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
    tenant
}

/// The resource `app`, which restarts these and says this of it.
fn manifest(targets: &[&str], rollout: Value) -> Value {
    let mut manifest = static_secret("app");
    let target = |name: &&str| json!({ "kind": "Deployment", "name": name });
    manifest["spec"]["rolloutRestartTargets"] = targets.iter().map(target).collect();
    manifest["spec"]["rollout"] = rollout;
    manifest
}

/// The status of a resource.
fn status(world: &World, key: &ResourceKey) -> Value {
    let api = world.api.borrow();
    match &api.resources[key] {
        Object::Static(found) => serde_json::to_value(&found.status),
        Object::Pki(found) => serde_json::to_value(&found.status),
        other => panic!("{other:?}"),
    }
    .unwrap()
}

/// Status, reason and message of a condition.
fn condition(world: &World, key: &ResourceKey, type_: &str) -> Option<[String; 3]> {
    let status = status(world, key);
    let mut all = status["conditions"].as_array().into_iter().flatten();
    let found = all.find(|one| one["type"] == type_)?;
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    Some(["status", "reason", "message"].map(text))
}

/// Whether the condition about restarts is this, and its message has the words.
fn restart_says(world: &World, truth: &str, reason: &str, words: &str) {
    let said = condition(world, &app(), "RolloutRestart").unwrap();
    assert!(
        said[0] == truth && said[1] == reason && said[2].contains(words),
        "{said:?} and not {truth} {reason} {words:?}\n{}",
        world.last_of_trace()
    );
}

fn restarts(world: &World, name: &str) -> usize {
    world.judge.borrow().pods[name].restarts
}

/// New content, until the Secret has it.
async fn changes(tenant: &Tenant, value: &str) {
    tenant.write_vault("app", &source(&[("password", value), ("user", "u")]));
    seconds(35).await;
    let world = &tenant.0;
    let secret = world.api.borrow().secrets["app"].clone();
    let held = &secret.fields[&Field::Data("password".to_owned())];
    assert_eq!(held, value.as_bytes(), "{}", world.last_of_trace());
    let [ready, ..] = condition(world, &app(), "Ready").unwrap();
    assert_eq!(ready, "True");
}

#[test]
fn one_that_lacks_pods_waits_where_its_resource_wants_that() {
    for own in [true, false] {
        let ended = run(3, None, async |world: Rc<World>| {
            let tenant = begin(&world, 120, Rollout::default());
            tenant.create_workload("web", &["app"]);
            tenant.apply(&manifest(&["web"], json!({ "onlyWhenAvailable": own })));
            seconds(60).await;
            // Somebody else rolls it, and it has not all of its pods for two minutes.
            tenant.touch_template("web");
            changes(&tenant, "b").await;
            seconds(20).await;
            if own {
                let words = "its pods are not all available (spec.rollout.onlyWhenAvailable)";
                restart_says(&world, "False", "Pending", words);
                let row = &status(&world, &app())["rolloutTargets"][0];
                assert_eq!(
                    (&row["state"], &row["reason"]),
                    (&json!("Pending"), &json!("Unavailable"))
                );
            }
            assert_eq!(restarts(&world, "web"), usize::from(!own));
            seconds(90).await;
            assert_eq!(restarts(&world, "web"), 1, "{}", world.last_of_trace());
            world.rollout.set(Duration::from_secs(1));
            seconds(10).await;
            rest(&world).await;
        });
        ended.expect_right("onlyWhenAvailable of a resource");
    }
}

#[test]
fn a_failed_first_workload_holds_the_other_where_their_resource_wants_that() {
    for own in [true, false] {
        let ended = run(5, None, async |world: Rc<World>| {
            let policy = Rollout {
                max_concurrent: 1,
                halt_on_failure: false,
                ..Rollout::default()
            };
            let tenant = begin(&world, 100_000, policy);
            let names = ["one", "two"];
            for name in names {
                tenant.create_workload(name, &["app"]);
            }
            tenant.apply(&manifest(&names, json!({ "haltOnFailure": own })));
            seconds(60).await;
            changes(&tenant, "b").await;
            seconds(20).await;
            let counts = || names.map(|name| restarts(&world, name));
            assert_eq!(counts().iter().sum::<usize>(), 1);
            let failed = names[usize::from(counts()[1] == 1)];
            restart_says(&world, "False", "Pending", "(rollout.maxConcurrent)");
            // Past its deadline it counts no longer among those that roll.
            world.judge.borrow_mut().paces.stirred(failed);
            seconds(200).await;
            if own {
                let words = format!(
                    "Deployment/{failed} does not get on with the same content: look at its new pods (spec.rollout.haltOnFailure)"
                );
                restart_says(&world, "False", "Pending", &words);
            }
            assert_eq!(counts().iter().sum::<usize>(), 2 - usize::from(own));
            // It gets on after all.
            world.rollout.set(Duration::from_secs(1));
            seconds(60).await;
            assert_eq!(counts(), [1, 1], "{}", world.last_of_trace());
            rest(&world).await;
        });
        ended.expect_right("haltOnFailure of a resource");
    }
}

#[test]
fn its_own_windows_after_the_end_are_told_in_advance() {
    let late = "daily 03:00-04:00";
    for (configured, own, told) in [
        (None, late, Some("outside of spec.rollout.windows")),
        (
            Some("daily 01:00-03:00"),
            late,
            Some("outside of spec.rollout.windows"),
        ),
        (
            Some(late),
            "daily 03:30-05:00",
            Some("outside of rollout.windows"),
        ),
        (None, "daily 01:00-03:00", None),
        (Some("daily 01:00-03:00"), "daily 01:30-02:30", None),
    ] {
        let more = json!({ "rollout": { "windows": [own] } });
        certificate_tells(configured, Rotation::default(), "10m", &more, told);
    }
}

#[test]
fn windows_after_a_certificate_is_given_back_are_told_in_advance() {
    let replace = Rotation {
        strategy: RotationStrategy::Replace,
        ..Rotation::default()
    };
    let cut = Rotation {
        timeout: Duration::from_secs(300),
        ..Rotation::default()
    };
    let told = Some("outside of rollout.windows");
    for (rotation, revoke, told) in [
        (Rotation::default(), true, None),
        (replace.clone(), false, None),
        (replace, true, told),
        (cut.clone(), false, None),
        (cut, true, told),
    ] {
        let more = json!({ "revoke": revoke });
        certificate_tells(Some("daily 01:30-03:00"), rotation, "1h", &more, told);
    }
}

/// Fails unless a certificate, with `more` in its spec, tells this of its windows. The
/// run begins at midnight; the certificate ends at two, and is replaced `offset` before.
fn certificate_tells(
    configured: Option<&str>,
    rotation: Rotation,
    offset: &str,
    more: &Value,
    told: Option<&str>,
) {
    let ended = run(9, None, async |world: Rc<World>| {
        world.rotation.replace(rotation.clone());
        let policy = Rollout {
            windows: configured
                .map(|one| one.parse().unwrap())
                .into_iter()
                .collect(),
            ..Rollout::default()
        };
        let tenant = begin(&world, 20, policy);
        tenant.issuing_role("app", 7200, false, false);
        tenant.create_workload("web", &["app"]);
        let mut manifest = certificate("app", offset);
        manifest["spec"]["rolloutRestartTargets"] =
            json!([{ "kind": "Deployment", "name": "web" }]);
        for (field, value) in more.as_object().unwrap() {
            manifest["spec"][field] = value.clone();
        }
        tenant.apply_certificate(&manifest);
        seconds(60).await;
        let key = resource(Kind::VaultPkiSecret, "app");
        let said = condition(&world, &key, "Overlap");
        let right = match (&said, told) {
            (None, None) => true,
            (Some([truth, reason, message]), Some(words)) => {
                truth == "False" && reason == "WindowAfterExpiry" && message.contains(words)
            }
            _ => false,
        };
        assert!(right, "{configured:?} {more}: {rotation:?}: {said:?}");
        rest(&world).await;
    });
    ended.expect_right("windows after the end");
}

#[test]
fn a_configuration_that_becomes_stricter_ends_no_sync() {
    let ended = run(11, None, async |world: Rc<World>| {
        let policy = Rollout {
            halt_on_failure: false,
            ..Rollout::default()
        };
        let tenant = begin(&world, 5, policy.clone());
        tenant.create_workload("web", &["app"]);
        let own = json!({ "minInterval": "60s", "haltOnFailure": false });
        tenant.apply(&manifest(&["web"], own));
        seconds(60).await;
        changes(&tenant, "b").await;
        seconds(30).await;
        restart_says(&world, "True", "Current", "Deployment/web current");
        let [.., message] = condition(&world, &app(), "RolloutRestart").unwrap();
        assert!(!message.contains("counts"), "{message}");

        // The platform raises its own, and the restart waits for that.
        let stricter = Rollout {
            min_interval: Duration::from_secs(300),
            ..Rollout::default()
        };
        world.policy.replace(stricter.clone());
        tenant.restart_operator(false);
        seconds(5).await;
        let told = "spec.rollout.minInterval is 60s, and the configuration's 5m counts; spec.rollout.haltOnFailure is false, and the configuration's true counts; Deployment/web current";
        restart_says(&world, "True", "Current", told);
        changes(&tenant, "c").await;
        seconds(100).await;
        restart_says(&world, "False", "Pending", "(rollout.minInterval)");
        restart_says(
            &world,
            "False",
            "Pending",
            "spec.rollout.minInterval is 60s",
        );
        assert_eq!(restarts(&world, "web"), 1);
        seconds(200).await;
        assert_eq!(restarts(&world, "web"), 2, "{}", world.last_of_trace());

        // It takes the fields off its list.
        world.policy.replace(Rollout {
            overrides: vec![RolloutKey::Hold],
            ..policy
        });
        tenant.restart_operator(false);
        seconds(5).await;
        let denied =
            "spec.rollout.minInterval, haltOnFailure without effect, since rollout.overrides of";
        restart_says(&world, "False", "PolicyDenied", denied);
        changes(&tenant, "d").await;
        seconds(30).await;
        restart_says(&world, "False", "PolicyDenied", denied);
        assert_eq!(restarts(&world, "web"), 3, "{}", world.last_of_trace());
        // All of that is in the status, and no event of its own.
        let events = world.api.borrow().events.clone();
        let told = |(reason, message): &(&str, String)| {
            *reason == "PolicyDenied" || message.contains("spec.rollout.")
        };
        assert!(!events.is_empty() && !events.iter().any(told), "{events:?}");
        rest(&world).await;
    });
    ended.expect_right("a configuration that becomes stricter");
}
