//! What is shown of resources as the API server gives them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::key::Kind;
use crate::reconcile::Slots;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::core::Status;
use kube::runtime::watcher::{Error, Event};
use serde_json::{Value, json};

use super::board::Board;
use super::live::frame;
use super::row::{Row, State};
use super::table::{Layout, Table};

const STATIC: Kind = Kind::VaultStaticSecret;
const DYNAMIC: Kind = Kind::VaultDynamicSecret;
const PKI: Kind = Kind::VaultPkiSecret;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn time(second: i64) -> String {
    at(second).to_string()
}

/// An object as it comes of a watch: created at 1000 in its second generation.
fn object(kind: Kind, name: &str, spec: Value, status: Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind.as_str(),
        "metadata": {
            "namespace": "team", "name": name, "uid": format!("uid-{name}"), "generation": 2,
            "creationTimestamp": time(1000),
        },
        "spec": { "destination": { "name": name } },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    if !status.is_null() {
        object["status"] = status;
    }
    serde_json::from_value(object).unwrap()
}

fn kv(name: &str, status: Value) -> DynamicObject {
    let spec = json!({ "mount": "kv", "path": "app", "type": "kv-v2", "refreshAfter": "100s" });
    object(STATIC, name, spec, status)
}

/// A status whose `Ready` is so.
fn ready(status: &str, reason: &str, generation: i64) -> Value {
    json!({
        "lastGeneration": generation, "observedGeneration": generation,
        "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "as it is",
            "lastTransitionTime": time(1100), "observedGeneration": generation,
        }],
    })
}

/// A status that is ready, with these fields besides.
fn held(more: Value) -> Value {
    let mut status = ready("True", "Synced", 2);
    for (key, value) in more.as_object().unwrap() {
        status[key] = value.clone();
    }
    status
}

fn table(layout: Layout, rows: &[Row], now: i64) -> String {
    Table::new(layout).lines(rows, at(now))
}

#[test]
fn the_state_is_what_the_conditions_say_of_the_spec_as_it_is() {
    let dying = |mut object: DynamicObject| {
        object.metadata.deletion_timestamp = object.metadata.creation_timestamp.clone();
        object
    };
    for (object, state, reason) in [
        (kv("a", Value::Null), State::Pending, ""),
        (kv("a", ready("True", "Synced", 2)), State::Ready, "Synced"),
        (kv("a", ready("True", "Synced", 1)), State::Pending, ""),
        (
            kv("a", ready("False", "SecretNotFound", 1)),
            State::Pending,
            "",
        ),
        (
            kv("a", ready("False", "SecretNotFound", 2)),
            State::NotReady,
            "SecretNotFound",
        ),
        (kv("a", ready("Unknown", "Odd", 2)), State::Unknown, "Odd"),
        (
            dying(kv("a", ready("True", "Synced", 2))),
            State::Terminating,
            "Synced",
        ),
        (
            object(STATIC, "a", json!({ "mount": 7 }), Value::Null),
            State::NotReady,
            "Unreadable",
        ),
    ] {
        let row = Row::of(STATIC, object);
        assert_eq!((row.state, row.reason.as_str()), (state, reason), "{row:?}");
        assert_eq!(row.is_ready(), state == State::Ready);
    }
}

#[test]
fn the_source_is_the_path_in_vault() {
    for (kind, spec, source) in [
        (
            STATIC,
            json!({ "mount": "kv", "path": "/a/b", "type": "kv-v2" }),
            "kv/a/b",
        ),
        (
            STATIC,
            json!({ "mount": "kv", "path": "a", "type": "kv-v2", "version": 3, "namespace": "ns1/" }),
            "ns1/kv/a version 3",
        ),
        (
            DYNAMIC,
            json!({ "mount": "db", "path": "creds/app" }),
            "db/creds/app",
        ),
        (
            PKI,
            json!({ "mount": "pki", "role": "web" }),
            "pki/issue/web",
        ),
    ] {
        let row = Row::of(kind, object(kind, "a", spec, Value::Null));
        assert_eq!(row.source, source);
    }
}

#[test]
fn a_static_secret_is_due_at_the_slots_at_which_the_operator_reads_it() {
    let row = Row::of(STATIC, kv("a", ready("True", "Synced", 2)));
    let slots = Slots::new(std::time::Duration::from_secs(100), "uid-a");
    assert_eq!(row.next_due(at(5000)), Some(slots.next(at(5000))));
    let wrong = Row::of(STATIC, kv("a", ready("False", "SecretNotFound", 2)));
    assert_eq!(
        wrong.next_due(at(5000)),
        None,
        "it is tried again by no slot"
    );
}

#[test]
fn a_table_has_a_row_for_each_and_times_as_kubectl_tells_them() {
    let lease = json!({
        "phase": "Rotating", "nextRenewal": time(4000 + 90), "expiry": time(4000 + 3600 * 5 + 120),
        "survivesUntil": time(3990), "rollout": "Pending", "rolloutTargets": [
            { "kind": "Deployment", "name": "a", "state": "Current", "reason": "AnnotationStripped" },
            { "kind": "Deployment", "name": "b", "state": "Pending", "reason": "Window", "until": time(4000 + 7200) },
            { "kind": "Deployment", "name": "c", "state": "Pending", "reason": "Hold" },
        ],
    });
    let certificate = json!({
        "phase": "Held", "nextRenewal": time(4000 + 86_400 * 3 + 3600), "expiry": time(4000 + 86_400 * 400),
        "survivesUntil": time(4000 + 86_400 * 800), "rollout": "Current",
    });
    let db = json!({ "mount": "db", "path": "creds/app" });
    let web = json!({ "mount": "pki", "role": "web" });
    let rows = [
        Row::of(STATIC, kv("app", ready("False", "SecretNotFound", 2))),
        Row::of(DYNAMIC, object(DYNAMIC, "db", db, held(lease))),
        Row::of(PKI, object(PKI, "web", web, held(certificate))),
    ];
    let later = table(Layout::default(), &rows, 4000 + 7200);
    assert!(later.contains("   Pending (Window)\n"), "{later}");
    let text = table(Layout::default(), &rows, 4000);
    assert_eq!(
        text,
        "NAME      STATE                       SOURCE          AGE   NEXT DUE   EXPIRY    SURVIVES UNTIL   ROLLOUT\n\
         vss/app   NotReady (SecretNotFound)   kv/app          50m   -          -         -                -\n\
         vds/db    Ready (Rotating)            db/creds/app    50m   in 90s     in 5h2m   10s ago          Pending (Window, in 120m)\n\
         vps/web   Ready                       pki/issue/web   50m   in 3d1h    in 400d   in 2y70d         Current\n"
    );
    let layout = Layout {
        namespaces: true,
        wide: true,
        ..Layout::default()
    };
    let text = table(layout, &rows[..1], 4000);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE   NAME "), "{text}");
    assert!(lines[0].ends_with("   SECRET   MESSAGE"), "{text}");
    assert!(lines[1].starts_with("team        vss/app "), "{text}");
    assert!(lines[1].ends_with("   app      as it is"), "{text}");
}

#[test]
fn colours_are_there_where_they_are_wanted_and_change_no_column() {
    let rows = [
        Row::of(STATIC, kv("bad", ready("False", "SecretNotFound", 2))),
        Row::of(STATIC, kv("good", ready("True", "Synced", 2))),
        Row::of(STATIC, kv("new", Value::Null)),
    ];
    let plain = table(Layout::default(), &rows, 4000);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let layout = Layout {
        colours: true,
        ..Layout::default()
    };
    let coloured = table(layout, &rows, 4000);
    for (state, colour) in [
        ("NotReady (SecretNotFound)", 31),
        ("Ready", 32),
        ("Pending", 33),
    ] {
        let cell = format!("\x1b[{colour}m{state}\x1b[0m");
        assert!(coloured.contains(&cell), "no {cell:?} in {coloured:?}");
    }
    let mut stripped = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn text_of_others_moves_no_cursor_and_turns_nothing_around() {
    let evil = "kv\x1b[2J\u{202e}\r\u{9b}31m";
    let mut status = ready("False", "SecretNotFound", 2);
    status["conditions"][0]["message"] = json!(format!("one\ntwo {evil}"));
    status["conditions"][0]["reason"] = json!(evil);
    status["rollout"] = json!(evil);
    status["rolloutTargets"] = json!([{ "state": evil, "reason": evil, "until": evil }]);
    let spec = json!({ "mount": evil, "path": evil, "type": "kv-v2", "namespace": evil });
    let row = Row::of(STATIC, object(STATIC, "a", spec, status));
    let layout = Layout {
        wide: true,
        ..Layout::default()
    };
    let text = table(layout, std::slice::from_ref(&row), 4000);
    let json = serde_json::to_string(&row.as_json(at(4000))).unwrap();
    for shown in [&text, &json] {
        let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(hidden), "{shown:?}");
    }
    assert_eq!(text.lines().count(), 2, "{text:?}");
}

#[test]
fn lines_that_come_later_stand_below_the_same_header() {
    let mut table = Table::new(Layout::default());
    let row = |name| Row::of(STATIC, kv(name, Value::Null));
    assert_eq!(table.lines([], at(4000)), "");
    let first = table.lines([&row("a-long-name")], at(4000));
    let second = table.lines([&row("b")], at(4000));
    assert!(
        first.starts_with("NAME ") && first.lines().count() == 2,
        "{first}"
    );
    assert_eq!(second.lines().count(), 1, "{second}");
    assert_eq!(
        first.lines().last().unwrap().find("Pending"),
        second.find("Pending")
    );
}

#[test]
fn json_has_every_key_for_every_kind() {
    let mut board = Board::new(Some("team".to_owned()));
    let db = json!({ "mount": "db", "path": "creds/app" });
    let targets = json!([{ "kind": "Deployment", "name": "a", "state": "Rolling", "reason": "ByHand", "until": time(9000) }]);
    let more = json!({ "phase": "Held", "expiry": time(9000), "rollout": "Rolling", "rolloutTargets": targets });
    board.take((
        DYNAMIC,
        Ok(Event::Apply(object(DYNAMIC, "db", db, held(more)))),
    ));
    board.take((STATIC, Ok(Event::Apply(kv("app", Value::Null)))));
    let json: Value = serde_json::from_str(&board.as_json(at(4000)).unwrap()).unwrap();
    assert_eq!(
        json,
        json!({ "namespace": "team", "ready": false, "secrets": [
            {
                "kind": "VaultStaticSecret", "namespace": "team", "name": "app", "ready": false,
                "state": "Pending", "reason": null, "message": null, "phase": null, "source": "kv/app",
                "destination": "app", "created": time(1000), "nextDue": null, "expiry": null,
                "survivesUntil": null, "rollout": null, "rolloutReason": null, "rolloutUntil": null,
            },
            {
                "kind": "VaultDynamicSecret", "namespace": "team", "name": "db", "ready": true,
                "state": "Ready", "reason": "Synced", "message": "as it is", "phase": "Held",
                "source": "db/creds/app", "destination": "db", "created": time(1000), "nextDue": null,
                "expiry": time(9000), "survivesUntil": null, "rollout": "Rolling",
                "rolloutReason": "ByHand", "rolloutUntil": time(9000),
            },
        ]})
    );
}

#[test]
fn the_board_tells_what_has_changed_and_what_went_while_nobody_looked() {
    let mut board = Board::new(Some("team".to_owned()));
    let mut take = |event| {
        let changed = board.take((STATIC, Ok(event)));
        let short = |row: &Row| format!("{} {:?}", row.key.name, row.state);
        changed.iter().map(short).collect::<Vec<_>>()
    };
    let good = || ready("True", "Synced", 2);
    assert!(take(Event::Init).is_empty());
    assert_eq!(take(Event::InitApply(kv("a", good()))), ["a Ready"]);
    assert_eq!(take(Event::InitApply(kv("b", good()))), ["b Ready"]);
    assert!(take(Event::InitDone).is_empty());
    assert!(
        take(Event::Apply(kv("a", good()))).is_empty(),
        "nothing new"
    );
    let bad = ready("False", "SecretNotFound", 2);
    assert_eq!(take(Event::Apply(kv("a", bad))), ["a NotReady"]);
    assert_eq!(take(Event::Delete(kv("a", good()))), ["a Deleted"]);
    // A new list, in which one is lacking.
    assert_eq!(take(Event::Apply(kv("c", good()))), ["c Ready"]);
    assert!(take(Event::Init).is_empty());
    assert!(take(Event::InitApply(kv("c", good()))).is_empty());
    assert_eq!(take(Event::InitDone), ["b Deleted"]);
}

#[test]
fn what_cannot_be_seen_is_told_with_its_mend_and_is_not_ready() {
    let refused = |code: u16| {
        let status = Status {
            code,
            message: "no\x1b[2J".to_owned(),
            ..Status::default()
        };
        Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    };
    for (code, mend) in [
        (401, "log in to the cluster again"),
        (
            403,
            "ask for get, list and watch of vaultpkisecrets.secrets.hashicorp.com",
        ),
        (404, "have kustomize/overlays/cluster applied"),
        (500, "vaultpkisecrets in team cannot be listed: no"),
    ] {
        let mut board = Board::new(Some("team".to_owned()));
        board.take((PKI, Err(refused(code))));
        assert!(!board.sees_something() && !board.is_complete());
        for kind in [STATIC, DYNAMIC] {
            board.take((kind, Ok(Event::InitDone)));
        }
        assert!(board.is_complete() && board.sees_something() && !board.is_ready());
        let told: Vec<&str> = board.troubles().collect();
        assert!(told.len() == 1 && told[0].contains(mend), "{told:?}");
        assert!(!told[0].contains('\x1b'), "{told:?}");
        assert_eq!(board.nothing(), None, "nobody knows");
        // Once it can be listed, nothing is in the way any more.
        board.take((PKI, Ok(Event::InitDone)));
        assert!(board.is_ready() && board.nothing().is_some());
    }
}

#[test]
fn a_table_has_no_more_lines_than_its_terminal_has_rows() {
    let lines: Vec<String> = (0..5).map(|n| format!("line {n}")).collect();
    let shown = |rows| frame(&lines, rows).matches('\n').count();
    assert_eq!([None, Some(24), Some(6)].map(shown), [5; 3]);
    // Below the last line the cursor needs a row.
    assert_eq!(
        [Some(5), Some(4), Some(2), Some(1), Some(0)].map(shown),
        [4, 3, 1, 1, 1]
    );
    let cut = frame(&lines, Some(4));
    assert!(
        cut.contains("line 1\x1b[K\n(3 more") && !cut.contains("line 2"),
        "{cut:?}"
    );
    assert!(!frame(&lines, Some(6)).contains("more"));
}
