//! Answers that come late, about objects that the watches saw go; and which workloads roll.
#![allow(clippy::unwrap_used)]

use super::*;

fn key() -> WorkloadKey {
    WorkloadKey {
        kind: WorkloadKind::Deployment,
        object: ObjectKey::new("team", "web"),
    }
}

fn workload(uid: &str, version: &str) -> WorkloadMeta {
    WorkloadMeta {
        uid: uid.to_owned(),
        resource_version: version.to_owned(),
        ..WorkloadMeta::default()
    }
}

fn secret(uid: &str, version: &str) -> SecretMeta {
    SecretMeta {
        uid: uid.to_owned(),
        resource_version: version.to_owned(),
        deleting: false,
        owners: Vec::new(),
        states: LiteMap::new(),
        managers: Vec::new(),
        vso_made: false,
        vso_owns: false,
    }
}

#[test]
fn an_answer_about_what_was_made_anew_does_not_bring_the_old_one_back() {
    let mut view = View::default();
    let uid = |view: &View| view.workloads.get(&key()).map(|found| found.uid.clone());
    let asked = view.moment();
    view.put_workload(&key(), workload("old", "1"));
    view.remove_workload(&key());
    view.put_workload(&key(), workload("new", "3"));
    view.put_workload_answer(&key(), workload("old", "2"), asked);
    assert_eq!(uid(&view).as_deref(), Some("new"));
    // Nor once the new one is gone too.
    view.remove_workload(&key());
    view.put_workload_answer(&key(), workload("old", "2"), asked);
    view.put_workload_answer(&key(), workload("new", "4"), asked);
    assert_eq!(uid(&view), None);
}

#[test]
fn a_list_that_lacks_an_object_or_shows_another_is_believed_as_an_event_is() {
    let mut view = View::default();
    let at = ObjectKey::new("team", "app");
    let uid = |view: &View| view.secrets.get(&at).map(|found| found.uid.clone());
    let asked = view.moment();
    view.put_secret(&at, secret("old", "1"));
    view.put_secret(&at, secret("new", "3"));
    view.put_secret_answer(&at, secret("old", "2"), asked);
    assert_eq!(uid(&view).as_deref(), Some("new"));
    // An older list is older, whatever it shows under the name.
    view.put_secret(&at, secret("old", "1"));
    assert_eq!(uid(&view).as_deref(), Some("new"));
    view.put_secret_answer(&at, secret("new", "5"), asked);
    assert_eq!(view.secrets[&at].resource_version, "5");
}

#[test]
fn what_an_old_list_lacked_is_back_once_a_later_request_finds_it() {
    let mut view = View::default();
    let at = ObjectKey::new("team", "app");
    let before = view.moment();
    view.put_secret(&at, secret("one", "3"));
    view.remove_secret(&at);
    view.put_secret_answer(&at, secret("one", "3"), before);
    assert!(!view.secrets.contains_key(&at), "it may be gone by now");
    let after = view.moment();
    view.put_secret_answer(&at, secret("one", "3"), after);
    assert!(view.secrets.contains_key(&at));
}

#[test]
fn of_five_hundred_workloads_those_that_roll_are_known() {
    let key = |number: usize| WorkloadKey {
        object: ObjectKey::new("team", format!("web-{number:03}")),
        ..key()
    };
    let rolls = |under_way, failing| WorkloadMeta {
        rollout: Rollout {
            under_way,
            failing,
            ..Rollout::default()
        },
        ..workload("u", "1")
    };
    let mut view = View::default();
    for number in 0..500 {
        view.put_workload(&key(number), rolls(number < 3, number == 3));
    }
    // What a restart is judged by looks at no others.
    let first: Vec<WorkloadKey> = (0..4).map(key).collect();
    assert!(view.rolling.iter().eq(&first), "{:?}", view.rolling);
    view.put_workload(&key(0), rolls(false, false));
    view.put_workload(&key(0), rolls(false, false));
    view.remove_workload(&key(1));
    view.forget_workload(&key(2));
    assert!(view.rolling.iter().eq([&first[3]]), "{:?}", view.rolling);
}
