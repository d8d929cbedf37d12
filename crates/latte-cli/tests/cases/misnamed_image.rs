//! `testdata/cases/misnamed-image`: images are decoded by their contents, whatever their extension.

use std::fs;

use super::case;

#[test]
fn jpeg_files_named_png_are_read() {
    let place = case("misnamed-image");
    let said = place.ok(&["eval", "flicker", "--fake", "set", "--frames", "4"]);
    // 0.8619 with libjpeg, which rounds some pixels differently in the last bit.
    let flicker: f64 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((flicker - 0.8619).abs() < 2e-4, "{said}");
    for number in 0..4 {
        let path = place.path(&format!("set/frames/00{number}.png"));
        fs::rename(&path, path.with_extension("JPG")).unwrap();
    }
    assert_eq!(place.ok(&["eval", "flicker", "--fake", "set", "--frames", "4"]), said);
}

#[test]
fn a_file_that_is_not_an_image_is_named() {
    let place = case("misnamed-image");
    for (bytes, what) in [
        (b"RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0".as_slice(), "an animated WebP image"),
        (b"GIF89a\x01\0\x01\0", "a GIF"),
        (b"<!doctype html>\n<html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
    ] {
        fs::write(place.path("set/frames/000.png"), bytes).unwrap();
        let said = place.refused(&["eval", "flicker", "--fake", "set", "--frames", "4"]);
        assert!(said.contains("000.png") && said.contains(what), "{what}: {said}");
    }
}
