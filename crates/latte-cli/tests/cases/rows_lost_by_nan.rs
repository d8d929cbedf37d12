//! `testdata/cases/rows-lost-by-nan`: NaN in an unused column skips no row, and NaN in a used one is named.

use std::fs;

use super::case;

const CHECK: [&str; 9] = ["data", "check", "--layout", "manifest", "--num-frames", "4", "--frame-interval", "1", "--path"];

#[test]
fn nan_of_python_skips_no_row() {
    let place = case("rows-lost-by-nan");
    let check = |file: &str| place.ok(&[&CHECK[..], &[file]].concat());
    let said = check("list.jsonl");
    assert!(said.contains("2 videos, ") && !said.contains("skipped"), "{said}");
    let lines = fs::read_to_string(place.path("list.jsonl")).unwrap();
    let array = format!("[{}]", lines.trim().replace('\n', ","));
    fs::write(place.path("list.json"), array).unwrap();
    assert_eq!(check("list.json"), said);
    fs::write(place.path("list.jsonl"), lines.replace("\"x\"", "NaN")).unwrap();
    let said = check("list.jsonl");
    assert!(said.contains("1 videos, ") && said.contains("line 1, column `text`: expected text or a number, got NaN"), "{said}");
}
