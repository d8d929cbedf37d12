//! Reads the subset of YAML that the official configurations use: one map of scalars.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::fill::whole_number;
use crate::error::{Error, Result};

/// A key of the map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Scalar,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    /// No value after the colon.
    Nothing,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A list, whose values are dropped: only sampling uses lists.
    List,
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            // `1e-4`, not `0.0001`: the usual notation of learning rates.
            Self::Float(value) if *value != 0.0 && (value.abs() < 1e-2 || value.abs() >= 1e16) => write!(f, "{value:e}"),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => write!(f, "\"{value}\""),
            Self::List => f.write_str("[…]"),
        }
    }
}

/// Reads a map of scalars, in the order of the file. Lists and inner maps are skipped if `skip` has their key, else they are an
/// error.
///
/// # Errors
///
/// If the text is not YAML, is not a map, or a key occurs twice; the message names the line.
pub(super) fn read_map(text: &str, source_name: &str) -> Result<Vec<Entry>> {
    let wrong = |line: usize, what: String| Error::config(source_name, format!("line {line}"), what);
    let mut entries: Vec<Entry> = Vec::new();
    let mut key: Option<String> = None;
    let mut in_map = false;
    let mut list_depth = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| wrong(e.marker().line().max(1), e.info().replace('\n', " ")))?;
        let line = span.start.line().max(1);
        match event {
            Event::SequenceStart(..) if key.is_some() || list_depth > 0 => list_depth += 1,
            Event::SequenceEnd if list_depth > 1 => list_depth -= 1,
            Event::SequenceEnd => {
                list_depth = 0;
                entries.extend(key.take().map(|key| Entry { key, value: Scalar::List }));
            }
            Event::Scalar(..) if list_depth > 0 => {}
            Event::MappingStart(..) if !in_map => in_map = true,
            Event::Scalar(text, style, ..) if in_map => match key.take() {
                None if entries.iter().any(|entry| entry.key == text) => {
                    return Err(wrong(line, format!("the key `{text}` occurs twice; please remove one")));
                }
                None => key = Some(text.into_owned()),
                Some(key) => entries.push(Entry { key, value: scalar(&text, style) }),
            },
            Event::MappingStart(..) | Event::SequenceStart(..) | Event::Alias(_) | Event::Scalar(..) => {
                let what = match key {
                    Some(key) => format!("`{key}`: expected one value, got a map or a reference"),
                    None => "expected lines `key: value`".into(),
                };
                return Err(wrong(line, what));
            }
            Event::MappingEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Nothing => {}
        }
    }
    if in_map { Ok(entries) } else { Err(wrong(1, "empty; expected lines `key: value`".into())) }
}

fn scalar(text: &str, style: ScalarStyle) -> Scalar {
    if style != ScalarStyle::Plain {
        return Scalar::Text(text.to_string());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Nothing,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ => {
            let word = || Scalar::Text(text.to_string());
            // Rust parses words such as `nan` and `inf` as numbers; here they are words.
            let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            let digits = text.trim_start_matches(['+', '-']);
            // Such a number is octal to the original's reader; its decimal value would differ.
            let octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
            if !numeric || octal {
                return word();
            }
            // Underscores as in 1_000_000 separate digits.
            let text = text.replace('_', "");
            match (text.parse(), text.parse::<f64>()) {
                (Ok(integer), _) => Scalar::Integer(integer),
                // 1e6 steps are a million.
                (_, Ok(float)) if float.is_finite() => whole_number(float).map_or(Scalar::Float(float), Scalar::Integer),
                _ => word(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_the_original_takes_them_for() {
        let text = "# dataset\nname: \"ffs\" # a comment\nempty:\nyes: True\nrate: 1e-4\nsteps: 10000\nmodel: Latte-XL/2\n\
                    quoted: '3'\ninf: inf\nhalf: .5\npath: /path/to/x # s\n\
                    million: 1e6\nspelled: 1_000_000\nwhole: 2.0\nhuge: 1e300\noctal: 010\nlist: [1, [2, 3]]\nlast: 1\n";
        let entries = read_map(text, "x.yaml").unwrap();
        let values: Vec<(&str, Scalar)> = entries.iter().map(|e| (e.key.as_str(), e.value.clone())).collect();
        let text = |t: &str| Scalar::Text(t.into());
        let expected = [
            ("name", text("ffs")),
            ("empty", Scalar::Nothing),
            ("yes", Scalar::Bool(true)),
            ("rate", Scalar::Float(1e-4)),
            ("steps", Scalar::Integer(10_000)),
            ("model", text("Latte-XL/2")),
            ("quoted", text("3")),
            ("inf", text("inf")),
            ("half", Scalar::Float(0.5)),
            ("path", text("/path/to/x")),
            ("million", Scalar::Integer(1_000_000)),
            ("spelled", Scalar::Integer(1_000_000)),
            ("whole", Scalar::Integer(2)),
            ("huge", Scalar::Float(1e300)),
            ("octal", text("010")),
            ("list", Scalar::List),
            ("last", Scalar::Integer(1)),
        ];
        assert_eq!(values, expected);
        let shown: Vec<String> = entries.iter().map(|e| e.value.to_string()).collect();
        assert_eq!(shown[..5], ["\"ffs\"", "", "true", "1e-4", "10000"]);
    }

    #[test]
    fn what_is_no_map_of_scalars_is_refused_with_its_line() {
        let cases = [
            ("a: 1\nb:\n  c: 2\n", "x.yaml: line 3: `b`: expected one value"),
            ("a: 1\na: 2\n", "x.yaml: line 2: the key `a` occurs twice"),
            ("- 1\n", "x.yaml: line 1: expected lines `key: value`"),
            ("just words\n", "x.yaml: line 1: expected lines `key: value`"),
            ("", "x.yaml: line 1: empty"),
            ("a: 'open\n", "x.yaml: line "),
            ("a: *b\n", "x.yaml: line 1: "),
        ];
        for (text, expected) in cases {
            let message = read_map(text, "x.yaml").unwrap_err().to_string();
            assert!(message.starts_with(expected) && !message.contains('\n'), "{text:?}: {message}");
        }
    }
}
