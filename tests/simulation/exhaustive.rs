//! Every request of one script, once for each fault: crash before it, crash
//! after its effect, answer lost, refused, conflict, no answer.

use crate::runs::{at, run, script};
use crate::world::{Fault, Faults};

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
    let requests = run(0, None, async |world| {
        script(world, Faults::default()).await
    })
    .requests;
    for (number, what) in (1..).zip(&requests) {
        for fault in [
            Fault::CrashBefore,
            Fault::CrashAfter,
            Fault::LostAnswer,
            Fault::Unavailable,
            Fault::Conflict,
            Fault::Hang,
        ] {
            let ended = run(0, None, async |world| {
                script(world, at(number, fault)).await
            });
            let ended = ended.expect_right(&format!("{fault:?} at request {number}, {what}"));
            assert_eq!(
                ended.restarts, 1,
                "{fault:?} at request {number}, {what}:\n{}",
                ended.trace
            );
        }
    }
}
