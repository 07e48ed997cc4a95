//! Sessions over model ports, in virtual time.

use std::io::Write;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::model::Model;
use super::{permitted, resolved};
use crate::key::ObjectKey;
use crate::policy::{CaSource, Permitted};
use crate::problem::Problem;
use crate::vault::Sessions;

const ADDRESS: &str = "https://vault:8200";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn sessions(model: &Model) -> Sessions<Model, Model> {
    Sessions::new(model.clone(), model.clone())
}

fn unavailable() -> Problem {
    Problem::VaultUnavailable {
        address: ADDRESS.to_owned(),
        why: "HTTP 503: Vault is sealed".to_owned(),
    }
}

fn denied(result: &Result<crate::vault::Reply, Problem>) -> bool {
    matches!(result, Err(Problem::VaultDenied { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reads_share_one_login() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let reads: Vec<_> = (0..100)
        .map(|i| permitted(ADDRESS, &format!("secret/data/{i}")))
        .collect();
    let answers = join_all(reads.iter().map(|p| sessions.read(p, at(0)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(model.counts(), (1, 0, 100));
    let world = model.0.borrow();
    assert_eq!((world.token_requests, world.secret_reads), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_login_account_and_namespace_has_a_session_and_a_connection_one_ca() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let mut other_namespace = resolved(ADDRESS, "secret/data/a");
    other_namespace.login.vault_namespace = Some("tenant".to_owned());
    let mut other_mount = resolved(ADDRESS, "secret/data/a");
    other_mount.login.mount = "other".to_owned();
    for resolved in [
        other_namespace,
        other_mount,
        resolved(ADDRESS, "secret/data/a"),
    ] {
        let permitted = Permitted::unchecked(resolved);
        sessions.read(&permitted, at(0)).await.unwrap();
        sessions.read(&permitted, at(1)).await.unwrap();
    }
    assert_eq!(model.counts(), (3, 0, 6));
    assert_eq!(model.0.borrow().secret_reads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_in_the_last_third_of_its_life_by_one_reader() {
    let model = Model::new(900, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    sessions.read(&permitted, at(0)).await.unwrap();
    sessions.read(&permitted, at(599)).await.unwrap();
    assert_eq!(model.counts(), (1, 0, 2));
    let answers = join_all((0..10).map(|_| sessions.read(&permitted, at(601)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(model.counts(), (1, 1, 12));
    // The renewed life counts from the renewal.
    sessions.read(&permitted, at(601 + 599)).await.unwrap();
    assert_eq!(model.counts(), (1, 1, 13));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ended_or_cannot_be_renewed_is_replaced() {
    let model = Model::new(900, false);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    for (second, logins) in [(0, 1), (601, 2), (601 + 900, 3)] {
        sessions.read(&permitted, at(second)).await.unwrap();
        assert_eq!(model.counts().0, logins, "at {second}");
    }
    assert_eq!(model.counts().1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_gives_little_leads_to_a_login_and_a_refused_one_too() {
    let model = Model::new(900, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    sessions.read(&permitted, at(0)).await.unwrap();
    model.0.borrow_mut().renewed_ttl = 300;
    sessions.read(&permitted, at(700)).await.unwrap();
    assert_eq!(model.counts(), (2, 1, 2));
    model.0.borrow_mut().renewal_fails = Some(Problem::VaultDenied {
        path: "auth/token/renew-self".to_owned(),
        why: "HTTP 403".to_owned(),
    });
    sessions.read(&permitted, at(1400)).await.unwrap();
    assert_eq!(model.counts(), (3, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn vaults_trouble_does_not_end_a_token_that_works() {
    let model = Model::new(900, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    sessions.read(&permitted, at(0)).await.unwrap();
    model.0.borrow_mut().renewal_fails = Some(unavailable());
    model.0.borrow_mut().login_fails = Some(unavailable());
    for second in 700..720 {
        sessions.read(&permitted, at(second)).await.unwrap();
    }
    assert_eq!(model.counts().0, 1);
    assert!(model.counts().1 <= 3, "renewals are not tried at each read");
    // Once it has ended, the truth comes out.
    assert_eq!(
        sessions.read(&permitted, at(901)).await.unwrap_err(),
        unavailable()
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_without_end_is_neither_renewed_nor_replaced() {
    let model = Model::new(0, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    sessions.read(&permitted, at(0)).await.unwrap();
    let later = at(0) + SignedDuration::from_hours(24 * 365);
    sessions.read(&permitted, later).await.unwrap();
    assert_eq!(model.counts(), (1, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn ten_denials_of_a_revoked_token_make_one_new_login() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let reads: Vec<_> = (0..10)
        .map(|i| permitted(ADDRESS, &format!("secret/data/{i}")))
        .collect();
    sessions.read(&reads[0], at(0)).await.unwrap();
    model.0.borrow_mut().live.clear();
    let answers = join_all(reads.iter().map(|p| sessions.read(p, at(60)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(model.counts(), (2, 0, 21));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_stays_denied_costs_a_login_in_five_minutes_at_most() {
    let model = Model::new(1_000_000, true);
    let sessions = sessions(&model);
    let bad: Vec<_> = (0..20)
        .map(|i| permitted(ADDRESS, &format!("secret/data/bad{i}")))
        .collect();
    let good = permitted(ADDRESS, "secret/data/good");
    for i in 0..20 {
        let path = format!("secret/data/bad{i}");
        model.0.borrow_mut().denied.insert(path);
    }
    sessions.read(&good, at(0)).await.unwrap();
    // An hour of twenty denied resources that try every ten seconds.
    for second in (0..3600).step_by(10) {
        for answer in join_all(bad.iter().map(|p| sessions.read(p, at(second)))).await {
            assert!(denied(&answer));
        }
    }
    let logins = model.counts().0;
    assert!((2..=14).contains(&logins), "{logins} logins");
    // A token that dies is still replaced as soon as another path shows it.
    model.0.borrow_mut().live.clear();
    sessions.read(&good, at(3631)).await.unwrap();
    assert!(model.counts().0 > logins);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_not_thrown_away() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    model
        .0
        .borrow_mut()
        .denied
        .insert("secret/data/a".to_owned());
    let permitted = permitted(ADDRESS, "secret/data/a");
    assert!(denied(&sessions.read(&permitted, at(0)).await));
    assert!(denied(&sessions.read(&permitted, at(29)).await));
    assert_eq!(model.counts(), (1, 0, 2));
    // Old enough, one try; and what it shows is remembered.
    assert!(denied(&sessions.read(&permitted, at(31)).await));
    assert_eq!(model.counts(), (2, 0, 4));
    assert!(denied(&sessions.read(&permitted, at(90)).await));
    assert_eq!(model.counts(), (2, 0, 5));
    // Once allowed again, it counts as any other path.
    model.0.borrow_mut().denied.clear();
    sessions.read(&permitted, at(91)).await.unwrap();
    model.0.borrow_mut().live.clear();
    sessions.read(&permitted, at(92)).await.unwrap();
    assert_eq!(model.counts().0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_shared_by_those_who_wait() {
    let model = Model::new(3600, true);
    model.0.borrow_mut().login_fails = Some(unavailable());
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    let answers = join_all((0..100).map(|_| sessions.read(&permitted, at(0)))).await;
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_err_and(|p| *p == unavailable()))
    );
    assert_eq!(model.counts(), (1, 0, 0));
    let outcome = sessions
        .last_login(&ObjectKey::new("team", "auth"))
        .unwrap();
    assert_eq!((outcome.at, outcome.result), (at(0), Err(unavailable())));
    // A second later it is tried again.
    model.0.borrow_mut().login_fails = None;
    tokio::time::advance(std::time::Duration::from_millis(1001)).await;
    sessions.read(&permitted, at(2)).await.unwrap();
    let outcome = sessions
        .last_login(&ObjectKey::new("team", "auth"))
        .unwrap();
    assert_eq!((outcome.at, outcome.result), (at(2), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_read_holds_for_all() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let (one, other) = (
        permitted(ADDRESS, "secret/data/a"),
        permitted(ADDRESS, "secret/data/b"),
    );
    model.0.borrow_mut().read_fails = Some(Problem::VaultRateLimited {
        address: ADDRESS.to_owned(),
        retry_after: Some(std::time::Duration::from_secs(20)),
        since: None,
    });
    let wait = std::time::Duration::from_secs(20);
    let limited = model.0.borrow().read_fails.clone();
    let said = |problem: Problem| problem.to_string();
    let first = said(sessions.read(&one, at(0)).await.unwrap_err());
    assert!(first.contains(&format!("(since {:.0})", at(0))), "{first}");
    model.0.borrow_mut().read_fails = None;
    // Who is told without a request is told the same.
    let other_says = said(sessions.read(&other, at(1)).await.unwrap_err());
    assert_eq!((first.clone(), model.counts()), (other_says, (1, 0, 1)));
    // A limit that goes on began when it began.
    tokio::time::advance(wait).await;
    model.0.borrow_mut().read_fails.clone_from(&limited);
    let again = said(sessions.read(&one, at(21)).await.unwrap_err());
    assert_eq!(again, first);
    tokio::time::advance(wait).await;
    model.0.borrow_mut().read_fails = None;
    sessions.read(&other, at(42)).await.unwrap();
    // Another one begins anew.
    model.0.borrow_mut().read_fails = limited;
    let new = said(sessions.read(&one, at(43)).await.unwrap_err());
    assert!(new.contains(&format!("(since {:.0})", at(43))), "{new}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_login_holds_for_all() {
    let model = Model::new(3600, true);
    model.0.borrow_mut().login_fails = Some(Problem::VaultRateLimited {
        address: ADDRESS.to_owned(),
        retry_after: Some(std::time::Duration::from_secs(20)),
        since: None,
    });
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    for second in 0..18 {
        let told = sessions.read(&permitted, at(second)).await.unwrap_err();
        let since = format!("(since {:.0})", at(0));
        assert!(told.to_string().contains(&since), "{told}");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(model.counts().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_cancelled_leaves_the_gate_open() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    let short = std::time::Duration::from_millis(250);
    assert!(
        tokio::time::timeout(short, sessions.read(&permitted, at(0)))
            .await
            .is_err()
    );
    sessions.read(&permitted, at(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_logs_in_anew() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    sessions.read(&permitted, at(0)).await.unwrap();
    sessions.forget(&ObjectKey::new("team", "other"));
    sessions.forget_login(&ObjectKey::new("team", "other"));
    sessions.read(&permitted, at(1)).await.unwrap();
    assert_eq!(model.counts().0, 1);
    sessions.forget(&ObjectKey::new("team", "vault"));
    sessions.read(&permitted, at(2)).await.unwrap();
    assert_eq!((model.counts().0, model.0.borrow().secret_reads), (2, 2));
    sessions.forget_login(&ObjectKey::new("team", "auth"));
    assert_eq!(sessions.last_login(&ObjectKey::new("team", "auth")), None);
    sessions.read(&permitted, at(3)).await.unwrap();
    assert_eq!(model.counts().0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_forgotten_while_it_ran_says_nothing() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let permitted = permitted(ADDRESS, "secret/data/a");
    model.0.borrow_mut().login_fails = Some(unavailable());
    let auth = ObjectKey::new("team", "auth");
    let change = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        sessions.forget_login(&auth);
    };
    let (answer, ()) = tokio::join!(sessions.read(&permitted, at(0)), change);
    answer.unwrap_err();
    assert_eq!((model.counts().0, sessions.last_login(&auth)), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_login_beside_a_token_that_works_tells_of_no_outage() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let good = permitted(ADDRESS, "secret/data/a");
    let bad = permitted(ADDRESS, "secret/data/b");
    let auth = ObjectKey::new("team", "auth");
    let told = || sessions.last_login(&auth).map(|outcome| outcome.result);
    sessions.read(&good, at(0)).await.unwrap();
    model.0.borrow_mut().denied.insert("secret/data/b".into());
    model.0.borrow_mut().login_fails = Some(unavailable());
    sessions.read(&bad, at(60)).await.unwrap_err();
    assert_eq!((model.counts().0, told()), (2, Some(Ok(()))));
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    model.0.borrow_mut().login_fails = Some(Problem::VaultRateLimited {
        address: ADDRESS.to_owned(),
        retry_after: Some(std::time::Duration::from_secs(1)),
        since: None,
    });
    sessions.read(&bad, at(120)).await.unwrap_err();
    assert_eq!((model.counts().0, told()), (3, Some(Ok(()))));
    // That Vault refuses it is worth knowing before the token ends.
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    let refused = Problem::LoginFailed {
        what: "auth/kubernetes/login".to_owned(),
        why: "the role is gone".to_owned(),
    };
    model.0.borrow_mut().login_fails = Some(refused.clone());
    sessions.read(&bad, at(180)).await.unwrap_err();
    assert_eq!((model.counts().0, told()), (4, Some(Err(refused))));
}

#[tokio::test(start_paused = true)]
async fn a_ca_must_hold_a_certificate() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    for bad in [
        &b""[..],
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    ] {
        model.0.borrow_mut().ca = Some(bad.to_vec());
        let problem = sessions
            .read(&permitted(ADDRESS, "a"), at(0))
            .await
            .unwrap_err();
        let Problem::CredentialUnusable { why } = &problem else {
            panic!("{problem}")
        };
        assert!(why.contains("ca.crt in Secret team/vault-ca"), "{why}");
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
    }
    assert_eq!((model.counts().0, model.0.borrow().token_requests), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_ca_file_is_read_anew_when_no_connection_comes_about() {
    let model = Model::new(3600, true);
    let sessions = sessions(&model);
    let pem = model.0.borrow().ca.clone().unwrap();
    let mut file = tempfile(&pem);
    let mut resolved = resolved(ADDRESS, "secret/data/a");
    resolved.connection.ca = CaSource::File(file.1.clone());
    let permitted = Permitted::unchecked(resolved);
    sessions.read(&permitted, at(0)).await.unwrap();
    assert_eq!(model.0.borrow().last_ca.as_deref(), Some(&pem[..]));
    file.0.write_all(&pem).unwrap();
    model.0.borrow_mut().read_fails = Some(Problem::VaultUnreachable {
        address: ADDRESS.to_owned(),
        why: "TLS".to_owned(),
    });
    sessions.read(&permitted, at(1)).await.unwrap_err();
    model.0.borrow_mut().read_fails = None;
    sessions.read(&permitted, at(5000)).await.unwrap();
    let twice = [&pem[..], &pem[..]].concat();
    assert_eq!(model.0.borrow().last_ca.as_deref(), Some(&twice[..]));
    std::fs::remove_file(&file.1).unwrap();
}

fn tempfile(content: &[u8]) -> (std::fs::File, String) {
    let name = format!("vto-ca-{}.pem", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(content).unwrap();
    (file, path.to_str().unwrap().to_owned())
}
