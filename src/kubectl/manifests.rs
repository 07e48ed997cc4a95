//! Custom resources from files, folders and standard input, as the operator
//! would see them through its watches. All that is wrong is told at once, with
//! file and document.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use crate::api;
use crate::key::{Kind, ObjectKey, ResourceKey, is_object_name};
use crate::reconcile::kept::Kept;
use crate::reconcile::view::View;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

/// The path that stands for standard input.
pub const STDIN: &str = "-";

/// How files with manifests end.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// One YAML document, or one item of a list in it.
pub struct Document {
    /// `app.yaml, document 2`.
    pub place: String,
    /// What it holds.
    pub value: Value,
}

impl Document {
    fn text(&self, path: &[&str]) -> &str {
        let mut value = &self.value;
        for name in path {
            value = value.get(name).unwrap_or(&Value::Null);
        }
        value.as_str().unwrap_or_default()
    }

    /// `apiVersion`; empty where there is none.
    pub fn api_version(&self) -> &str {
        self.text(&["apiVersion"])
    }

    /// `kind`; empty where there is none.
    pub fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    /// `metadata.name`; empty where there is none.
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    /// `metadata.namespace`, or else the only one that is watched.
    ///
    /// # Errors
    /// A sentence, where several are watched.
    pub fn namespace(&self, watched: &[String]) -> Result<String, String> {
        match (self.text(&["metadata", "namespace"]), watched) {
            ("", [only]) => Ok(only.clone()),
            ("", _) => Err(self.wrong(
                "names no namespace, and the operator watches several: set metadata.namespace",
            )),
            (namespace, _) if is_object_name(namespace) => Ok(namespace.to_owned()),
            (namespace, _) => Err(self.wrong(&format!(
                "metadata.namespace: {namespace:?} is no name of a namespace"
            ))),
        }
    }

    /// A sentence about it.
    pub fn wrong(&self, why: &str) -> String {
        format!("{}: {} {:?}: {why}", self.place, self.kind(), self.name())
    }
}

/// The documents of a file, of the files of a folder, or of standard input.
///
/// # Errors
/// A sentence that names the file, and the document where it is one.
pub fn documents(path: &str) -> Result<Vec<Document>, String> {
    if path == STDIN {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("standard input cannot be read: {error}"))?;
        return parse("standard input", &text);
    }
    let read = |path: &Path| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{name} cannot be read: {error}"))?;
        parse(&name, &text)
    };
    let path = Path::new(path);
    if !path.is_dir() {
        return read(path);
    }
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let extension = file.extension().and_then(|text| text.to_str());
        if file.is_file() && extension.is_some_and(|text| EXTENSIONS.contains(&text)) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let endings = EXTENSIONS.join(", ");
        return Err(format!(
            "{} holds no file that ends in {endings}; folders below it are not looked into",
            path.display()
        ));
    }
    let mut all = Vec::new();
    for file in files {
        all.extend(read(&file)?);
    }
    Ok(all)
}

fn parse(file: &str, text: &str) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("{file}, document {}", index + 1);
        let value = Value::deserialize(document)
            .map_err(|error| format!("{place}: is no YAML: {error}"))?;
        unfold(Document { place, value }, &mut documents);
    }
    Ok(documents)
}

/// A `List`, as `kubectl get` prints it, is its items.
fn unfold(document: Document, documents: &mut Vec<Document>) {
    let items = document.value.get("items").and_then(Value::as_sequence);
    match items.filter(|_| document.kind().ends_with("List")) {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("{}, item {}", document.place, index + 1);
                let value = item.clone();
                unfold(Document { place, value }, documents);
            }
        }
        None if document.value.is_null() => {}
        None => documents.push(document),
    }
}

/// The custom resources of an operator.
#[derive(Default)]
pub struct Manifests {
    /// Those of watched namespaces.
    pub view: View,
    /// Sentences about those that the operator would not see.
    pub left_out: Vec<String>,
    places: BTreeMap<ResourceKey, String>,
}

impl Manifests {
    /// Reads all paths; `watched` are the namespaces that the operator serves.
    ///
    /// # Errors
    /// Everything that is wrong, a line for each.
    pub fn read(paths: &[String], watched: &[String]) -> Result<Self, String> {
        let (mut manifests, mut wrong) = (Self::default(), Vec::new());
        for path in paths {
            match documents(path) {
                Ok(documents) => {
                    for document in &documents {
                        wrong.extend(manifests.take(document, watched).err());
                    }
                }
                Err(sentence) => wrong.push(sentence),
            }
        }
        if wrong.is_empty() {
            Ok(manifests)
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// Where a resource stands, and what it is.
    pub fn place(&self, key: &ResourceKey) -> String {
        let place = self.places.get(key).map_or("", String::as_str);
        format!("{place}: {} {:?}", key.kind, key.object.name)
    }

    fn take(&mut self, document: &Document, watched: &[String]) -> Result<(), String> {
        let Some((api::GROUP, version)) = document.api_version().split_once('/') else {
            return Ok(());
        };
        if !api::VERSIONS.contains(&version) {
            return Err(document.wrong(&format!(
                "the version {version} is not known: use {}",
                api::VERSIONS.join(" or ")
            )));
        }
        macro_rules! kinds {
            ($($type:ty),+) => {
                match document.kind() {
                    $(kind if kind == <$type as Kept>::KIND.as_str() => self.put::<$type>(document, watched),)+
                    _ => Err(document.wrong(&format!(
                        "the kind is not known: there are {}",
                        Kind::ALL.map(Kind::as_str).join(", ")
                    ))),
                }
            };
        }
        kinds!(
            api::VaultConnection,
            api::VaultAuth,
            api::VaultAuthGlobal,
            api::SecretTransformation,
            api::VaultStaticSecret,
            api::VaultDynamicSecret,
            api::VaultPKISecret
        )
    }

    fn put<T: Kept + DeserializeOwned>(
        &mut self,
        document: &Document,
        watched: &[String],
    ) -> Result<(), String> {
        let name = document.name();
        if !is_object_name(name) {
            return Err(document.wrong(
                "metadata.name is no name that an object can have: use lower-case letters, digits, dots and hyphens",
            ));
        }
        let namespace = document.namespace(watched)?;
        if !watched.contains(&namespace) {
            self.left_out.push(document.wrong(&format!(
                "is in the namespace {namespace}, which the operator does not watch; it is given no rights"
            )));
            return Ok(());
        }
        let mut object: T = serde_yaml::from_value(document.value.clone())
            .map_err(|error| document.wrong(&format!("does not fit its kind: {error}")))?;
        object.meta_mut().namespace = Some(namespace.clone());
        let key = ResourceKey {
            kind: T::KIND,
            object: ObjectKey::new(namespace, name),
        };
        T::put(&mut self.view, &key.object, Some(Rc::new(object)));
        match self.places.insert(key, document.place.clone()) {
            Some(before) => Err(document.wrong(&format!(
                "stands already in {before}: give each resource once"
            ))),
            None => Ok(()),
        }
    }
}
