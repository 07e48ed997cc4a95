//! The Secrets of the model API server: field ownership, server-side apply, and edits by others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::ports::{Fence, ManagedFields};
use vault_tenant_operator::reconcile::view::{SecretMeta, Store};

use super::{ApiServer, conflict, seconds};
use crate::managed;
use crate::objects::{Field, Fields, Object, Owned, Secret, object};

impl ApiServer {
    pub(super) fn put_secret(&mut self, name: &str, mut secret: Secret) -> Secret {
        // An apply of ours with no key still owns the map `data`.
        secret
            .managers
            .retain(|name, owned| name.starts_with("vto-") || !owned.fields.is_empty());
        secret.version = self.next();
        self.secrets.insert(name.to_owned(), secret.clone());
        self.logged(
            Store::Secrets,
            object(name),
            Ok(Object::Secret(secret.clone())),
        );
        secret
    }

    /// Answers with what it was.
    pub fn delete_secret(&mut self, name: &str) -> Option<Secret> {
        let secret = self.secrets.remove(name)?;
        self.logged(Store::Secrets, object(name), Err(secret.uid.clone()));
        Some(secret)
    }

    /// Whether a Secret still is as it was seen.
    pub fn check_seen(&self, name: &str, seen: &SecretMeta) -> Result<(), Problem> {
        let what = format!("change Secret {name}");
        let Some(found) = self.secrets.get(name) else {
            return Err(conflict(&what, "not found"));
        };
        if found.uid != seen.uid || found.version.to_string() != seen.resource_version {
            return Err(conflict(&what, "Precondition failed"));
        }
        Ok(())
    }

    /// A deletion with uid and resourceVersion as preconditions.
    pub fn delete_secret_as(&mut self, name: &str, seen: &SecretMeta) -> Result<(), Problem> {
        self.check_seen(name, seen)?;
        self.delete_secret(name);
        Ok(())
    }

    /// Server-side apply of `fields`, which are all that `manager` wants to own;
    /// without a fence it is forced.
    pub fn apply_secret(
        &mut self,
        name: &str,
        manager: &str,
        fence: Option<&Fence>,
        fields: &Fields,
        now: Timestamp,
    ) -> Result<Secret, Problem> {
        let what = format!("apply Secret {name}");
        let existing = self.secrets.get(name).cloned();
        let modified = "the object has been modified";
        match (fence, &existing) {
            (Some(Fence::Create), Some(_)) => return Err(conflict(&what, modified)),
            (Some(Fence::Update { .. }), None) => {
                return Err(conflict(
                    &what,
                    "Precondition failed: UID in precondition, but the object is gone",
                ));
            }
            (
                Some(Fence::Update {
                    uid,
                    resource_version,
                }),
                Some(found),
            ) => {
                if found.uid != *uid {
                    return Err(conflict(&what, "Precondition failed: UID"));
                }
                if found.version.to_string() != *resource_version {
                    return Err(conflict(&what, modified));
                }
            }
            _ => {}
        }
        let Some(before) = existing else {
            let owned = Owned {
                time: seconds(now),
                fields: fields.keys().cloned().collect(),
            };
            let new = Secret {
                uid: self.new_uid(),
                version: 0,
                creator: manager.to_owned(),
                fields: fields.clone(),
                managers: BTreeMap::from([(manager.to_owned(), owned)]),
            };
            return Ok(self.put_secret(name, new));
        };
        let types = (before.fields.get(&Field::Type), fields.get(&Field::Type));
        if matches!(types, (Some(before), Some(wanted)) if before != wanted) {
            return Err(Problem::DestinationImmutable {
                what,
                why: "type: field is immutable".to_owned(),
            });
        }
        let after = merged(&before, manager, fields, now);
        if after == before {
            Ok(before)
        } else {
            Ok(self.put_secret(name, after))
        }
    }

    /// Replaces who owns what in a Secret, as it was seen.
    pub fn set_managed_fields(
        &mut self,
        name: &str,
        fields: &ManagedFields,
    ) -> Result<SecretMeta, Problem> {
        let what = format!("set managed fields of Secret {name}");
        let found = self.secrets.get(name).cloned();
        let same = |found: &Secret| {
            found.uid == fields.uid && found.version.to_string() == fields.resource_version
        };
        let Some(mut secret) = found.filter(same) else {
            return Err(conflict(&what, "the object has been modified"));
        };
        managed::set_entries(&mut secret, &fields.entries);
        self.put_secret(name, secret);
        Ok(self.secrets[name].meta())
    }

    /// An update by somebody: sets or removes one field and owns it.
    pub fn edit_secret(
        &mut self,
        name: &str,
        editor: &str,
        field: Field,
        value: Option<&str>,
        now: Timestamp,
    ) {
        let Some(mut secret) = self.secrets.get(name).cloned() else {
            return;
        };
        // An update owns what it changes; what it leaves as it was keeps its owner.
        if secret.fields.get(&field).map(Vec::as_slice) == value.map(str::as_bytes) {
            return;
        }
        for owned in secret.managers.values_mut() {
            owned.fields.remove(&field);
        }
        match value {
            Some(value) => {
                secret.fields.insert(field.clone(), value.into());
                let none = Owned {
                    time: now,
                    fields: Default::default(),
                };
                let owned = secret.managers.entry(editor.to_owned()).or_insert(none);
                owned.time = seconds(now);
                owned.fields.insert(field);
            }
            None => {
                secret.fields.remove(&field);
            }
        }
        self.put_secret(name, secret);
    }
}

/// The Secret after a forced apply.
fn merged(before: &Secret, manager: &str, fields: &Fields, now: Timestamp) -> Secret {
    let mut after = before.clone();
    for (field, value) in fields {
        if before.fields.get(field) == Some(value) {
            continue;
        }
        for owned in after.managers.values_mut() {
            owned.fields.remove(field);
        }
        after.fields.insert(field.clone(), value.clone());
    }
    let earlier = after.managers.remove(manager);
    for field in earlier.iter().flat_map(|owned| &owned.fields) {
        let others = after
            .managers
            .values()
            .any(|owned| owned.fields.contains(field));
        if !fields.contains_key(field) && !others && *field != Field::Type {
            after.fields.remove(field);
        }
    }
    let owned = Owned {
        time: seconds(now),
        fields: fields.keys().cloned().collect(),
    };
    let same = after.fields == before.fields
        && earlier
            .as_ref()
            .is_some_and(|earlier| earlier.fields == owned.fields);
    let owned = if same {
        earlier.unwrap_or(owned)
    } else {
        owned
    };
    after.managers.insert(manager.to_owned(), owned);
    after
}
