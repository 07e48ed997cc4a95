//! Managed fields of the model's Secrets in the API server's form, and back.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::{Value, json};

use crate::objects::{Field, Owned, Secret};

/// A set of fields as FieldsV1.
pub fn fields_v1(owned: &Owned) -> Value {
    let (mut data, mut labels, mut annotations) = (json!({}), json!({}), json!({}));
    let mut owners = json!({});
    for field in &owned.fields {
        match field {
            Field::Data(name) => data[format!("f:{name}")] = json!({}),
            Field::Label(name) => labels[format!("f:{name}")] = json!({}),
            Field::Annotation(name) => annotations[format!("f:{name}")] = json!({}),
            Field::Owner(uid) => owners[format!("k:{uid}")] = json!({}),
            Field::Type => {}
        }
    }
    let mut fields = json!({
        "f:data": data,
        "f:metadata": {
            "f:labels": labels, "f:annotations": annotations, "f:ownerReferences": owners,
        },
    });
    if owned.fields.contains(&Field::Type) {
        fields["f:type"] = json!({});
    }
    fields
}

fn fields_of(fields: &Value) -> BTreeSet<Field> {
    let mut found = BTreeSet::new();
    type OfField = fn(String) -> Field;
    let groups: [(&str, OfField); 4] = [
        ("/f:data", Field::Data),
        ("/f:metadata/f:labels", Field::Label),
        ("/f:metadata/f:annotations", Field::Annotation),
        ("/f:metadata/f:ownerReferences", Field::Owner),
    ];
    for (group, field) in groups {
        let names = fields.pointer(group).and_then(Value::as_object);
        let names = names.into_iter().flat_map(|names| names.keys());
        found.extend(names.map(|name| field(name[2..].to_owned())));
    }
    if fields.get("f:type").is_some() {
        found.insert(Field::Type);
    }
    found
}

/// All entries of a Secret.
pub fn entries(secret: &Secret) -> Vec<ManagedFieldsEntry> {
    let entry = |(name, owned): (&String, &Owned)| ManagedFieldsEntry {
        manager: Some(name.clone()),
        operation: Some(
            if name.starts_with("vto-") {
                "Apply"
            } else {
                "Update"
            }
            .to_owned(),
        ),
        time: Some(Time(owned.time)),
        fields_v1: Some(FieldsV1(fields_v1(owned))),
        ..ManagedFieldsEntry::default()
    };
    secret.managers.iter().map(entry).collect()
}

/// Replaces all entries of a Secret.
pub fn set_entries(secret: &mut Secret, entries: &[ManagedFieldsEntry]) {
    let owned = |entry: &ManagedFieldsEntry| {
        let name = entry.manager.clone()?;
        let fields = fields_of(&entry.fields_v1.as_ref()?.0);
        let time = entry.time.as_ref()?.0;
        Some((name, Owned { time, fields }))
    };
    secret.managers = entries.iter().filter_map(owned).collect();
}
