//! Every request of one script, once for each fault: crash before it, crash
//! after its effect, answer lost, refused, conflict, no answer.

use std::rc::Rc;

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

/// One run for each fault at each request of a scenario, each with so many restarts.
pub fn each_fault(restarts: usize, scenario: impl AsyncFn(Rc<World>, Faults)) {
    let whole = run(0, None, async |world| {
        scenario(world, Faults::default()).await
    });
    for (number, what) in (1..).zip(&whole.requests) {
        for fault in [
            Fault::CrashBefore,
            Fault::CrashAfter,
            Fault::LostAnswer,
            Fault::Unavailable,
            Fault::Conflict,
            Fault::Hang,
        ] {
            let ended = run(0, None, async |world| {
                scenario(world, at(number, fault)).await
            });
            let ended = ended.expect_right(&format!("{fault:?} at request {number}, {what}"));
            assert_eq!(
                ended.restarts, restarts,
                "{fault:?} at request {number}, {what}:\n{}",
                ended.trace
            );
        }
    }
}
