//! How each of our kinds is kept in the view, so that one observer serves all.

use std::rc::Rc;

use kube::Resource;

use super::sources::SecretResource;
use super::view::View;
use crate::key::{Kind, ObjectKey, ResourceKey};

/// How a kind of ours is kept in the view.
pub trait Kept: Resource<DynamicType = ()> + Clone + PartialEq {
    /// The kind.
    const KIND: Kind;
    /// The one of that name.
    fn get(view: &View, key: &ObjectKey) -> Option<Rc<Self>>;
    /// Stores or removes.
    fn put(view: &mut View, key: &ObjectKey, new: Option<Rc<Self>>);
    /// All names.
    fn keys(view: &View) -> Vec<ObjectKey>;
}

macro_rules! kept {
    ($type:ty, $kind:expr, $store:ident) => {
        impl Kept for $type {
            const KIND: Kind = $kind;

            fn get(view: &View, key: &ObjectKey) -> Option<Rc<Self>> {
                view.$store.get(key).cloned()
            }

            fn put(view: &mut View, key: &ObjectKey, new: Option<Rc<Self>>) {
                match new {
                    Some(new) => view.$store.insert(key.clone(), new),
                    None => view.$store.remove(key),
                };
            }

            fn keys(view: &View) -> Vec<ObjectKey> {
                view.$store.keys().cloned().collect()
            }
        }
    };
}

kept!(
    crate::api::VaultConnection,
    Kind::VaultConnection,
    connections
);
kept!(crate::api::VaultAuth, Kind::VaultAuth, auths);
kept!(crate::api::VaultAuthGlobal, Kind::VaultAuthGlobal, globals);
kept!(
    crate::api::SecretTransformation,
    Kind::SecretTransformation,
    transformations
);
kept!(
    crate::api::VaultDynamicSecret,
    Kind::VaultDynamicSecret,
    dynamics
);
kept!(crate::api::VaultPKISecret, Kind::VaultPkiSecret, pkis);

/// The same for kinds that have a Secret written, whose names are indexed.
macro_rules! kept_writer {
    ($type:ty, $kind:expr, $store:ident) => {
        impl Kept for $type {
            const KIND: Kind = $kind;

            fn get(view: &View, key: &ObjectKey) -> Option<Rc<Self>> {
                view.$store.get(key).cloned()
            }

            fn put(view: &mut View, key: &ObjectKey, new: Option<Rc<Self>>) {
                let resource = ResourceKey {
                    kind: $kind,
                    object: key.clone(),
                };
                let old = view.$store.remove(key);
                view.reindex(
                    &resource,
                    old.as_deref().map(|old| old as &dyn SecretResource),
                    new.as_deref().map(|new| new as &dyn SecretResource),
                );
                if let Some(new) = new {
                    view.$store.insert(key.clone(), new);
                }
            }

            fn keys(view: &View) -> Vec<ObjectKey> {
                view.$store.keys().cloned().collect()
            }
        }
    };
}

kept_writer!(
    crate::api::VaultStaticSecret,
    Kind::VaultStaticSecret,
    statics
);

/// Calls a function for the type of a kind.
macro_rules! of_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            Kind::VaultConnection => $function::<crate::api::VaultConnection>($($argument),*),
            Kind::VaultAuth => $function::<crate::api::VaultAuth>($($argument),*),
            Kind::VaultAuthGlobal => $function::<crate::api::VaultAuthGlobal>($($argument),*),
            Kind::VaultStaticSecret => $function::<crate::api::VaultStaticSecret>($($argument),*),
            Kind::VaultDynamicSecret => $function::<crate::api::VaultDynamicSecret>($($argument),*),
            Kind::VaultPkiSecret => $function::<crate::api::VaultPKISecret>($($argument),*),
            Kind::SecretTransformation => $function::<crate::api::SecretTransformation>($($argument),*),
        }
    };
}

pub(super) use of_kind;
