//! Ends of tokens over model ports, in virtual time.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use super::model::Model;
use super::permitted;
use crate::key::ObjectKey;
use crate::problem::Problem;
use crate::vault::{CertainEnd, Life, Sessions, Task, Token, Upkeep};

const ADDRESS: &str = "https://vault:8200";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn sessions(model: &Model) -> Sessions<Model, Model> {
    Sessions::new(model.clone(), model.clone())
}

/// What is known of the session's token.
async fn life(sessions: &Sessions<Model, Model>, now: Timestamp) -> Life {
    let permitted = permitted(ADDRESS, "secret/data/a");
    let token = sessions.token_of(permitted.login(), now).await.unwrap();
    sessions.life_of(permitted.login(), &token, now).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_token_is_certain_where_no_renewal_puts_it_off() {
    let end = |seconds, renewable| {
        let at = at(seconds);
        Some(CertainEnd { at, renewable })
    };
    let fixed = Model::new(100, false);
    assert_eq!(life(&sessions(&fixed), at(0)).await.end, end(100, false));
    let endless = Model::new(0, false);
    assert_eq!(life(&sessions(&endless), at(0)).await.end, None);

    let renewed = Model::new(100, true);
    let sessions = sessions(&renewed);
    assert_eq!(life(&sessions, at(0)).await.end, None);
    renewed.0.borrow_mut().renewed_ttl = 99;
    let now = life(&sessions, at(70)).await;
    assert_eq!((now.left, now.end), (Some(Duration::from_secs(99)), None));
    // This is all that its longest life leaves.
    renewed.0.borrow_mut().renewed_ttl = 60;
    assert_eq!(life(&sessions, at(150)).await.end, end(210, true));
    assert_eq!(renewed.counts(), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_to_its_end_is_replaced_before_more_hangs_on_it() {
    let permitted = permitted(ADDRESS, "secret/data/a");
    let login = permitted.login();
    let none = |_: &Token| false;
    let of_the_lease = |_: &Token| true;
    let model = Model::new(100, false);
    let tokens = sessions(&model);
    tokens.outlast(login, at(0), &none).await.unwrap();
    tokens.outlast(login, at(49), &none).await.unwrap();
    assert_eq!(model.counts().0, 1, "half of it is left");
    let many = (0..10).map(|_| tokens.outlast(login, at(51), &none));
    assert!(join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(model.counts().0, 2, "one for all");
    let many = (0..10).map(|_| tokens.outlast(login, at(52), &of_the_lease));
    assert!(join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(model.counts().0, 3, "the lease hangs on this very token");

    let model = Model::new(100, true);
    let tokens = sessions(&model);
    tokens.outlast(login, at(0), &of_the_lease).await.unwrap();
    tokens.outlast(login, at(60), &of_the_lease).await.unwrap();
    assert_eq!(model.counts().0, 1, "it is renewed");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_took_the_place_of_is_told_of_once() {
    let permitted = permitted(ADDRESS, "secret/data/a");
    let login = permitted.login();
    let model = Model::new(100, true);
    model.0.borrow_mut().accessors = true;
    let tokens = sessions(&model);
    let first = tokens.token_of(login, at(0)).await.unwrap();
    assert!(!tokens.has_retired());
    // A renewal that gives little leads to another login.
    model.0.borrow_mut().renewed_ttl = 10;
    let second = tokens.token_of(login, at(80)).await.unwrap();
    assert_ne!(first.accessor, second.accessor);
    // As long as something hangs on it, it waits.
    assert!(tokens.take_retired(|_| false).is_empty());
    let free = tokens.take_retired(|_| true);
    assert_eq!(free.len(), 1);
    assert_eq!(free[0].token().accessor, first.accessor);
    tokens.give_back(&free[0]).await.unwrap();
    assert!(!tokens.has_retired());
    // One that has ended is left alone, and so is a batch token.
    let third = tokens.token_of(login, at(1000)).await.unwrap();
    assert!(third.accessor != second.accessor && !tokens.has_retired());
    tokens.retire_all();
    assert_eq!(tokens.take_retired(|_| true).len(), 1);
    model.0.borrow_mut().accessors = false;
    tokens.token_of(login, at(1000)).await.unwrap();
    tokens.retire_all();
    assert!(!tokens.has_retired());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_may_log_in_any_more_the_token_of_before_ends_what_hangs_on_it() {
    let model = Model::new(3600, true);
    model.0.borrow_mut().accessors = true;
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    let login = permitted.login();
    sessions.read(&permitted, at(0)).await.unwrap();
    let request = Upkeep {
        task: Task::RevokeLease,
        vault_namespace: None,
        path: "sys/leases/revoke/one".to_owned(),
        body: serde_json::Map::new(),
    };
    sessions.forget_login(&ObjectKey::new("team", "auth"));
    let outage = Problem::KubernetesUnavailable {
        what: "request a token".to_owned(),
        why: "no answer".to_owned(),
    };
    let forbidden = Problem::KubernetesForbidden {
        what: "request a token".to_owned(),
        why: "the Role is gone".to_owned(),
    };
    for (second, problem, works) in [(1, outage, false), (60, forbidden, true)] {
        model.0.borrow_mut().login_fails = Some(problem);
        tokio::time::advance(Duration::from_secs(60)).await;
        let now = at(second);
        for answer in [
            sessions.upkeep(login, &request, now).await,
            sessions.upkeep_unless_denied(login, &request, now).await,
        ] {
            assert_eq!(answer.is_ok(), works, "{answer:?}");
        }
        // What is new takes a login of its own.
        sessions.read(&permitted, now).await.unwrap_err();
    }
    assert_eq!(sessions.take_retired(|_| true).len(), 1);
    sessions.upkeep(login, &request, at(61)).await.unwrap_err();
}
