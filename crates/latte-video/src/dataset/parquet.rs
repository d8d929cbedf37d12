//! Manifests as Parquet files. The feature `parquet` is optional because the library takes longer to compile than the rest of this
//! crate.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::table::{Cell, Row, Table};
use crate::{Error, Result, panic_guard};

/// Reads the columns for which `wanted` is true.
pub(super) fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // The library panics on some damaged files.
    panic_guard::run(|| rows(file, wanted)).map_err(|e| Error::damaged(path, e))
}

fn rows(file: File, wanted: &dyn Fn(&str) -> bool) -> std::result::Result<Table, String> {
    let said = |e: parquet::errors::ParquetError| e.to_string();
    let reader = SerializedFileReader::new(file).map_err(said)?;
    let schema = reader.metadata().file_metadata().schema();
    let mut table = Table::default();
    let mut fields = Vec::new();
    for field in schema.get_fields() {
        table.note(field.name());
        if wanted(field.name()) && !table.columns.iter().any(|c| c == field.name()) {
            table.keep(field.name());
            fields.push(Arc::clone(field));
        }
    }
    if fields.is_empty() {
        return Ok(table);
    }
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(said)?;
    for (number, row) in (1..).zip(reader.get_row_iter(Some(projection)).map_err(said)?) {
        let row = row.map_err(|e| format!("row {number}: {e}"))?;
        table.rows.push(Row { number, cells: row.into_columns().into_iter().map(|(_, field)| cell(field)).collect() });
    }
    Ok(table)
}

fn cell(field: Field) -> Cell {
    match field {
        Field::Null => Cell::Missing,
        Field::Str(text) => Cell::text(&text),
        // Text in a column that is not declared as text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::text(text),
            Err(_) => Cell::Unfit("bytes that are no text"),
        },
        Field::Byte(n) => Cell::Text(n.to_string()),
        Field::Short(n) => Cell::Text(n.to_string()),
        Field::Int(n) => Cell::Text(n.to_string()),
        Field::Long(n) => Cell::Text(n.to_string()),
        Field::UByte(n) => Cell::Text(n.to_string()),
        Field::UShort(n) => Cell::Text(n.to_string()),
        Field::UInt(n) => Cell::Text(n.to_string()),
        Field::ULong(n) => Cell::Text(n.to_string()),
        // As JSON writes them: 3 is 3.0. NaN stands for a missing value.
        Field::Float(n) if n.is_nan() => Cell::Missing,
        Field::Double(n) if n.is_nan() => Cell::Missing,
        Field::Float(n) => Cell::Text(format!("{n:?}")),
        Field::Double(n) => Cell::Text(format!("{n:?}")),
        Field::Bool(_) => Cell::Unfit("true or false"),
        Field::ListInternal(_) => Cell::Unfit("a list"),
        Field::Group(_) | Field::MapInternal(_) => Cell::Unfit("an object"),
        _ => Cell::Unfit("a date, time or decimal number"),
    }
}
