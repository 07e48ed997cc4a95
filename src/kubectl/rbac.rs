//! `kubectl vto rbac`: from manifests and configuration to the least Roles, and
//! from Roles to what they lack and give beyond. Says what it left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::cli::print;
use crate::config::{self, Config, Grade, Override};
use crate::key::is_object_name;
use crate::operator::{CONTROLLER, secret_names};
use crate::policy::OwnIdentity;
use crate::problem::Problem;
use crate::reconcile::discovers;
use crate::reconcile::sources::key_of;
use crate::rights::{Difference, Granted, Needed, Right, Rights, compare, in_order, needed};
use clap::Args;

use crate::kubectl::Outcome;
use crate::kubectl::granted::{self, Source};
use crate::kubectl::manifests::{self, Manifests};
use crate::kubectl::role;

/// An audience of the API server, which stands for those that only the
/// operator's own token shows.
const API_AUDIENCE: &str = "https://kubernetes.default.svc";

/// Print the least Role and RoleBinding of an operator, each rule with what
/// needs it; or check what it has
#[derive(Debug, Args)]
#[command(
    after_help = "What the operator is told by flags or VTO_* variables belongs into a further --config FILE: the \
                  environment of this command is not the operator's.\n\nExit codes: 0 printed, or nothing differs; \
                  1 something is missing or too much; 2 it could not be told."
)]
pub struct Rbac {
    /// The operator's own namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: String,

    /// namespace: all Secrets of the watched namespaces; named: those alone that resources name
    /// [default: secretAccess of the configuration]
    #[arg(long, value_name = "GRADE")]
    grade: Option<Grade>,

    /// Manifests of custom resources: a file, a folder, or - for standard input; repeatable.
    /// Other objects in them are passed over
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    manifests: Vec<String>,

    /// The operator's configuration files, in its order; repeatable
    #[arg(long, value_name = "FILE")]
    config: Vec<String>,

    /// The operator's --watch-namespaces, separated by commas or repeated
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,

    /// The operator's ServiceAccount
    #[arg(long, value_name = "NAME", default_value = CONTROLLER)]
    service_account: String,

    /// Compare instead of printing. WHAT is a file or folder with Roles, -, or in the cluster
    /// role/NAME or rolebinding/NAME; repeatable, and taken together. Without WHAT: all that the
    /// ServiceAccount may do there, asked by impersonating it
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "")]
    check: Vec<Source>,
}

/// Does what the command says.
///
/// # Errors
/// Sentences with the place and the mend: manifests or configuration that are
/// refused, a cluster that does not answer.
pub fn run(command: &Rbac) -> Result<Outcome, String> {
    let config = configuration(command)?;
    let watched = config.watched(&command.namespace);
    let grade = command.grade.unwrap_or(config.secret_access);
    let read = command
        .manifests
        .iter()
        .map(|path| path == manifests::STDIN);
    let read = read.chain(command.check.iter().map(Source::is_stdin));
    if read.filter(|is_stdin| *is_stdin).count() > 1 {
        return Err("standard input can be read once only: give files for the others".to_owned());
    }
    if grade == Grade::Named && command.manifests.is_empty() {
        return Err(
            "the grade named goes by what resources name: give their manifests with -f".to_owned(),
        );
    }
    let manifests = Manifests::read(&command.manifests, &watched)?;
    let own = OwnIdentity {
        namespace: command.namespace.clone(),
        service_account: command.service_account.clone(),
        api_server: Vec::new(),
        api_audiences: vec![API_AUDIENCE.to_owned()],
        secret_names: secret_names(),
    };
    let needed = needed(grade, &config, &own, &manifests.view);
    for note in &manifests.left_out {
        eprintln!("note: {note}");
    }
    notes(&needed, &manifests)?;
    if grade == Grade::Named {
        note_what_is_not_found(&manifests);
    }
    let account = (command.namespace.as_str(), command.service_account.as_str());
    if command.check.is_empty() {
        print(&role::yaml(grade, account, &needed.namespaces))?;
        return Ok(Outcome::Done);
    }
    let namespaces: BTreeSet<String> = needed.namespaces.keys().cloned().collect();
    let granted = granted::collect(&command.check, account, &namespaces, &watched)?;
    report(&needed.namespaces, &granted)
}

/// Defaults, files, and the flags that are the operator's too: never the
/// environment, which is not the operator's.
fn configuration(command: &Rbac) -> Result<Config, String> {
    for (flag, name) in [
        ("--namespace", &command.namespace),
        ("--service-account", &command.service_account),
    ] {
        if !is_object_name(name) {
            return Err(format!(
                "{flag}: {name:?} is no name: use lower-case letters, digits and hyphens"
            ));
        }
    }
    let watch = (!command.watch_namespaces.is_empty()).then(|| Override {
        key: "watchNamespaces",
        flag: "--watch-namespaces",
        value: command.watch_namespaces.join(","),
    });
    let overrides: Vec<Override> = watch.into_iter().collect();
    config::load(&command.config, [], &overrides)
        .map(|loaded| loaded.config)
        .map_err(|findings| config::refused(&findings))
}

/// Tells which resources look for workloads that an operator of the grade named finds none of.
fn note_what_is_not_found(manifests: &Manifests) {
    for resource in manifests.view.writers().filter(|one| discovers(*one)) {
        let place = manifests.place(&key_of(resource));
        eprintln!(
            "note: {place}: spec.rollout finds no workload in the grade named, which may not list them; it is given rights to those of spec.rolloutRestartTargets"
        );
    }
}

/// Tells which resources need nothing. Those that the operator would not serve
/// as they are refused: with their mistakes mended they would need more.
fn notes(needed: &Needed, manifests: &Manifests) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (key, problem) in &needed.unserved {
        let told = format!("{}: {problem}", manifests.place(key));
        match problem {
            Problem::NotServed { .. } | Problem::PolicyDenied { .. } => {
                eprintln!("note: {told}; it is given no rights");
            }
            _ => wrong.push(told),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nmend this, or give the manifests that are lacking with -f: a Role without them would be too small",
        wrong.join("\n")
    ))
}

/// Prints what differs, one line for each object and namespace.
fn report(
    needed: &BTreeMap<String, Rights>,
    granted: &BTreeMap<String, Vec<Granted>>,
) -> Result<Outcome, String> {
    let (nothing, none) = (Rights::new(), Vec::new());
    let mut text = String::new();
    let namespaces: BTreeSet<&String> = needed.keys().chain(granted.keys()).collect();
    for &namespace in &namespaces {
        let rights = needed.get(namespace).unwrap_or(&nothing);
        let difference = compare(rights, granted.get(namespace).unwrap_or(&none));
        describe(&mut text, namespace, rights, &difference);
    }
    let same = text.is_empty();
    if same {
        text = "all that is needed, and nothing else\n".to_owned();
    }
    print(&text)?;
    Ok(if same {
        Outcome::Done
    } else {
        Outcome::Differs
    })
}

fn describe(text: &mut String, namespace: &str, rights: &Rights, difference: &Difference) {
    for (object, verbs) in by_object(&difference.missing) {
        let reasons = verbs.iter().filter_map(|right| rights.get(right)).flatten();
        let reasons: BTreeSet<String> = reasons.map(role::reason).collect();
        let reasons: Vec<String> = reasons.into_iter().collect();
        let _ = writeln!(
            text,
            "{namespace}: missing: {} (for {})",
            object,
            reasons.join("; ")
        );
    }
    for (object, verbs) in by_object(&difference.surplus) {
        let narrower = verbs.iter().any(|surplus| {
            let same = |right: &&Right| {
                let name = None;
                Right {
                    name,
                    ..(*right).clone()
                } == **surplus
            };
            rights.keys().any(|right| same(&right))
        });
        let hint = if narrower {
            " (needed for single names alone)"
        } else {
            ""
        };
        let _ = writeln!(text, "{namespace}: too much: {object}{hint}");
    }
}

/// Rights of one object together, as `get, list secrets "app"`.
fn by_object(rights: &BTreeSet<Right>) -> Vec<(String, Vec<&Right>)> {
    let mut objects = BTreeMap::<_, Vec<&Right>>::new();
    for right in rights {
        let object = (&right.group, &right.resource, &right.name);
        objects.entry(object).or_default().push(right);
    }
    objects
        .into_values()
        .map(|rights| {
            let verbs = in_order(rights.iter().map(|right| right.verb.as_ref()));
            let shown = rights.first().map(|right| Right {
                verb: verbs.join(", ").into(),
                ..(*right).clone()
            });
            (
                shown.map_or_else(String::new, |one| one.to_string()),
                rights,
            )
        })
        .collect()
}
