//! The logged parts of a loss.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// The parts of a loss by name, in a fixed order. A part may be absent: a loss without a variational part has no `vb`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossParts(Vec<(Cow<'static, str>, Option<f64>)>);

impl LossParts {
    /// A loss with these parts.
    pub fn new<const N: usize>(parts: [(&'static str, Option<f64>); N]) -> Self {
        Self(parts.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// The part called `name`; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(part, _)| part == name)?.1
    }

    /// The parts that are present.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_ref(), (*value)?)))
    }
}

impl Serialize for LossParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for LossParts {
    /// Reads all numbers, and ignores all other values.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = LossParts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("parts of a loss")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LossParts, A::Error> {
                let mut parts = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
                    if value.is_null() || value.is_number() {
                        parts.push((Cow::Owned(name), value.as_f64()));
                    }
                }
                Ok(LossParts(parts))
            }
        }
        deserializer.deserialize_map(Parts)
    }
}
