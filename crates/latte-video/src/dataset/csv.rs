//! Manifests with comma- or tab-separated values.

use std::cell::Cell as Counter;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::table::{Cell, Row, Table};
use crate::{Error, Result};

/// Maximum length of a row, so that a file that is not a table, or a quote that is never closed, does not fill the memory.
const MAX_ROW_LENGTH: u64 = 16 << 20;

/// Reads the columns for which `wanted` is true. Fields may be quoted; the first row has the column names.
pub(super) fn read(path: &Path, delimiter: u8, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    refuse_wide(path)?;
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let since_row = Rc::new(Counter::new(0));
    let bounded = Bounded { inner: file, since_row: Rc::clone(&since_row) };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(bounded);
    let header = reader.byte_headers().map_err(|e| fatal(path, e))?.clone();
    let mut table = Table::default();
    let mut kept = Vec::new();
    for (field, name) in header.iter().enumerate() {
        let name = latte_textfile::without_mark(&String::from_utf8_lossy(name)).trim().to_string();
        table.note(&name);
        if wanted(&name) && !table.columns.contains(&name) {
            table.keep(&name);
            kept.push(field);
        }
    }
    let mut record = ByteRecord::new();
    let mut last = None;
    loop {
        since_row.set(0);
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let position = record.position();
                let number = position.map_or(0, csv::Position::line);
                last = position.map(|p| (p.byte(), number));
                // Empty fields at the end come from spreadsheets. Other extra fields, or missing ones, mean an unquoted comma or
                // line break, which shifts the other fields.
                let is_whole =
                    record.len() >= header.len() && record.iter().skip(header.len()).all(|f| f.trim_ascii().is_empty());
                if !is_whole {
                    let what = format!("expected {} fields as in the first row, got {}", header.len(), record.len());
                    table.skipped.add(Error::manifest(path, format!("line {number}"), what));
                    continue;
                }
                let cells = kept.iter().map(|&field| match std::str::from_utf8(record.get(field).unwrap_or_default()) {
                    Ok(text) => Cell::text(text),
                    Err(_) => Cell::Unfit("text in another encoding than UTF-8"),
                });
                table.rows.push(Row { number, cells: cells.collect() });
            }
            Err(e) => return Err(fatal(path, e)),
        }
    }
    if let Some((byte, line)) = last {
        check_closed(path, byte, line)?;
    }
    Ok(table)
}

/// Returns an error if the file begins with the byte-order mark of another encoding.
fn refuse_wide(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let io = |e| Error::io(path, e);
    File::open(path).map_err(io)?.take(4096).read_to_end(&mut head).map_err(io)?;
    latte_textfile::refuse_wide(&head).map_err(|e| io(e.into()))
}

fn fatal(path: &Path, error: csv::Error) -> Error {
    let place = error.position().map_or_else(|| "the table".into(), |p| format!("line {}", p.line()));
    match error.into_kind() {
        ErrorKind::Io(e) if e.kind() == io::ErrorKind::InvalidData => Error::manifest(path, place, e.to_string()),
        ErrorKind::Io(e) => Error::io(path, e),
        other => Error::manifest(path, place, format!("no row of a table: {other:?}")),
    }
}

/// Checks that the last field is closed: an open quote turns the rest of the file into one field, which the parser accepts.
fn check_closed(path: &Path, byte: u64, line: u64) -> Result<()> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.seek(SeekFrom::Start(byte)).map_err(|e| Error::io(path, e))?;
    let mut row = Vec::new();
    file.take(MAX_ROW_LENGTH).read_to_end(&mut row).map_err(|e| Error::io(path, e))?;
    let row = row.trim_ascii();
    if row.contains(&b'\n') && row.split(|&b| b == b'"').count() % 2 == 0 {
        let what =
            "a quote is opened and never closed, so that the rest of the file is one field; a quote within quotes is doubled";
        return Err(Error::manifest(path, format!("line {line}"), what));
    }
    Ok(())
}

/// A reader that returns an error when a row is too long.
struct Bounded<R> {
    inner: R,
    /// Number of bytes read since the last row.
    since_row: Rc<Counter<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row.get() > MAX_ROW_LENGTH {
            let what = format!("a row is longer than {} MiB: a quote may be open, or it is no table", MAX_ROW_LENGTH >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let n = self.inner.read(buffer)?;
        self.since_row.set(self.since_row.get() + n as u64);
        Ok(n)
    }
}
