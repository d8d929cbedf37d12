//! Deserializes a table into a struct, with errors that name file and key.
//!
//! This deserializer keeps serde's errors apart by kind ([`Problem`]), where the TOML library formats them as text;
//! `serde_path_to_error` has the path of the key.

use std::fmt::Display;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::{de, forward_to_deserialize_any};
use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// Deserializes a table into a struct.
///
/// # Errors
///
/// If a key is unknown (with the nearest known one) or missing, or a value has the wrong type; one line each. A number with a whole
/// value is accepted for an integer, in any notation (`1e6`).
pub(crate) fn from_table<T: de::DeserializeOwned>(table: Table, source_name: &str) -> Result<T> {
    serde_path_to_error::deserialize(Written(Value::Table(table))).map_err(|e| {
        let key = key(e.path());
        match e.into_inner() {
            Problem::UnknownKey { known } => {
                let name = key.rsplit('.').next().unwrap_or_default();
                let what = match nearest(name, known) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; known here: {}", known.join(", ")),
                };
                Error::config(source_name, key, what)
            }
            Problem::Missing(name) if key.is_empty() => Error::config(source_name, name, MISSING),
            Problem::Missing(name) => Error::config(source_name, format!("{key}.{name}"), MISSING),
            Problem::Value(what) => Error::config(source_name, key, what),
        }
    })
}

const MISSING: &str = "missing; please set it";

/// The known name with the smallest edit distance, if that is small enough for a typing error.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = name.chars().count().div_ceil(3);
    let distances = known.iter().map(|known| (strsim::osa_distance(name, known), *known));
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, known)| known)
}

/// `value` as an integer, if it is whole and below the limit from which floats no longer represent every integer.
pub(super) fn whole_number(value: f64) -> Option<i64> {
    const LARGEST: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    (value.fract() == 0.0 && value.abs() < LARGEST).then_some(value as i64)
}

/// The path of a value as users write it: `section.key`. A value in a list has the list's key.
fn key(path: &Path) -> String {
    let names = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.as_str()),
        Segment::Enum { variant } => Some(variant.as_str()),
        Segment::Seq { .. } | Segment::Unknown => None,
    });
    names.collect::<Vec<_>>().join(".")
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// The path ends in the key.
    #[error("unknown key")]
    UnknownKey { known: &'static [&'static str] },
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("{0}")]
    Value(String),
}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value(format!("expected {expected}, got {got}"))
    }

    fn invalid_value(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(got, expected)
    }

    fn invalid_length(got: usize, expected: &dyn Expected) -> Self {
        Self::Value(format!("expected {expected}, got {got} values"))
    }

    fn unknown_variant(got: &str, known: &'static [&'static str]) -> Self {
        let hint = nearest(got, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Self::Value(format!("`{got}` is not a valid value (known: {}){hint}", known.join(", ")))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { known }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

type Filled<T> = std::result::Result<T, Problem>;

/// A value of the table that is being deserialized.
struct Written(Value);

impl Written {
    fn refused(&self, expected: &str) -> Problem {
        Problem::Value(format!("expected {expected}, got {}", shown(&self.0)))
    }

    /// A non-negative integer, for fields that count.
    fn count<'de, V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        let whole = match self.0 {
            Value::Integer(value) => Some(value),
            Value::Float(value) => whole_number(value),
            _ => None,
        };
        match whole.and_then(|value| u64::try_from(value).ok()) {
            Some(value) => visitor.visit_u64(value),
            None => Err(self.refused("a whole number of at least 0")),
        }
    }
}

/// A value as users write it: the library prints large floats with all their zeros.
fn shown(value: &Value) -> String {
    const MANY_DIGITS: f64 = 1e16;
    match value {
        Value::Float(float) if float.is_finite() && float.abs() >= MANY_DIGITS => format!("{float:e}"),
        Value::Float(float) => whole_number(*float).map_or_else(|| value.to_string(), |whole| whole.to_string()),
        other => other.to_string(),
    }
}

impl IntoDeserializer<'_, Problem> for Written {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn keys(table: Table) -> MapDeserializer<'static, impl Iterator<Item = (String, Written)>, Problem> {
    MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Written(value))))
}

impl<'de> Deserializer<'de> for Written {
    type Error = Problem;

    /// For fields that take values of several types.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(value) => visitor.visit_i64(value),
            Value::Float(value) => match whole_number(value) {
                Some(whole) => visitor.visit_i64(whole),
                None => visitor.visit_f64(value),
            },
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Datetime(value) => visitor.visit_string(value.to_string()),
            Value::Array(values) => {
                let mut values = SeqDeserializer::new(values.into_iter().map(Written));
                let filled = visitor.visit_seq(&mut values)?;
                values.end()?;
                Ok(filled)
            }
            Value::Table(table) => visitor.visit_map(keys(table)),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        self.count(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        self.count(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::Integer(value) => visitor.visit_f64(value as f64),
            Value::Float(value) => visitor.visit_f64(value),
            _ => Err(self.refused("a number")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::Boolean(value) => visitor.visit_bool(value),
            _ => Err(self.refused("true or false")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            _ => Err(self.refused("text")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::Array(_) => self.deserialize_any(visitor),
            _ => Err(self.refused("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Filled<V::Value> {
        match &self.0 {
            Value::Array(values) if values.len() != length => Err(self.refused(&format!("a list of {length} values"))),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Filled<V::Value> {
        match self.0 {
            Value::Table(table) => visitor.visit_map(keys(table)),
            _ => Err(self.refused("a section of keys")),
        }
    }

    /// TOML has no null: a value that is written is present.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Filled<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Filled<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Filled<V::Value> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(IntoDeserializer::<Problem>::into_deserializer(text)),
            Value::Table(table) => MapAccessDeserializer::new(keys(table)).deserialize_enum(name, variants, visitor),
            _ => Err(self.refused(&format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str bytes byte_buf unit unit_struct tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::source::{apply_override, parse_table};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        depth: usize,
        kind: Kind,
        #[serde(default)]
        rates: Option<[f64; 2]>,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        on: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Small,
        Large,
    }

    fn message(text: &str) -> String {
        from_table::<Outer>(parse_table(text, "x.toml").unwrap(), "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn errors_are_one_line_and_name_file_key_and_the_near_alternative() {
        let unknown = message("[inner]\ndepht = 3\nkind = \"small\"");
        assert_eq!(unknown, "x.toml: inner.depht: unknown key; did you mean `depth`?");
        let far = message("[inner]\nunrelated = 3\nkind = \"small\"");
        assert_eq!(far, "x.toml: inner.unrelated: unknown key; known here: depth, kind, rates, names, on");
        assert_eq!(message("[inner]\nkind = \"small\""), "x.toml: inner.depth: missing; please set it");
        let variant = message("[inner]\ndepth = 1\nkind = \"smal\"");
        assert_eq!(variant, "x.toml: inner.kind: `smal` is not a valid value (known: small, large); did you mean `small`?");
        let wrong_type = message("[inner]\ndepth = \"x\"\nkind = \"small\"");
        assert_eq!(wrong_type, "x.toml: inner.depth: expected a whole number of at least 0, got \"x\"");
    }

    #[test]
    fn every_kind_of_value_fills_its_field() {
        let text = "[inner]\ndepth = 2\nkind = \"large\"\nrates = [1, 0.5]\nnames = [\"a\", \"b\"]\non = true\n";
        let Outer { inner } = from_table(parse_table(text, "x.toml").unwrap(), "x.toml").unwrap();
        assert_eq!((inner.depth, inner.kind, inner.rates, inner.on), (2, Kind::Large, Some([1.0, 0.5]), true));
        assert_eq!(inner.names, ["a", "b"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_shown_with_the_type_that_is_wanted() {
        let cases = [
            ("rates = 3", "inner.rates: expected a list, got 3"),
            ("rates = [1, 2, 3]", "inner.rates: expected a list of 2 values, got [1, 2, 3]"),
            ("rates = [1]", "inner.rates: expected a list of 2 values, got [1]"),
            ("rates = [1, \"x\"]", "inner.rates: expected a number, got \"x\""),
            ("names = [3]", "inner.names: expected text, got 3"),
            ("on = \"yes\"", "inner.on: expected true or false, got \"yes\""),
        ];
        for (line, expected) in cases {
            assert_eq!(message(&format!("[inner]\ndepth = 1\nkind = \"small\"\n{line}")), format!("x.toml: {expected}"));
        }
        assert_eq!(message("inner = 3"), "x.toml: inner: expected a section of keys, got 3");
        assert_eq!(message("[inner]\ndepth = 1\nkind = 3"), "x.toml: inner.kind: expected one of small, large, got 3");
        assert_eq!(
            message("[inner]\ndepth = 1\nkind = { smal = 3 }").split(" (").next(),
            Some("x.toml: inner.kind: `smal` is not a valid value")
        );
    }

    #[test]
    fn whole_numbers_are_taken_however_they_are_written() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Counts {
            train: Train,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Train {
            steps: u64,
            size: Option<[usize; 2]>,
            rate: Option<f64>,
        }
        let read = |text: &str| from_table::<Counts>(parse_table(text, "x.toml").unwrap(), "x.toml");
        for written in ["1000000", "1_000_000", "1e6", "1000000.0", "+1.0e+6"] {
            let counts = read(&format!("[train]\nsteps = {written}\nsize = [64.0, 32]\nrate = 1e6")).unwrap().train;
            assert_eq!((counts.steps, counts.size, counts.rate), (1_000_000, Some([64, 32]), Some(1e6)), "{written}");
            let mut table = Table::new();
            apply_override(&mut table, &format!("train.steps={written}")).unwrap();
            assert_eq!(from_table::<Counts>(table, "x").unwrap().train.steps, 1_000_000);
        }
        for (written, shown) in [("1.5", "1.5"), ("-1", "-1"), ("-2e3", "-2000"), ("1e300", "1e300"), ("\"1e6\"", "\"1e6\"")] {
            let error = read(&format!("[train]\nsteps = {written}\n")).unwrap_err().to_string();
            assert_eq!(error, format!("x.toml: train.steps: expected a whole number of at least 0, got {shown}"));
        }
    }
}
