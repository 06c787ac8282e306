//! The form of a manifest: JSON, with nothing in it that is not known.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::check::{Owner, Severity};

/// A manifest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    /// Looked at before, in [`RawForm`].
    #[serde(rename = "manifest")]
    pub(super) _form: u64,
    pub(super) owner: Owner,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) expires: Option<String>,
    pub(super) scopes: Vec<RawScope>,
}

/// The number of the form alone, read before anything else.
#[derive(Debug, Deserialize)]
pub(super) struct RawForm {
    pub(super) manifest: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScope {
    pub(super) scope: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, deserialize_with = "unique")]
    pub(super) constants: BTreeMap<String, Constant>,
    #[serde(default)]
    pub(super) publish: Vec<RawPublish>,
    #[serde(default)]
    pub(super) files: Vec<RawFile>,
}

/// A constant: text, or what has one spelling as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Constant {
    Text(String),
    Flag(bool),
    Integer(i64),
    Real(f64),
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(true) => f.write_str("True"),
            Self::Flag(false) => f.write_str("False"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number}"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublish {
    pub(super) key: String,
    #[serde(rename = "type", default)]
    pub(super) kind: PublishType,
    #[serde(default)]
    pub(super) default: Option<String>,
    #[serde(rename = "as", default)]
    pub(super) configured: Option<String>,
    #[serde(default)]
    pub(super) required: bool,
    #[serde(default = "yes")]
    pub(super) ad: bool,
    #[serde(default)]
    pub(super) job: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PublishType {
    #[default]
    String,
    Integer,
    Expression,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) sha256: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) stage: Option<String>,
    #[serde(default)]
    pub(super) condition: Option<String>,
    #[serde(default)]
    pub(super) path_key: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) about: Option<String>,
    #[serde(default)]
    pub(super) severity: Option<Severity>,
    #[serde(default)]
    pub(super) period: Option<u32>,
    #[serde(default)]
    pub(super) prefix: Option<String>,
    #[serde(default)]
    pub(super) limit: Option<u32>,
    #[serde(default)]
    pub(super) needs: Option<Vec<String>>,
    #[serde(default)]
    pub(super) beside: Option<bool>,
}

/// A map in which no name is there twice: of two values a reader and the pilot might see different ones.
fn unique<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Constant>, D::Error> {
    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = BTreeMap<String, Constant>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names with values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut values = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, Constant>()? {
                if values.contains_key(&name) {
                    return Err(serde::de::Error::custom(format!(
                        "the constant {name} is there twice"
                    )));
                }
                values.insert(name, value);
            }
            Ok(values)
        }
    }
    from.deserialize_map(Reader)
}
