//! Every request of one script, once for each fault: crash before it, crash
//! after its effect, answer lost, refused, conflict, no answer.

use std::rc::Rc;

use vault_tenant_operator::config::Grade;

use crate::runs::{at, run, script};
use crate::world::{Fault, Faults, World};

#[test]
fn one_secret_without_a_fault() {
    let ended = run(0, None, async |world| {
        script(world, Faults::default()).await
    });
    println!("{}", ended.trace);
    let ended = ended.expect_right("no fault");
    assert_eq!(ended.restarts, 1, "one change of content is one restart");
}

#[test]
fn each_fault_at_each_request() {
    each_fault(1, script);
}

/// One run for each fault at each request of a scenario, in each grade of rights,
/// each with so many restarts.
pub fn each_fault(restarts: usize, scenario: impl AsyncFn(Rc<World>, Faults)) {
    for grade in [Grade::Namespace, Grade::Named] {
        let graded = async |world: Rc<World>, faults| {
            world.grade.set(grade);
            scenario(world, faults).await;
        };
        let whole = run(0, None, async |world| {
            graded(world, Faults::default()).await
        });
        for (number, what) in (1..).zip(&whole.requests) {
            for fault in FAULTS {
                let place = format!("{fault:?} at request {number}, {what}, grade {grade}");
                let ended = run(0, None, async |world| {
                    graded(world, at(number, fault)).await;
                });
                let ended = ended.expect_right(&place);
                assert_eq!(ended.restarts, restarts, "{place}:\n{}", ended.trace);
            }
        }
    }
}

const FAULTS: [Fault; 7] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::LostAnswer,
    Fault::Unavailable,
    Fault::Conflict,
    Fault::Hang,
    Fault::HangAfter,
];
