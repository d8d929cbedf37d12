//! From TOML text and `--set` values to a table, and from the table to a struct, with errors that name file and key.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::renamed::{new_name, refuse_both, rename_in_section, rename_keys};
use crate::error::{Error, Result};

/// Reads TOML text; `source_name` (a path, usually) opens the error message.
///
/// # Errors
///
/// If the text is no TOML; the message names the line.
pub(crate) fn parse_table(text: &str, source_name: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Error::config(source_name, format!("line {line}"), e.message().replace('\n', "; "))
    })
}

/// The table of a configuration file with `overrides` (`section.key=value`) applied, all keys under the names of today.
///
/// # Errors
///
/// If an override cannot be read, or a key is set under its old and its new name.
pub(crate) fn with_overrides(mut table: Table, source_name: &str, overrides: &[String]) -> Result<Table> {
    rename_keys(&mut table, source_name)?;
    refuse_both(overrides)?;
    for setting in overrides {
        apply_override(&mut table, setting)?;
    }
    Ok(table)
}

/// Applies one `--set section.key=value` to `table`. The value is read as TOML (`3`, `1e-4`, `true`, `[1, 2]`, `"text"`), and as
/// plain text if it is no TOML value (`Latte-S/2`). An old name of a key counts as its new one.
///
/// # Errors
///
/// If there is no `=`, a part of the key is empty, or the key leads through something that is no section.
pub fn apply_override(table: &mut Table, setting: &str) -> Result<()> {
    let wrong = |key: &str, what: String| Error::config("--set", key, what);
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| wrong(setting, "expected section.key=value, for example `--set train.max_steps=100`".into()))?;
    let key = key.trim();
    let parts: Vec<&str> = key.split('.').map(str::trim).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong(key, format!("expected section.key=value, got `{setting}`")));
    }
    let (last, sections) = parts.split_last().unwrap_or((&key, &[]));
    let mut at = table;
    for section in sections {
        let entry = at.entry((*section).to_string()).or_insert_with(|| Value::Table(Table::new()));
        at = match entry {
            Value::Table(inner) => inner,
            other => return Err(wrong(key, format!("`{section}` is a {}, not a section", other.type_str()))),
        };
    }
    let mut value = parse_value(value.trim());
    let name = match sections {
        [] => {
            rename_in_section(last, &mut value, "--set")?;
            last
        }
        [section] => new_name(section, last).unwrap_or(last),
        _ => last,
    };
    at.insert(name.to_string(), value);
    Ok(())
}

fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        // A line break would smuggle in further keys.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

/// Fills a struct from a table.
///
/// # Errors
///
/// On an unknown key (with the nearest known one), a missing key, or a value of the wrong type; one line each. A number that is
/// whole is taken where a whole number is wanted, however it is written (`1e6`).
pub(crate) fn from_table<T: DeserializeOwned>(mut table: Table, source_name: &str) -> Result<T> {
    loop {
        match table.clone().try_into() {
            Ok(filled) => return Ok(filled),
            // Each round leaves fewer floats.
            Err(e) if value_at(&mut table, &place(&e)).is_some_and(make_whole) => {}
            Err(e) => {
                let got = value_at(&mut table, &place(&e)).map(|value| shown(value));
                return Err(explained(&e, got, source_name));
            }
        }
    }
}

/// A value as people write it: the library writes large floats with all their zeros.
fn shown(value: &Value) -> String {
    const MANY_DIGITS: f64 = 1e16;
    match value {
        Value::Float(float) if float.is_finite() && float.abs() >= MANY_DIGITS => format!("{float:e}"),
        other => other.to_string(),
    }
}

/// The key of the value that an error is about, or its section.
fn place(e: &toml::de::Error) -> String {
    // The library writes it on a second line: "in `model`".
    let shown = e.to_string();
    shown.lines().rev().find_map(|l| l.strip_prefix("in `")?.strip_suffix('`')).unwrap_or_default().to_string()
}

fn value_at<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = table.get_mut(first)?;
    match (rest, value) {
        (None, value) => Some(value),
        (Some(rest), Value::Table(inner)) => value_at(inner, rest),
        _ => None,
    }
}

/// Replaces floats that are whole numbers by these; says whether there were any.
fn make_whole(value: &mut Value) -> bool {
    match value {
        Value::Float(float) => match whole_number(*float) {
            Some(whole) => {
                *value = Value::Integer(whole);
                true
            }
            None => false,
        },
        Value::Array(values) => {
            let mut any = false;
            for value in values {
                any |= make_whole(value);
            }
            any
        }
        _ => false,
    }
}

/// The whole number that `value` is, if it is one, and is not so large that floats leave some out.
pub(super) fn whole_number(value: f64) -> Option<i64> {
    const LARGEST: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    (value.fract() == 0.0 && value.abs() < LARGEST).then_some(value as i64)
}

/// What is wrong, in one line. `got` is the value at the place that the error names.
fn explained(e: &toml::de::Error, got: Option<String>, source_name: &str) -> Error {
    let section = &place(e);
    let message = e.message().lines().next().unwrap_or_default();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let join = |name: &str| if section.is_empty() { name.to_string() } else { format!("{section}.{name}") };
    match quoted.split_first() {
        Some((&key, known)) if message.starts_with("unknown field") => {
            let what = match nearest(key, known) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            Error::config(source_name, join(key), what)
        }
        Some((&key, _)) if message.starts_with("missing field") => {
            Error::config(source_name, join(key), "missing; please set it")
        }
        Some((&value, known)) if message.starts_with("unknown variant") => {
            let known_list = known.join(", ");
            let hint = nearest(value, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Error::config(source_name, section, format!("`{value}` is no choice here (known: {known_list}){hint}"))
        }
        _ if ["expected usize", "expected u64", "expected u32"].iter().any(|wanted| message.ends_with(wanted)) => {
            let got = got.unwrap_or_else(|| message.to_string());
            Error::config(source_name, section, format!("expected a whole number of at least 0, got {got}"))
        }
        _ => Error::config(source_name, section, message),
    }
}

/// The known name with the smallest edit distance, if it is small enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = name.chars().count().div_ceil(3);
    known.iter().map(|k| (edit_distance(name, k), *k)).filter(|(distance, _)| *distance <= allowed).min().map(|(_, k)| k)
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

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
        assert_eq!(far, "x.toml: inner.unrelated: unknown key; known here: depth, kind");
        assert_eq!(message("[inner]\nkind = \"small\""), "x.toml: inner.depth: missing; please set it");
        let variant = message("[inner]\ndepth = 1\nkind = \"smal\"");
        assert_eq!(variant, "x.toml: inner.kind: `smal` is no choice here (known: small, large); did you mean `small`?");
        let wrong_type = message("[inner]\ndepth = \"x\"\nkind = \"small\"");
        assert_eq!(wrong_type, "x.toml: inner.depth: expected a whole number of at least 0, got \"x\"");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let e = parse_table("[a]\nb = 1\nc = = 2\n", "x.toml").unwrap_err().to_string();
        assert!(e.starts_with("x.toml: line 3: ") && !e.contains('\n'), "{e}");
    }

    #[test]
    fn overrides_are_typed_and_make_sections() {
        let mut table = parse_table("[inner]\ndepth = 1\n", "x").unwrap();
        for setting in ["inner.depth=4", "inner.kind=large"] {
            apply_override(&mut table, setting).unwrap();
        }
        let outer: Outer = from_table(table.clone(), "x").unwrap();
        assert_eq!((outer.inner.depth, outer.inner.kind), (4, Kind::Large));
        apply_override(&mut table, "other.rate = 1e-4").unwrap();
        assert_eq!(table["other"]["rate"].as_float(), Some(1e-4));
        apply_override(&mut table, "other.list=[1,2]").unwrap();
        assert_eq!(table["other"]["list"].as_array().unwrap().len(), 2);
        apply_override(&mut table, "other.name=Latte-S/2").unwrap();
        assert_eq!(table["other"]["name"].as_str(), Some("Latte-S/2"));
        apply_override(&mut table, "other.twisted=1\nmore=2").unwrap();
        assert_eq!(table["other"]["twisted"].as_str(), Some("1\nmore=2"));
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

    #[test]
    fn bad_overrides_are_refused() {
        let mut table = parse_table("[inner]\ndepth = 1\n", "x").unwrap();
        for setting in ["inner.depth", "=3", "inner..depth=3", "inner.depth.more=3"] {
            let e = apply_override(&mut table, setting).unwrap_err().to_string();
            assert!(e.starts_with("--set: "), "{e}");
        }
        assert_eq!(table["inner"]["depth"].as_integer(), Some(1));
    }
}
