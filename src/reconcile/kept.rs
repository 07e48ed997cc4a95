//! How each of our kinds is kept in the view, so that one observer serves all.

use std::rc::Rc;

use kube::Resource;

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

/// `$moved`: the method of the view that follows the kind's changes, if one does.
macro_rules! kept {
    ($type:ty, $kind:expr, $store:ident $(, $moved:ident)?) => {
        impl Kept for $type {
            const KIND: Kind = $kind;

            fn get(view: &View, key: &ObjectKey) -> Option<Rc<Self>> {
                view.$store.get(key).cloned()
            }

            fn put(view: &mut View, key: &ObjectKey, new: Option<Rc<Self>>) {
                let _old = view.$store.remove(key);
                $({
                    let kind = $kind;
                    let object = key.clone();
                    let old = _old.as_deref().map(|old| old as _);
                    let new = new.as_deref().map(|new| new as _);
                    view.$moved(&ResourceKey { kind, object }, old, new);
                })?
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
    dynamics,
    reindex
);
kept!(
    crate::api::VaultPKISecret,
    Kind::VaultPkiSecret,
    pkis,
    reindex
);
kept!(
    crate::api::VaultStaticSecret,
    Kind::VaultStaticSecret,
    statics,
    reindex
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
