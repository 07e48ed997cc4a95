//! How each of our kinds is kept in the view, so that one observer serves all.

use std::rc::Rc;

use kube::Resource;

use super::view::View;
use crate::key::{Kind, ObjectKey};

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

impl Kept for crate::api::VaultStaticSecret {
    const KIND: Kind = Kind::VaultStaticSecret;

    fn get(view: &View, key: &ObjectKey) -> Option<Rc<Self>> {
        view.statics.get(key).cloned()
    }

    fn put(view: &mut View, key: &ObjectKey, new: Option<Rc<Self>>) {
        view.put_static(key, new);
    }

    fn keys(view: &View) -> Vec<ObjectKey> {
        view.statics.keys().cloned().collect()
    }
}
