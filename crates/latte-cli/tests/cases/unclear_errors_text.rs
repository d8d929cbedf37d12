//! `testdata/cases/unclear-errors`, the row of `utf16.csv`: another encoding is named, and no control character reaches the
//! terminal.

use std::fs;

use super::{case, place::text};

#[test]
fn a_table_in_utf16_is_named() {
    let place = case("unclear-errors");
    let said = place.refused(&["data", "check", "--layout", "manifest", "--path", "utf16.csv"]);
    assert_eq!(said, "error: utf16.csv: it is UTF-16; save it as UTF-8");
}

/// Names, columns and labels from the data in messages, on both outputs.
#[test]
fn control_characters_are_escaped() {
    let place = case("unclear-errors");
    fs::write(place.path("a.csv"), "p\u{1b}[2Jth,x\nb,c\n").unwrap();
    fs::write(place.path("b.csv"), "path,label\na,0\nb,1\nc,\u{7}\u{1b}[31m\n").unwrap();
    fs::write(place.path("\u{1b}[0m.toml"), "[model\u{7f}]\n").unwrap();
    fs::create_dir(place.path("v")).unwrap();
    fs::write(place.path("v/\u{1b}]0;title\u{7}.mp4"), "no video").unwrap();
    for args in [
        &["data", "check", "--layout", "manifest", "--path", "a.csv"][..],
        &["data", "check", "--layout", "manifest", "--path", "b.csv"],
        &["data", "index", "--layout", "manifest", "--path", "b.csv"],
        &["data", "check", "--path", "v", "--decoder", "built_in"],
        &["data", "index", "--path", "v", "--decoder", "built_in"],
        &["train", "--config", "\u{1b}[0m.toml"],
    ] {
        let output = place.latte(args);
        for shown in [text(&output.stdout), text(&output.stderr)] {
            assert!(!shown.chars().any(|sign| sign.is_control() && sign != '\n'), "{args:?}: {shown:?}");
        }
        let both = text(&output.stdout) + &text(&output.stderr);
        assert!(both.contains("\\u001b") || both.contains("\\u0007"), "{args:?}: {both}");
    }
}
