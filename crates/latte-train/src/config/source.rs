//! Reads TOML text and `--set` values into a table, with errors that name file and key.

use toml::{Table, Value};

use super::renamed::{new_name, refuse_both, rename_in_section, rename_keys};
use crate::error::{Error, Result};

/// Reads TOML text; error messages begin with `source_name` (usually a path).
///
/// # Errors
///
/// If the text is not TOML; the message names the line.
pub(crate) fn parse_table(text: &str, source_name: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Error::config(source_name, format!("line {line}"), e.message().replace('\n', "; "))
    })
}

/// The table of a configuration file with `overrides` (`section.key=value`) applied and renamed keys under their new names.
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

/// Applies one `--set section.key=value` to `table`. The value is parsed as TOML (`3`, `1e-4`, `true`, `[1, 2]`, `"text"`), else
/// taken as plain text (`Latte-S/2`). An old name of a key counts as its new one.
///
/// # Errors
///
/// If there is no `=`, a part of the key is empty, or a part before the last is not a section.
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
        // A line break could add more keys.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(table["inner"]["depth"].as_integer(), Some(4));
        assert_eq!(table["inner"]["kind"].as_str(), Some("large"));
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
    fn bad_overrides_are_refused() {
        let mut table = parse_table("[inner]\ndepth = 1\n", "x").unwrap();
        for setting in ["inner.depth", "=3", "inner..depth=3", "inner.depth.more=3"] {
            let e = apply_override(&mut table, setting).unwrap_err().to_string();
            assert!(e.starts_with("--set: "), "{e}");
        }
        assert_eq!(table["inner"]["depth"].as_integer(), Some(1));
    }
}
