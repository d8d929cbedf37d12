//! Two classes whose names would give the same file name.

use std::collections::BTreeSet;
use std::fs;

use crate::{case, names};

#[test]
fn two_classes_never_share_a_file() {
    let place = case("class-file-names");
    place.ok(&[
        "train",
        "--config",
        "tiny.toml",
        "--set",
        "samples.every=6",
        "--set",
        "samples.num=2",
        "--set",
        "samples.steps=2",
    ]);
    let sample =
        |format: &str, out: &str| place.ok(&["sample", "--checkpoint", "run", "--steps", "2", "--format", format, "--out", out]);
    for (format, expected) in [
        ("mp4", ["a_cat-2_seed0.mp4", "a_cat_seed0.mp4", "contact_sheet.png"]),
        ("gif", ["a_cat-2_seed0.gif", "a_cat_seed0.gif", "contact_sheet.png"]),
        ("png", ["a_cat-2_seed0", "a_cat_seed0", "contact_sheet.png"]),
    ] {
        let printed: BTreeSet<String> = sample(format, format).lines().map(String::from).collect();
        assert_eq!(printed, expected.map(|name| format!("{format}/{name}")).into());
        assert_eq!(names(&place.path(format)), expected);
    }
    // `a cat` is the first class; `a_cat` keeps its own name.
    let read = |path: &str| fs::read(place.path(path)).unwrap();
    for (class, file) in [("a cat", "a_cat-2_seed0.mp4"), ("a_cat", "a_cat_seed0.mp4")] {
        let out = format!("only {class}");
        place.ok(&["sample", "--checkpoint", "run", "--steps", "2", "--class", class, "--out", &out]);
        assert_eq!(read(&format!("{out}/{file}")), read(&format!("mp4/{file}")), "{class}");
    }
    let on_the_way = names(&place.path("run/samples/step_0000006"));
    let expected = ["a_cat-2_seed0.gif", "a_cat-2_seed0.mp4", "a_cat_seed0.gif", "a_cat_seed0.mp4", "contact_sheet.png"];
    assert_eq!(on_the_way, expected);

    // A class that is given twice is generated once.
    let (stdout, stderr) =
        place.both(&["sample", "--checkpoint", "run", "--steps", "2", "--class", "a_cat", "1", "--out", "twice"]);
    assert!(stderr.contains("--class 1: is given twice"), "{stderr}");
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    // Other settings do not replace existing files, in any format; the same settings do.
    for format in ["mp4", "gif", "png"] {
        let again = sample(format, format);
        assert!(again.contains(&format!("{format}/contact_sheet.png\n")), "{again}");
        let args = ["sample", "--checkpoint", "run", "--steps", "2", "--frames", "2", "--format", format, "--out", format];
        let (stdout, stderr) = place.both(&args);
        assert_eq!(stdout.matches("-2").count(), 4, "{stdout}");
        assert!(stdout.contains("a_cat-2_seed0-2") && stdout.contains("contact_sheet-2.png"), "{stdout}");
        assert!(stderr.contains("3 files") && stderr.contains("--overwrite"), "{stderr}");
        assert_eq!(names(&place.path(format)).len(), 6);
        place.ok(&[&args[..], &["--overwrite"]].concat());
        assert_eq!(names(&place.path(format)).len(), 6, "replaced");
    }
}
