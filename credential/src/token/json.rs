//! JSON where nothing has two readings: a member that appears twice is an error at any depth.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value, as far as tokens and keys have them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(Object),
}

/// The members of an object, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object(Vec<(String, Json)>);

impl Object {
    /// Reads a text that is one object.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        match serde_json::from_slice(text) {
            Ok(Json::Object(object)) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Json::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "times are far below 2^53, and larger numbers are refused where one is used"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "times are far below 2^53, and larger numbers are refused where one is used"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut found = Vec::new();
        while let Some(value) = list.next_element()? {
            found.push(value);
        }
        Ok(Json::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut found = Object::default();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if found.get(&name).is_some() {
                return Err(de::Error::custom("repeated member"));
            }
            if found.0.len() == MAX_MEMBERS {
                return Err(de::Error::custom("too many members"));
            }
            found.0.push((name, value));
        }
        Ok(Json::Object(found))
    }
}

/// Looking for repeated members is quadratic.
const MAX_MEMBERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_repeated_members_are_refused_at_any_depth() {
        let read = |text: &str| Object::parse(text.as_bytes());
        let object = read(r#"{"a":1,"b":["x",{"c":null}],"a ":true}"#).unwrap();
        assert_eq!(object.get("a"), Some(&Json::Number(1.0)));
        assert_eq!(object.get("c"), None);
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
            r#"{"a":1} x"#,
            r#"{"a":1"#,
            "{'a':1}",
            "[]",
            "\"a\"",
            "",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":01}",
            "{\"a\":NaN}",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}"), None);
        assert_eq!(Object::parse("[".repeat(10_000).as_bytes()), None);
    }
}
