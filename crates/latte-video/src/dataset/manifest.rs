//! Data sets listed in a file: one row per video, with its caption and label.

use std::path::{Path, PathBuf};

use latte_textfile::printable;

use super::classes::Classes;
use super::names::{clean, make_unique};
use super::table::{Cell, Row, Table};
use super::{Dataset, Item, MediaLocation, Skipped, csv, jsonl};
use crate::{Error, Result};

/// Options for reading a manifest. By default, columns are found by their usual names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestOptions {
    /// The column of the paths.
    pub path_column: Option<String>,
    /// The column of the captions.
    pub caption_column: Option<String>,
    /// The column of the labels.
    pub label_column: Option<String>,
    /// The folder of relative paths; by default the manifest's own.
    pub root: Option<PathBuf>,
}

/// Usual names of the path column, in order of preference.
const PATHS: &[&str] = &["path", "video", "video_path", "file", "file_path", "file_name", "filename"];
/// Usual names of the caption column.
pub(super) const CAPTIONS: &[&str] = &["caption", "text", "prompt", "name"];
/// Usual names of the label column.
pub(super) const LABELS: &[&str] = &["label", "class", "category"];
/// The columns of WebVid: the file is `page_dir/videoid.mp4`.
const WEBVID: [&str; 2] = ["page_dir", "videoid"];

impl Dataset {
    /// Reads a manifest: `.csv`, `.tsv`, `.jsonl` (or `.ndjson`), `.json` (one array of objects), or `.parquet` (with the feature
    /// `parquet`), one video per row.
    ///
    /// Without options, the path is the first existing column of `path`, `video`, `video_path`, `file`, `file_path`, `file_name`,
    /// `filename`, or WebVid's `page_dir/videoid.mp4`; the caption is the first of `caption`, `text`, `prompt`, `name`; the label
    /// is the first of `label`, `class`, `category`. Case is ignored.
    ///
    /// Labels are numbers from 0 without gaps, or names; names are numbered in alphabetical order. Whether the files exist is not
    /// checked. Unusable rows are skipped and listed: a wrong number of fields, broken JSON, no path, a web address for a path, a
    /// list for a caption, a repetition of an earlier row. The contents of other columns are ignored. The same video with another
    /// caption or label is another item, whose name gets the suffix `#2`, `#3`, ….
    ///
    /// # Errors
    ///
    /// If the file cannot be read, a column is missing, the labels are numbers with gaps or numbers with a few names among them
    /// ([`Error::Labels`]), or no row can be used.
    pub fn from_manifest(path: impl AsRef<Path>, options: &ManifestOptions) -> Result<(Self, Skipped)> {
        let path = path.as_ref();
        let mut table = read(path, &|column| options.wants(column))?;
        let columns = Columns::choose(path, &table, options)?;
        let root = options.root.as_deref().or(path.parent()).unwrap_or(Path::new(""));
        let mut skipped = std::mem::take(&mut table.skipped);
        let (mut items, mut labels, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for row in table.rows {
            match columns.item(root, &row) {
                Ok((item, label)) => {
                    items.push(item);
                    labels.push(label);
                    rows.push(row.number);
                }
                Err((column, what)) => {
                    let place = format!("{} {}, column `{column}`", columns.unit, row.number);
                    skipped.add(Error::manifest(path, place, what));
                }
            }
        }
        if items.is_empty() {
            return Err(Error::manifest(path, "no row", format!("no row names a video{}", skipped.first())));
        }
        let place = |index: usize| format!("{} {}", columns.unit, rows[index]);
        let classes = Classes::of(&labels, &place)
            .map_err(|e| Error::labels(Error::manifest(path, format!("column `{}`", columns.label.map_or("", |c| c.1)), e)))?;
        for (item, label) in items.iter_mut().zip(&labels) {
            item.label = label.as_deref().and_then(|label| classes.number(label));
        }
        for index in make_unique(&mut items) {
            let place = format!("{} {}", columns.unit, rows[index]);
            skipped.add(Error::manifest(
                path,
                place,
                "the same as a row before; a video may be listed again with another caption",
            ));
        }
        Ok((Self { root: path.to_path_buf(), items, classes: classes.into_names() }, skipped))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Separated(u8),
    JsonLines,
    JsonArray,
    Parquet,
}

fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_string_lossy().to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Separated(b',')),
        "tsv" => Some(Format::Separated(b'\t')),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "json" => Some(Format::JsonArray),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    match format(path) {
        Some(Format::Separated(delimiter)) => csv::read(path, delimiter, wanted),
        Some(Format::JsonLines) => jsonl::read(path, wanted),
        Some(Format::JsonArray) => jsonl::read_array(path, wanted),
        #[cfg(feature = "parquet")]
        Some(Format::Parquet) => super::parquet::read(path, wanted),
        #[cfg(not(feature = "parquet"))]
        Some(Format::Parquet) => {
            let what = "this program was built without Parquet; build it with `cargo build --release --features parquet`, or \
                        write the manifest as .csv or .jsonl";
            Err(Error::unsupported(path, what))
        }
        None => {
            let what = "no manifest by its name: expected .csv, .tsv, .jsonl or .parquet, not compressed, or a .json array";
            Err(Error::unsupported(path, what))
        }
    }
}

impl ManifestOptions {
    /// Whether this may be one of the columns to read.
    fn wants(&self, column: &str) -> bool {
        let named = [&self.path_column, &self.caption_column, &self.label_column];
        named.iter().any(|n| n.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(column)))
            || [PATHS, CAPTIONS, LABELS, &WEBVID].iter().any(|names| names.iter().any(|n| n.eq_ignore_ascii_case(column)))
    }
}

/// Index and name of a column.
type Column<'a> = (usize, &'a str);

/// The columns of path, caption and label.
struct Columns<'a> {
    /// What is counted for row numbers: lines or rows.
    unit: &'static str,
    path: PathColumn<'a>,
    caption: Option<Column<'a>>,
    label: Option<Column<'a>>,
}

enum PathColumn<'a> {
    One(Column<'a>),
    /// The columns of the folder and of the file.
    WebVid([Column<'a>; 2]),
}

impl<'a> Columns<'a> {
    fn choose(path: &Path, table: &Table, options: &'a ManifestOptions) -> Result<Self> {
        // The exact name first: two columns may differ in case only.
        let find = |name: &'a str| {
            let exact = table.columns.iter().position(|c| c == name);
            let place = exact.or_else(|| table.columns.iter().position(|c| c.eq_ignore_ascii_case(name)))?;
            Some((place, name))
        };
        let found = || if table.found.is_empty() { "none".into() } else { printable(&table.found.join(", ")).into_owned() };
        let choose = |key: &str, named: &'a Option<String>, usual: &'static [&'static str]| match named {
            Some(name) => match find(name) {
                Some(column) => Ok(Some(column)),
                None => {
                    let what = format!("there is no column `{name}`, which `{key}` names; the columns are: {}", found());
                    Err(Error::manifest(path, "columns", what))
                }
            },
            None => Ok(usual.iter().find_map(|name| find(name))),
        };
        let path_column = match choose("path_column", &options.path_column, PATHS)? {
            Some(column) => Some(PathColumn::One(column)),
            None => find(WEBVID[0]).zip(find(WEBVID[1])).map(|(folder, file)| PathColumn::WebVid([folder, file])),
        };
        let Some(path_column) = path_column else {
            let what = format!(
                "no column tells where the videos are: looked for {}, or {} and {}; the columns are: {} (the first row names \
                 the columns); name the right one with `path_column`{}",
                PATHS.join(", "),
                WEBVID[0],
                WEBVID[1],
                found(),
                table.skipped.first(),
            );
            return Err(Error::manifest(path, "columns", what));
        };
        let caption = choose("caption_column", &options.caption_column, CAPTIONS)?;
        let label = choose("label_column", &options.label_column, LABELS)?;
        let unit = if matches!(format(path), Some(Format::Parquet | Format::JsonArray)) { "row" } else { "line" };
        Ok(Self { unit, path: path_column, caption, label })
    }

    /// The video of a row with its label as text; or the column and what is wrong in it.
    fn item(&self, root: &Path, row: &Row) -> std::result::Result<(Item, Option<String>), (&'a str, String)> {
        // Copied, because one column may be used twice.
        let text = |column: Column<'a>| match row.cells.get(column.0).cloned().unwrap_or_default() {
            Cell::Missing => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Unfit(what) => Err((column.1, format!("expected text or a number, got {what}"))),
        };
        let empty = |column: Column<'a>| (column.1, "empty; expected the path of a video".to_string());
        let (column, path) = match self.path {
            PathColumn::One(column) => (column, text(column)?.ok_or_else(|| empty(column))?),
            PathColumn::WebVid([folder, file]) => {
                let name = text(file)?.ok_or_else(|| empty(file))?;
                let folder = text(folder)?.map(|f| f + "/").unwrap_or_default();
                (file, format!("{folder}{name}.mp4"))
            }
        };
        if path.contains("://") {
            let what = format!("`{}` is an address; expected the path of a file: download the videos first", printable(&path));
            return Err((column.1, what));
        }
        let name = clean(&path);
        if name.is_empty() {
            return Err((column.1, format!("`{}` names no file", printable(&path))));
        }
        let caption = self.caption.map(text).transpose()?.flatten();
        let label = self.label.map(text).transpose()?.flatten();
        let item = Item { name, place: MediaLocation::Path(root.join(path)), label: None, caption, info: None };
        Ok((item, label))
    }
}
