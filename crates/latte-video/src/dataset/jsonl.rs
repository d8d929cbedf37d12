//! Manifests in JSON: one object per line, or one array of objects.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::json;
use super::table::{Row, Table};
use crate::{Error, Result};

/// Maximum length of a line, so that a file of another kind is not read into memory as a whole.
const MAX_LINE_LENGTH: u64 = 16 << 20;

/// Reads the keys for which `wanted` is true. Lines may have different keys; empty lines are skipped.
pub(super) fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    let mut table = Table::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = reader.by_ref().take(MAX_LINE_LENGTH).read_until(b'\n', &mut line).map_err(|e| Error::io(path, e))?;
        if n == 0 {
            break;
        }
        let place = || format!("line {number}");
        if number == 1 {
            latte_textfile::refuse_wide(&line).map_err(|e| Error::io(path, e.into()))?;
        }
        if n as u64 == MAX_LINE_LENGTH {
            let what = format!("longer than {} MiB; expected one JSON object a line", MAX_LINE_LENGTH >> 20);
            return Err(Error::manifest(path, place(), what));
        }
        let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        if table.rows.is_empty() && table.skipped.count == 0 && text[0] == b'[' {
            let what = "a JSON array; expected one JSON object a line, without brackets around all or commas between them; a file \
                        that is one array of objects is called .json";
            return Err(Error::manifest(path, place(), what));
        }
        if let Err(what) = add_row(&mut table, number, text, wanted) {
            table.skipped.add(Error::manifest(path, place(), format!("no JSON object: {what}")));
        }
    }
    Ok(table)
}

/// Reads a file that is one array of objects.
pub(super) fn read_array(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    let text = latte_textfile::read(path).map_err(|e| Error::io(path, e))?;
    let elements = json::elements(text.as_bytes()).map_err(|what| {
        let hint = "a .json file is one array of objects, [{…}, {…}]; a file with an object on each line is called .jsonl";
        Error::manifest(path, "the file", format!("no JSON array: {what}; {hint}"))
    })?;
    let mut table = Table::default();
    for (number, element) in (1..).zip(elements) {
        if let Err(what) = add_row(&mut table, number, element, wanted) {
            table.skipped.add(Error::manifest(path, format!("row {number}"), format!("no JSON object: {what}")));
        }
    }
    Ok(table)
}

fn add_row(table: &mut Table, number: u64, text: &[u8], wanted: &dyn Fn(&str) -> bool) -> std::result::Result<(), String> {
    let mut cells = Vec::new();
    for (key, value) in json::members(text)? {
        table.note(&key);
        if wanted(&key) {
            let column = table.keep(&key);
            cells.resize_with(cells.len().max(column + 1), Default::default);
            cells[column] = json::cell(value);
        }
    }
    table.rows.push(Row { number, cells });
    Ok(())
}
