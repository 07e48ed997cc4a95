//! Enumerations of strings that keep what they don't know.
//!
//! The API server refuses a value outside the list, but only under our definitions: under another
//! vendor's, or a newer one, any string can be stored. Such an object must deserialize, so that the
//! operator can answer it with a condition; a plain Rust enumeration would fail the whole list.

/// Declares an enumeration whose JSON form is a string: the variants with their texts, and
/// `Unknown(String)` for all others. The schema lists the known texts only.
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A value that this version of the operator doesn't know; to be reported, never guessed.
            Unknown(String),
        }

        impl $name {
            /// The texts that the schema allows, in its order.
            pub const ALLOWED: &'static [&'static str] = &[$($text),+];

            /// The text as it stands in a manifest.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": Self::ALLOWED })
            }
        }
    };
}

pub(super) use string_enum;
