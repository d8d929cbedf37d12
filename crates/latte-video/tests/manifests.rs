//! Data sets that are listed in a file.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::PathBuf;

use latte_video::Error;
use latte_video::dataset::{Dataset, Item, ManifestOptions, MediaLocation, Skipped};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(Dataset, Skipped), Error> {
        self.read_with(name, text, &ManifestOptions::default())
    }

    fn read_with(&self, name: &str, text: impl AsRef<[u8]>, options: &ManifestOptions) -> Result<(Dataset, Skipped), Error> {
        fs::write(self.path(name), text).unwrap();
        Dataset::from_manifest(self.path(name), options)
    }
}

/// Name, label and caption of each item.
fn seen(items: &[Item]) -> Vec<(&str, Option<u32>, Option<&str>)> {
    items.iter().map(|i| (i.name.as_str(), i.label, i.caption.as_deref())).collect()
}

fn said(skipped: &Skipped) -> Vec<String> {
    assert_eq!(skipped.count, skipped.listed.len());
    skipped.listed.iter().map(ToString::to_string).collect()
}

#[test]
fn webvid_columns_are_understood() {
    let folder = Folder::new();
    let text = "videoid,contentUrl,duration,page_dir,name\n\
                1002,https://ak.example/2.mp4,PT00H00M20S,000001_000050,\"A dog, running \"\"fast\"\"\"\n\
                7,https://ak.example/7.mp4,PT00H00M05S,,Two lines\n";
    let (data, skipped) = folder.read("results.csv", text).unwrap();
    assert_eq!(
        seen(&data.items),
        [("000001_000050/1002.mp4", None, Some("A dog, running \"fast\"")), ("7.mp4", None, Some("Two lines")),]
    );
    assert_eq!(data.items[0].place, MediaLocation::Path(folder.path("000001_000050/1002.mp4")));
    assert_eq!(data.root, folder.path("results.csv"));
    assert!(data.classes.is_empty() && skipped.count == 0);
    // The same as JSON lines, with numbers as numbers.
    let lines = r#"{"videoid": 1002, "page_dir": "000001_000050", "name": "A dog, running \"fast\"", "duration": 20.0}

{"videoid": 7, "page_dir": null, "name": "Two lines", "tags": ["a"]}
"#;
    let (same, skipped) = folder.read("results.jsonl", lines).unwrap();
    assert_eq!(same.items, data.items);
    assert_eq!(skipped.count, 0);
}

#[test]
fn the_usual_columns_are_found_in_any_case() {
    let folder = Folder::new();
    // A byte-order mark, tabs, surrounding spaces, Windows line ends.
    let (data, _) = folder.read("a.tsv", "\u{FEFF}Label\tFile_Name\tText\r\nwalk\tb.mp4\t one \r\nrun\ta.mp4\t\r\n").unwrap();
    assert_eq!(seen(&data.items), [("b.mp4", Some(1), Some("one")), ("a.mp4", Some(0), None)]);
    assert_eq!(data.classes, ["run", "walk"]);
    let (data, _) = folder.read("b.csv", "path,label\nx/a.mp4,1.0\nx/b.mp4,0\nx/c.mp4,\n").unwrap();
    assert_eq!(seen(&data.items), [("x/a.mp4", Some(1), None), ("x/b.mp4", Some(0), None), ("x/c.mp4", None, None)]);
    assert_eq!(data.classes, ["0", "1"]);
}

#[test]
fn options_name_columns_and_the_folder() {
    let folder = Folder::new();
    let options = ManifestOptions {
        path_column: Some("clip".into()),
        caption_column: Some("Long Text".into()),
        label_column: Some("verb".into()),
        root: Some(PathBuf::from("/data/videos")),
    };
    let text = "path,clip,caption,Long Text,verb\nwrong.mp4,a/b.mp4,wrong,right,cut\nwrong.mp4,/else/c.mp4,wrong,,cut\n";
    let (data, _) = folder.read_with("a.csv", text, &options).unwrap();
    assert_eq!(seen(&data.items), [("a/b.mp4", Some(0), Some("right")), ("else/c.mp4", Some(0), None)]);
    assert_eq!(data.items[0].place, MediaLocation::Path("/data/videos/a/b.mp4".into()));
    assert_eq!(data.items[1].place, MediaLocation::Path("/else/c.mp4".into()));
    let said = folder.read_with("a.csv", "clip,verb\na,b\n", &options).unwrap_err().to_string();
    assert!(said.contains("a.csv, columns: there is no column `Long Text`, which `caption_column` names"), "{said}");
    assert!(said.ends_with("the columns are: clip, verb"), "{said}");
}

#[test]
fn bad_rows_are_listed_with_line_and_column() {
    let folder = Folder::new();
    let mut text = b"path,caption\n\
        a.mp4,fine\n\
        b.mp4,too,many\n\
        ,no path\n\
        \"c.mp4\",\"over\ntwo lines\"\n\
        https://ak.example/x.mp4,address\n\
        a.mp4,fine\n\
        a.mp4,another\n\
        d.mp4,\xFFlatin\n\
        /../,nothing\n"
        .to_vec();
    let (data, skipped) = folder.read("a.csv", &text).unwrap();
    assert_eq!(
        seen(&data.items),
        [("a.mp4", None, Some("fine")), ("c.mp4", None, Some("over\ntwo lines")), ("a.mp4#2", None, Some("another"))]
    );
    let lines = said(&skipped);
    for (line, what) in [
        ("line 3: ", "expected 2 fields as in the first row, got 3"),
        ("line 4, column `path`: ", "empty"),
        ("line 7, column `path`: ", "is an address"),
        ("line 8: ", "the same as a row before"),
        ("line 10, column `caption`: ", "another encoding than UTF-8"),
        ("line 11, column `path`: ", "names no file"),
    ] {
        let expected = format!("{}, {line}", folder.path("a.csv").display());
        assert!(lines.iter().any(|l| l.starts_with(&expected) && l.contains(what)), "{expected}{what}: {lines:#?}");
    }
    assert_eq!(lines.len(), 6);
    // An unclosed quote turns the rest of the file into one field; in the last column, this would silently lose videos.
    text.extend_from_slice(b"e.mp4,\"open\nf.mp4,lost\n");
    let said = folder.read("a.csv", &text).unwrap_err().to_string();
    assert!(said.contains("line 12: a quote is opened and never closed"), "{said}");
}

#[test]
fn bad_json_lines_are_listed() {
    let folder = Folder::new();
    let text = "{\"video\": \"a.mp4\", \"text\": \"one\"}\n{\"video\": \"b.mp4\", \n[1]\n{\"text\": \"no path\"}\n\
                {\"video\": [\"c.mp4\"]}\n{\"video\": \"d.mp4\", \"text\": {\"en\": \"x\"}}\n{\"video\": \"e.mp4\", \"label\": true}\n";
    let (data, skipped) = folder.read("a.jsonl", text).unwrap();
    assert_eq!(seen(&data.items), [("a.mp4", None, Some("one"))]);
    let lines = said(&skipped);
    for (line, what) in [
        ("line 2: ", "no JSON object: EOF while parsing"),
        ("line 3: ", "no JSON object: invalid type"),
        ("line 4, column `video`: ", "empty"),
        ("line 5, column `video`: ", "expected text or a number, got a list"),
        ("line 6, column `text`: ", "got an object"),
        ("line 7, column `label`: ", "got true or false"),
    ] {
        assert!(lines.iter().any(|l| l.contains(&format!("a.jsonl, {line}")) && l.contains(what)), "{line}{what}: {lines:#?}");
    }
    assert_eq!(lines.len(), 6);
    let said = folder.read("a.jsonl", "[{\"video\": \"a.mp4\"},\n{\"video\": \"b.mp4\"}]\n").unwrap_err().to_string();
    assert!(said.contains("line 1: a JSON array"), "{said}");
}

#[test]
fn an_invalid_manifest_is_one_clear_error() {
    let folder = Folder::new();
    for (name, text, expected) in [
        ("a.csv", "", "the columns are: none"),
        ("a.csv", "a,b\n1,2\n", "looked for path, video, video_path"),
        ("a.csv", "a,b\n1,2\n", "the columns are: a, b (the first row names the columns); name the right one with `path_column`"),
        ("a.csv", "path\n", "no row names a video"),
        ("a.csv", "path,b\n,1\n,2\n", "the first of 2 skipped"),
        ("a.csv", "path,label\na,1\nb,2\n", "column `label`: labels go up to 2, but none is 0"),
        ("a.jsonl", "not json\n", "the first of 1 skipped"),
        ("a.jsonl", "", "the columns are: none"),
        ("a.txt", "a.mp4\n", "expected .csv, .tsv, .jsonl or .parquet"),
        ("a.csv.gz", "", "expected .csv, .tsv, .jsonl or .parquet, not compressed"),
    ] {
        let said = folder.read(name, text).unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains(name) && !said.contains('\n'), "{said}");
    }
    assert!(matches!(Dataset::from_manifest(folder.path("none.csv"), &ManifestOptions::default()), Err(Error::Io { .. })));
    // Tens of megabytes that are not a table.
    let noise = vec![b'a'; 18 << 20];
    let said = folder.read("a.jsonl", &noise).unwrap_err().to_string();
    assert!(said.contains("line 1: longer than 16 MiB"), "{said}");
    let open = [b"path,caption\na.mp4,\"".as_slice(), &noise, b"\n"].concat();
    let said = folder.read("a.csv", open).unwrap_err().to_string();
    assert!(said.contains("a row is longer than 16 MiB"), "{said}");
}

#[test]
fn millions_of_bad_rows_are_counted_and_not_kept() {
    let folder = Folder::new();
    let text = format!("path,caption\na.mp4,fine\n{}", ",bad\n".repeat(3000));
    let (_, skipped) = folder.read("a.csv", text).unwrap();
    assert_eq!((skipped.count, skipped.listed.len()), (3000, Skipped::MAX_LISTED));
}

/// An invalid value in a column that is not read does not affect the row; in one that is read, it is reported.
#[test]
fn columns_that_are_not_read_are_not_validated() {
    let folder = Folder::new();
    for value in ["NaN", "Infinity", "-Infinity", "[NaN]", "1e999", "\"\\ud800\"", "\"a\tb\"", "123456789012345678901234567890"] {
        let row = format!("{{\"path\": \"a.mp4\", \"score\": {value}, \"text\": \"x\"}}");
        for (name, text) in [("a.jsonl", format!("{row}\n")), ("a.json", format!("[\n  {row}\n]\n"))] {
            let (data, skipped) = folder.read(name, text).unwrap();
            assert_eq!((seen(&data.items), skipped.count), (vec![("a.mp4", None, Some("x"))], 0), "{name}: {value}");
        }
        // The same value in a column that is read.
        let read = format!("{{\"path\": \"a.mp4\", \"text\": {value}}}\n{{\"path\": \"b.mp4\"}}\n");
        let (data, skipped) = folder.read("a.jsonl", read).unwrap();
        let is_text = value.starts_with("123");
        assert_eq!(data.items.len(), if is_text { 2 } else { 1 }, "{value}");
        if value.contains("NaN") && !value.starts_with('[') {
            assert!(said(&skipped)[0].contains("line 1, column `text`: expected text or a number, got NaN"), "{skipped:?}");
        }
        if is_text {
            assert_eq!(data.items[0].caption.as_deref(), Some(value));
        }
    }
    // Empty fields that a spreadsheet added to every row; and an extra field, which may come from a comma in the caption.
    let (data, skipped) = folder.read("a.csv", "path,caption\na.mp4,x,,\nb.mp4,y, z\nc.mp4,w, \nd.mp4\n").unwrap();
    assert_eq!(seen(&data.items), [("a.mp4", None, Some("x")), ("c.mp4", None, Some("w"))]);
    assert_eq!(skipped.count, 2);
    // If a key occurs twice, the last value counts, as in Python.
    let (data, _) = folder.read("a.jsonl", "{\"path\": \"a.mp4\", \"path\": \"b.mp4\"}\n").unwrap();
    assert_eq!(seen(&data.items), [("b.mp4", None, None)]);
}

#[test]
fn an_array_of_objects_is_a_manifest() {
    let folder = Folder::new();
    let text = "[{\"path\": \"a.mp4\", \"label\": 1},\r\n {\"label\": 0, \"path\": \"b.mp4\"}, 3, {\"label\": 0}]";
    let (data, skipped) = folder.read("a.json", text).unwrap();
    assert_eq!(seen(&data.items), [("a.mp4", Some(1), None), ("b.mp4", Some(0), None)]);
    let lines = said(&skipped);
    assert!(
        lines[0].contains("a.json, row 3: no JSON object") && lines[1].contains("a.json, row 4, column `path`: empty"),
        "{lines:?}"
    );
    for text in ["{\"path\": \"a.mp4\"}\n{\"path\": \"b.mp4\"}\n", "{\"data\": []}", "", "[{\"path\": \"a.mp4\"}"] {
        let said = folder.read("a.json", text).unwrap_err().to_string();
        assert!(said.contains("a.json") && said.contains("one array of objects") && said.contains(".jsonl"), "{said}");
    }
}

/// Each format with a byte-order mark, with Windows line ends, concatenated from two files with marks; and in encodings that are
/// refused.
#[test]
fn byte_order_marks_are_removed_and_other_encodings_are_named() {
    let folder = Folder::new();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, text, more) in [
        ("a.csv", "path,label\na.mp4,0\n", "b.mp4,1\n"),
        ("a.tsv", "path\tlabel\na.mp4\t0\n", "b.mp4\t1\n"),
        ("a.jsonl", "{\"path\":\"a.mp4\",\"label\":0}\n", "{\"path\":\"b.mp4\",\"label\":1}\n"),
        ("a.json", "[{\"path\":\"a.mp4\",\"label\":0},\n", "{\"path\":\"b.mp4\",\"label\":1}]\n"),
    ] {
        let plain = folder.read(name, format!("{text}{more}")).unwrap().0;
        assert_eq!(seen(&plain.items), [("a.mp4", Some(0), None), ("b.mp4", Some(1), None)], "{name}");
        let windows = format!("\u{feff}{text}{more}").replace('\n', "\r\n");
        for other in [format!("\u{feff}{text}{more}"), windows, format!("\u{feff}{text}\u{feff}{more}")] {
            let (data, skipped) = folder.read(name, &other).unwrap();
            assert_eq!((data, skipped.count), (plain.clone(), 0), "{name}: {other:?}");
        }
        for bytes in [wide(&format!("{text}{more}")), wide(&format!("\u{feff}{text}{more}"))] {
            let error = folder.read(name, bytes).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            assert!(error.to_string().ends_with(&format!("{name}: it is UTF-16; save it as UTF-8")), "{error}");
        }
    }
}

#[test]
fn one_label_that_is_not_a_number_does_not_renumber_the_others() {
    let folder = Folder::new();
    let error = folder.read("a.csv", "path,label\na,0\nb,one\nc,2\nd,1\n").unwrap_err();
    assert!(matches!(error, Error::Labels(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("a.csv, column `label`: `one` (line 3) is no whole number, and 3 of the 4 labels are"), "{said}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_its_feature_parquet_is_an_error_that_says_what_to_do() {
    let said = Folder::new().read("a.parquet", "PAR1").unwrap_err().to_string();
    assert!(said.contains("--features parquet") && said.contains(".jsonl"), "{said}");
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::path::Path;
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    const SCHEMA: &str = "message rows { required binary path (UTF8); optional binary caption (UTF8); optional int64 label; \
                          optional double score; optional group tags (LIST) { repeated group list { optional binary e (UTF8); } } }";

    /// Three rows; one has no caption, another no label.
    fn write(path: &Path, compression: Compression) {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let bytes = |texts: &[&str]| texts.iter().map(|t| ByteArray::from(*t)).collect::<Vec<_>>();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&bytes(&["a.mp4", "b/ü.mp4", "c.mp4"]), None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&bytes(&["one", "three"]), Some(&[1, 0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1, 0], Some(&[1, 1, 0]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[0.0, 1.0, f64::NAN], Some(&[1, 1, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&[0, 0, 0]), Some(&[0, 0, 0])).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn parquet_is_read_as_the_other_formats() {
        let folder = Folder::new();
        let path = folder.path("a.parquet");
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::ZSTD(ZstdLevel::default()),
            Compression::GZIP(parquet::basic::GzipLevel::default()),
        ];
        for codec in codecs {
            write(&path, codec);
            let (data, skipped) = Dataset::from_manifest(&path, &ManifestOptions::default()).unwrap();
            let expected = [("a.mp4", Some(1), Some("one")), ("b/ü.mp4", Some(0), None), ("c.mp4", None, Some("three"))];
            assert_eq!(seen(&data.items), expected, "{codec}");
            assert_eq!(skipped.count, 0);
        }
        // Integers written as floating point, and a missing value.
        let options = ManifestOptions { label_column: Some("score".into()), ..ManifestOptions::default() };
        let (data, _) = Dataset::from_manifest(&path, &options).unwrap();
        assert_eq!(data.items.iter().map(|i| i.label).collect::<Vec<_>>(), [Some(0), Some(1), None]);
        let options = ManifestOptions { path_column: Some("label".into()), ..ManifestOptions::default() };
        let (data, skipped) = Dataset::from_manifest(&path, &options).unwrap();
        assert_eq!(seen(&data.items)[0], ("1", Some(1), Some("one")));
        assert!(said(&skipped)[0].contains("a.parquet, row 3, column `label`: empty"));
        let options = ManifestOptions { path_column: Some("file".into()), ..ManifestOptions::default() };
        let said = Dataset::from_manifest(&path, &options).unwrap_err().to_string();
        assert!(said.contains("the columns are: path, caption, label, score, tags"), "{said}");
    }

    #[test]
    fn damage_never_panics() {
        let folder = Folder::new();
        let path = folder.path("a.parquet");
        write(&path, Compression::SNAPPY);
        let whole = fs::read(&path).unwrap();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut errors = 0;
        for round in 0..500 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 4 {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            if round % 5 == 4 {
                bytes.truncate(random(whole.len()));
            }
            fs::write(&path, &bytes).unwrap();
            match Dataset::from_manifest(&path, &ManifestOptions::default()) {
                Ok((data, _)) => assert!(!data.items.is_empty()),
                Err(e) => {
                    assert!(e.to_string().contains("a.parquet"), "{e}");
                    errors += 1;
                }
            }
        }
        println!("{errors} of 500 damaged files gave an error");
        assert!(errors > 50);
    }
}
