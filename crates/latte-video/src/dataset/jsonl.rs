//! Manifests of JSON lines: an object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::table::{Cell, Row, Table};
use crate::{Error, Result};

/// A line is below this; a file that is something else is not read into memory as a whole.
const LONGEST_LINE: u64 = 16 << 20;

/// Reads the keys that `wanted` names. Lines may have different keys; empty lines are passed over.
pub(super) fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    let mut table = Table::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|e| Error::io(path, e))?;
        if n == 0 {
            break;
        }
        let place = || format!("line {number}");
        if n as u64 == LONGEST_LINE {
            let what = format!("longer than {} MiB; expected one JSON object a line", LONGEST_LINE >> 20);
            return Err(Error::manifest(path, place(), what));
        }
        let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        if table.rows.is_empty() && table.skipped.count == 0 && text[0] == b'[' {
            let what = "a JSON array; expected one JSON object a line, without brackets around all or commas between them";
            return Err(Error::manifest(path, place(), what));
        }
        let object: Map<String, Value> = match serde_json::from_slice(text) {
            Ok(object) => object,
            Err(e) => {
                // The parser counts lines too; here there is only one.
                let what = format!("no JSON object: {}", e.to_string().replace(" at line 1 column", ", at byte"));
                table.skipped.add(Error::manifest(path, place(), what));
                continue;
            }
        };
        let mut cells = vec![Cell::Missing; table.columns.len()];
        for (key, value) in object {
            table.note(&key);
            if wanted(&key) {
                let column = table.keep(&key);
                cells.resize(cells.len().max(column + 1), Cell::Missing);
                cells[column] = cell(&value);
            }
        }
        table.rows.push(Row { number, cells });
    }
    Ok(table)
}

/// A JSON value as a cell.
pub(super) fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Missing,
        Value::String(text) => Cell::text(text),
        Value::Number(number) => Cell::Text(number.to_string()),
        Value::Bool(_) => Cell::Unfit("true or false"),
        Value::Array(_) => Cell::Unfit("a list"),
        Value::Object(_) => Cell::Unfit("an object"),
    }
}
