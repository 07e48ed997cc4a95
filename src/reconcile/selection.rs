//! Which workloads a resource finds by itself, beside those that it names
//! (`spec.rollout`): pure, over one workload as it is kept.

use kube::core::{Expression, Selector, SelectorExt as _};

use super::sources::SecretResource;
use super::view::WorkloadMeta;
use crate::api::{LabelSelector, LabelSelectorRequirement, SelectorOperator};
use crate::key::{is_label_value, is_metadata_key};
use crate::problem::{Problem, printable};

/// So many labels and requirements a selector has at most, and so many values all of them
/// together: each workload of the namespace is held against it.
const MOST: usize = 100;

/// Where the selector stands.
const FIELD: &str = "spec.rollout.selector";

/// What a workload must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// It uses the Secret of this name.
    pub(super) uses: Option<String>,
    /// Or it has such labels.
    pub(super) labels: Option<Selector>,
}

impl Query {
    /// Whether a workload is like that.
    pub(super) fn finds(&self, workload: &WorkloadMeta) -> bool {
        let uses = |secret: &String| workload.uses.iter().any(|one| one.secret == *secret);
        self.uses.as_ref().is_some_and(uses) || self.selects(workload)
    }

    /// Whether it has such labels.
    pub(super) fn selects(&self, workload: &WorkloadMeta) -> bool {
        let both = self.labels.as_ref().zip(workload.labels.as_ref());
        both.is_some_and(|(selector, labels)| selector.matches(labels))
    }
}

/// Whether a resource says that it finds workloads, rightly or not.
#[must_use]
pub fn discovers(resource: &dyn SecretResource) -> bool {
    let spec = resource.rollout();
    spec.is_some_and(|spec| spec.auto == Some(true) || spec.selector.is_some())
}

/// What a resource looks for; `None` where it does not.
///
/// # Errors
/// [`Problem::InvalidSpec`].
pub(super) fn query_of(resource: &dyn SecretResource) -> Result<Option<Query>, Problem> {
    if !discovers(resource) {
        return Ok(None);
    }
    let spec = resource.rollout().cloned().unwrap_or_default();
    let auto = spec.auto == Some(true);
    Ok(Some(Query {
        uses: auto.then(|| resource.destination().name.clone()),
        labels: spec.selector.as_ref().map(selector).transpose()?,
    }))
}

fn invalid(field: String, why: impl Into<String>) -> Problem {
    Problem::InvalidSpec {
        field,
        why: why.into(),
    }
}

fn selector(spec: &LabelSelector) -> Result<Selector, Problem> {
    let labels = spec.match_labels.iter().flatten();
    let requirements = spec.match_expressions.as_deref().unwrap_or_default();
    let parts = labels.clone().count() + requirements.len();
    if parts == 0 {
        let why = "it is empty and would mean every workload of the namespace: say which by matchLabels or matchExpressions, or take the selector out";
        return Err(invalid(FIELD.to_owned(), why));
    }
    let values = requirements.iter().flat_map(|one| &one.values).flatten();
    if parts > MOST || values.count() > MOST {
        let why = format!(
            "it has more than {MOST} requirements or values: give the workloads a label of their own and select by that"
        );
        return Err(invalid(FIELD.to_owned(), why));
    }
    let mut all = Selector::default();
    for (key, value) in labels {
        let field = format!("{FIELD}.matchLabels");
        check_key(&field, key)?;
        check_value(&field, value)?;
        all.extend(Expression::Equal(key.clone(), value.clone()));
    }
    for (at, requirement) in requirements.iter().enumerate() {
        let field = format!("{FIELD}.matchExpressions[{at}]");
        all.extend(expression(&field, requirement)?);
    }
    Ok(all)
}

fn expression(field: &str, requirement: &LabelSelectorRequirement) -> Result<Expression, Problem> {
    let key = requirement.key.clone();
    check_key(&format!("{field}.key"), &key)?;
    let of_values = format!("{field}.values");
    let values = requirement.values.as_deref().unwrap_or_default();
    values
        .iter()
        .try_for_each(|value| check_value(&of_values, value))?;
    let some = || match values.is_empty() {
        false => Ok(values.iter().cloned().collect()),
        true => {
            let why = format!("{} needs at least one value", requirement.operator);
            Err(invalid(of_values.clone(), why))
        }
    };
    let none = |expression| match values.is_empty() {
        true => Ok(expression),
        false => {
            let why = format!("{} takes no values: leave them out", requirement.operator);
            Err(invalid(of_values.clone(), why))
        }
    };
    match &requirement.operator {
        SelectorOperator::In => Ok(Expression::In(key, some()?)),
        SelectorOperator::NotIn => Ok(Expression::NotIn(key, some()?)),
        SelectorOperator::Exists => none(Expression::Exists(key)),
        SelectorOperator::DoesNotExist => none(Expression::DoesNotExist(key)),
        SelectorOperator::Unknown(other) => {
            let why = format!(
                "{:?} is neither In, NotIn, Exists nor DoesNotExist",
                printable(other, 40)
            );
            Err(invalid(format!("{field}.operator"), why))
        }
    }
}

fn check_key(field: &str, key: &str) -> Result<(), Problem> {
    if is_metadata_key(key) {
        return Ok(());
    }
    let why = format!(
        "{:?} is no name of a label: letters and digits, within them also -, _ and ., perhaps with a domain and / before",
        printable(key, 80)
    );
    Err(invalid(field.to_owned(), why))
}

fn check_value(field: &str, value: &str) -> Result<(), Problem> {
    if is_label_value(value) {
        return Ok(());
    }
    let why = format!(
        "{:?} is no value of a label: up to 63 letters and digits, within them also -, _ and .",
        printable(value, 80)
    );
    Err(invalid(field.to_owned(), why))
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
