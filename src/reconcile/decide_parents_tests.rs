//! Leases by what the ledger knows of them, as rows.

use std::time::Duration;

use super::*;
use crate::key::Redacted;

fn terms() -> Terms {
    Terms {
        lead: None,
        renewal_percent: 67,
        refresh_after: None,
        share: 0.5,
        margin: Duration::from_secs(10),
        mints: true,
        renews: true,
        look_every: Some(Duration::from_secs(60)),
    }
}

fn lease(seconds: u64) -> Grant {
    Grant {
        lease: "db/creds/app/x".to_owned(),
        since: at(800),
        seconds,
        renewable: true,
        ..Grant::default()
    }
}

/// The state names a lease. Every process starts at 900.
fn leased(grant: Grant, parent: Option<Parent>, now: i64) -> Case {
    let leased = case().with(|c| (c.terms, c.parent, c.now) = (Some(terms()), parent, at(now)));
    leased.with_state(|state| state.grant = Some(grant))
}

#[test]
fn only_what_the_ledger_knows_is_renewed_or_looked_at() {
    let of = |parent, now| leased(lease(1000), parent, now).step();
    let known = Some(Parent::Known(None));
    assert_eq!(of(known, 950), Step::Wait(Some(at(963))));
    assert_eq!(of(known, 1000), Step::Look(lease(1000)));
    assert_eq!(of(known, 1700), Step::Renew(lease(1000)));
    // As long as it is not read, nothing is done.
    for now in [950, 1000, 1700] {
        assert_eq!(of(None, now), Step::Wait(None));
    }
    // It lasts until 1800: at 900, spread over ten minutes.
    let unknown = Some(Parent::Unknown);
    assert_eq!(of(unknown, 950), Step::Wait(Some(at(1200))));
    assert_eq!(of(unknown, 1199), Step::Wait(Some(at(1200))));
    assert_eq!(of(unknown, 1200), Step::Fetch(Why::Due));
    assert_eq!(of(unknown, 1700), Step::Fetch(Why::Due));
    // 110 seconds are left then, and the next one is needed ten before that.
    let short = |now| leased(lease(210), unknown, now).step();
    assert_eq!(short(949), Step::Wait(Some(at(950))));
    assert_eq!(short(950), Step::Fetch(Why::Due));
    let endless = leased(lease(0), unknown, 1199).step();
    assert_eq!(endless, Step::Wait(Some(at(1200))));
    // Where there is no lease, there is no token that it hangs on.
    let none = Grant {
        lease: String::new(),
        ..lease(1000)
    };
    assert!(matches!(
        leased(none, None, 950).step(),
        Step::Wait(Some(_))
    ));
    // Whom Vault does not know is replaced at once.
    let lost = leased(lease(1000), known, 950).with(|c| c.lost = Some("db/creds/app/x".into()));
    assert_eq!(lost.step(), Step::Fetch(Why::Lost));
}

#[test]
fn what_another_operator_was_given_is_used_on_for_a_while() {
    let inherited = |seconds| {
        let found = case().with_meta(|meta| {
            meta.states.clear();
            meta.managers = vec![manager("vto-uid-1", 400, "x")];
            (meta.vso_made, meta.vso_owns) = (true, false);
        });
        let lease = Renewed {
            at: at(800),
            duration: Duration::from_secs(seconds),
        };
        found.with(|c| (c.terms, c.inherited, c.now) = (Some(terms()), Some(lease), at(950)))
    };
    assert_eq!(inherited(1000).step(), Step::Wait(Some(at(1200))));
    assert_eq!(inherited(210).step(), Step::Fetch(Why::Adopted), "no time");
    let asked = inherited(1000).with(|c| c.resync = true);
    assert_eq!(asked.step(), Step::Fetch(Why::Adopted));
    let later = inherited(1000).with(|c| c.now = at(1200));
    assert_eq!(later.step(), Step::Fetch(Why::Adopted));
    let read = inherited(1000).with(|c| c.terms.as_mut().unwrap().mints = false);
    assert_eq!(read.step(), Step::Fetch(Why::Adopted), "costs nothing");
    let none = inherited(1000).with(|c| c.inherited = None);
    assert_eq!(none.step(), Step::Fetch(Why::Adopted));
}

#[test]
fn a_lease_is_replaced_before_its_token_ends() {
    let ending = |second| {
        let end = crate::reconcile::parents::TokenEnd {
            at: at(second),
            known: at(800),
            why: crate::reconcile::parents::Limit::NotRenewable,
        };
        Some(Parent::Known(Some(end)))
    };
    let of = |parent, now| leased(lease(1000), parent, now).step();
    // It ends at 950, 40 seconds after the start and the margin before that.
    assert_eq!(of(ending(950), 929), Step::Wait(Some(at(930))));
    assert_eq!(of(ending(950), 930), Step::Fetch(Why::Due));
    // A renewal that is due before is not put off.
    assert_eq!(of(ending(9000), 1700), Step::Renew(lease(1000)));
    // One that ends before its token by itself is replaced then.
    let fixed = Grant {
        renewable: false,
        ..lease(120)
    };
    let of = |now| leased(fixed.clone(), ending(950), now).step();
    assert_eq!(of(904), Step::Wait(Some(at(905))));
    assert_eq!(of(905), Step::Fetch(Why::Due));
}

#[test]
fn credentials_of_another_request_are_replaced() {
    let text = |text: &str| SecretData::from([("path".to_owned(), Redacted::new(text.into()))]);
    let of = |key: &HashKey, request: &str| key.content(&case().me.tag, &text(request));
    let asked = |key: HashKey, request: &str| {
        let lease = Grant {
            request: Some(of(&key, request)),
            ..lease(1000)
        };
        let case = leased(lease, Some(Parent::Known(None)), 950);
        let request = of(&case.key, "creds/app");
        case.with(|case| case.me.request = Some(request)).step()
    };
    let key = || case().key;
    let other_key = HashKey::new(vec![2; KEY_LENGTH]).unwrap();
    let quiet = Step::Wait(Some(at(963)));
    assert_eq!(asked(key(), "creds/app"), quiet);
    assert_eq!(asked(key(), "creds/other"), Step::Fetch(Why::Changed));
    assert_eq!(asked(other_key, "creds/other"), quiet, "cannot be compared");
}
