//! Wrong inputs of a tenant, of who runs Vault, and of servers, as tables. Each
//! is told with its reason, its cause and its mend; what was synced before stays
//! as it is; and the right input heals it, twice over, in the same process. No
//! value that passed through any of it is seen in the open.

mod answers;
pub mod certificates;
mod objects;
mod references;
mod scene;
mod sources;
mod specs;
mod stage;

use anyhow::Result;
use ground::faults::Answer;
use serde_json::{Value, json};

use crate::grades::Grade;
use crate::support::Suite;
use scene::{CANARY, Scene};

const STATIC: &str = "VaultStaticSecret";

crate::trials![
    "bad_inputs": ; in each grade:
    wrong_specs_are_told_and_heal, wrong_references_are_told_and_heal,
    wrong_sources_and_answers_are_told_and_heal,
];

/// One wrong input: what it is, and what is expected of it.
struct Case {
    /// Its resources are called so.
    name: &'static str,
    /// The kind that its secret is of.
    kind: &'static str,
    /// Merged into the spec of its secret while it is right as well.
    always: Value,
    wrong: Wrong,
    expected: Expected,
    /// While it is wrong it names other objects, which need rights too.
    names_others: bool,
}

/// What is wrong, in one place. Specs are patches: null takes a field away.
enum Wrong {
    /// The spec of the secret.
    Spec(Value),
    /// The spec of the VaultAuth.
    Auth(Value),
    /// The spec of the VaultConnection.
    Connection(Value),
    /// The Secret of the CA certificates: this is in it; null: it is gone.
    Authority(Value),
    /// The ServiceAccount is gone.
    Account,
    /// The role in Vault is another: this is merged into it; null: it is gone.
    Role(Value),
    /// The source in Vault holds this.
    Source(Value),
    /// The last version of the source was deleted, or as this says.
    Gone(Gone),
    /// The role of the PKI engine is another: this is merged into it.
    Issuing(Value),
    /// A server answers this to reads and issues,
    Read(Answer),
    /// or to logins.
    Login(Answer),
}

#[derive(Clone, Copy)]
enum Gone {
    Deleted,
    Destroyed,
    Purged,
}

enum Expected {
    /// The condition of this type says so: reason, words of cause and mend.
    Told {
        condition: &'static str,
        reason: &'static str,
        words: &'static [&'static str],
    },
    /// The API server does not take it, and says so.
    Refused(&'static [&'static str]),
    /// It is no mistake: this key of the Secret holds this.
    Taken(&'static str, String),
}

/// A case that `Ready` tells of.
fn told(
    name: &'static str,
    wrong: Wrong,
    reason: &'static str,
    words: &'static [&'static str],
) -> Case {
    let condition = "Ready";
    Case {
        name,
        kind: STATIC,
        always: json!({}),
        wrong,
        expected: Expected::Told {
            condition,
            reason,
            words,
        },
        names_others: false,
    }
}

/// A case that ends before it is stored.
fn refused(name: &'static str, wrong: Wrong, words: &'static [&'static str]) -> Case {
    Case {
        name,
        kind: STATIC,
        always: json!({}),
        wrong,
        expected: Expected::Refused(words),
        names_others: false,
    }
}

/// A case that looks wrong and is right.
fn taken(name: &'static str, wrong: Wrong, key: &'static str, value: impl Into<String>) -> Case {
    Case {
        name,
        kind: STATIC,
        always: json!({}),
        wrong,
        expected: Expected::Taken(key, value.into()),
        names_others: false,
    }
}

impl Case {
    fn naming_others(mut self) -> Self {
        self.names_others = true;
        self
    }

    fn of(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    fn always(mut self, always: Value) -> Self {
        self.always = always;
        self
    }

    /// It is told by another condition than `Ready`, which stays true.
    fn beside_ready(mut self, of: &'static str) -> Self {
        if let Expected::Told { condition, .. } = &mut self.expected {
            *condition = of;
        }
        self
    }
}

async fn wrong_specs_are_told_and_heal(suite: &Suite, grade: Grade) -> Result<()> {
    let scene = Scene::set(suite, grade, "bad-specs").await?;
    scene.play(suite, specs::cases(&scene)).await
}

async fn wrong_references_are_told_and_heal(suite: &Suite, grade: Grade) -> Result<()> {
    let scene = Scene::set(suite, grade, "bad-references").await?;
    scene.play(suite, references::cases(&scene)).await
}

async fn wrong_sources_and_answers_are_told_and_heal(suite: &Suite, grade: Grade) -> Result<()> {
    let scene = Scene::set(suite, grade, "bad-answers").await?;
    let (mut cases, answers) = (sources::cases(), answers::cases(&scene));
    cases.extend(answers);
    // What Vault holds and answers is judged before any right matters: in the other
    // grade each third one stands for its neighbours.
    if grade == Grade::Named {
        cases = cases.into_iter().step_by(3).collect();
    }
    scene.play(suite, cases).await
}
