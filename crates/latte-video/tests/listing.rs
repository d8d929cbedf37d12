//! Tests of listing: which folders are videos, what is reported about the others, and file names that an index cannot store.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;

use latte_video::dataset::{Index, Layout, Location, ScanOptions, update_index};
use latte_video::{Clip, Decoder, Video, encode, find_videos};
use proptest::prelude::*;

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

/// The names of the videos and the messages about what was skipped, without the path of the root.
fn listed(layout: Layout, root: &Path) -> (Vec<String>, Vec<String>) {
    let (dataset, skipped) = Location::new(layout, root).list().unwrap();
    assert_eq!(skipped.count, skipped.listed.len());
    let said = skipped.listed.iter().map(|e| e.to_string().replace(root.to_str().unwrap(), "")).collect();
    (dataset.items.into_iter().map(|item| item.name).collect(), said)
}

#[test]
fn images_beside_folders_of_videos_are_reported_and_are_not_a_video() {
    for (stray, videos) in [
        ("contact_sheet.png", ["a/0.png", "a/1.png", "b/0.png"]),
        ("sheet.jpg", ["a/0.png", "a/1.png", "b/0.png"]),
        ("sheet.JPEG", ["a/deep/er/0.jpg", "b/0.png", "c/d/0.jpeg"]),
        ("sheet.png", ["a/1.mp4", "a/2.mp4", "b/x.webm"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for video in videos {
            touch(&dir.path().join(video));
        }
        let expected: std::collections::BTreeSet<String> = videos
            .iter()
            .map(|video| {
                let is_file = [".mp4", ".webm"].iter().any(|end| video.ends_with(end));
                if is_file { (*video).to_string() } else { video.rsplit_once('/').unwrap().0.to_string() }
            })
            .collect();
        let expected: Vec<String> = expected.into_iter().collect();
        assert_eq!(listed(Layout::Folder, dir.path()), (expected.clone(), vec![]), "{stray}");
        touch(&dir.path().join(stray));
        for layout in [Layout::Folder, Layout::FaceForensics, Layout::SkyTimelapse, Layout::TaichiHd, Layout::Ucf101] {
            let (names, said) = listed(layout, dir.path());
            assert_eq!(names, expected, "{layout}: {stray}");
            let what = format!(
                ": one image (`{stray}`) beside folders with videos or frames in them, which makes no video of this folder"
            );
            assert_eq!(said, [what], "{layout}");
        }
        let found: Vec<String> = find_videos(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().into())
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn gifs_are_videos_unless_they_are_previews_of_another() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a.gif", "b.gif", "contact_sheet.png"] {
        touch(&dir.path().join(file));
    }
    assert_eq!(listed(Layout::Folder, dir.path()).0, ["a.gif", "b.gif"]);
    // As a sampling run writes them.
    for file in ["a.mp4", "b.mp4"] {
        touch(&dir.path().join(file));
    }
    assert_eq!(listed(Layout::Folder, dir.path()), (vec!["a.mp4".to_string(), "b.mp4".into()], vec![]));
}

#[test]
fn images_that_are_not_frames_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    // One preview per video is not reported, a folder of frames beside a video is.
    for file in ["a/1.mp4", "a/1.jpg", "b/1.mp4", "b/0.png", "b/1.png", "c/1.webp", "c/2.webp"] {
        touch(&dir.path().join(file));
    }
    let (names, said) = listed(Layout::Folder, dir.path());
    assert_eq!(names, ["a/1.mp4", "b/1.mp4"]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("/c: 2 images (the first is `1.webp`) of formats that are no frames"), "{said:?}");
    assert!(said[1].starts_with("/b: 2 images (the first is `0.png`) beside video files"), "{said:?}");
    let error = Location::new(Layout::Folder, dir.path().join("c")).list().unwrap_err().to_string();
    assert!(error.contains("no video in this folder") && error.contains("1.webp"), "{error}");
}

#[cfg(unix)]
mod names {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn mp4(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let clip = Clip::new(vec![9; 5 * 16 * 16 * 3], [5, 16, 16, 3], 8.0).unwrap();
        encode::write_mp4(path, &clip, &encode::Mp4Options::default()).unwrap();
    }

    const OPTIONS: ScanOptions = ScanOptions { decoder: Decoder::BuiltIn, hash: false, last_frame: false, threads: 1 };

    #[test]
    fn a_bad_name_does_not_prevent_an_index() {
        let dir = tempfile::tempdir().unwrap();
        // The root of the data set may have any name.
        let root = dir.path().join(OsStr::from_bytes(b"d\xFF"));
        let odd =
            ["a/line\nbreak.mp4", "a/quote\".mp4", "a/back\\slash.mp4", "a/ space .mp4", "b/\u{1b}[0m.mp4", "b/\u{feff}#1.mp4"];
        for name in &odd {
            mp4(&root.join(name));
        }
        mp4(&root.join("a").join(OsStr::from_bytes(b"\xFE.mp4")));
        mp4(&root.join(OsStr::from_bytes(b"class \xFE")).join("1.mp4"));
        let out = dir.path().join("x.jsonl");
        let location = Location::new(Layout::Folder, &root);
        let scan = update_index(&location, &out, OPTIONS, &mut latte_video::NoProgress).unwrap();
        assert_eq!((scan.skipped.count, scan.index.classes.as_slice()), (2, ["a".to_string(), "b".into()].as_slice()));
        assert!(scan.skipped.listed.iter().all(|e| e.to_string().contains("no Unicode; rename it")));
        let index = Index::read(&out).unwrap();
        let mut names: Vec<&str> = index.entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        let mut expected = odd;
        expected.sort_unstable();
        assert_eq!(names, expected);
        for item in index.dataset(&location).unwrap().items {
            Video::open_media(&item.place, Decoder::BuiltIn).unwrap();
        }
        // No video is opened again.
        assert_eq!(update_index(&location, &out, OPTIONS, &mut latte_video::NoProgress).unwrap().opened, 0);
    }

    #[test]
    fn pipes_and_unreadable_folders_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        mp4(&dir.path().join("a/1.mp4"));
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("a/2.mp4")).status();
        if made.is_ok_and(|status| status.success()) {
            let (names, said) = listed(Layout::Folder, dir.path());
            assert_eq!(names, ["a/1.mp4"]);
            assert!(said.len() == 1 && said[0].starts_with("/a/2.mp4: neither a file nor a folder"), "{said:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

        /// Any file names: valid Unicode names are in the index, the others are counted.
        #[test]
        fn any_names_are_indexed_or_counted(names in prop::collection::btree_set(prop::collection::vec(1_u8..255, 1..6), 1..6)) {
            let dir = tempfile::tempdir().unwrap();
            let (root, stock) = (dir.path().join("d"), dir.path().join("stock.mp4"));
            mp4(&stock);
            fs::create_dir(&root).unwrap();
            let (mut good, mut bad) = (1, 0);
            fs::copy(&stock, root.join("one.mp4")).unwrap();
            for name in names.iter().filter(|name| !name.contains(&b'/') && name[0] != b'.') {
                let file = [name.as_slice(), b".mp4"].concat();
                fs::copy(&stock, root.join(OsStr::from_bytes(&file))).unwrap();
                match std::str::from_utf8(&file) {
                    Ok(_) => good += 1,
                    Err(_) => bad += 1,
                }
            }
            let out = dir.path().join("x.jsonl");
            let scan = update_index(&Location::new(Layout::Folder, &root), &out, OPTIONS, &mut latte_video::NoProgress).unwrap();
            prop_assert_eq!((scan.index.entries.len(), scan.skipped.count), (good, bad));
            prop_assert_eq!(Index::read(&out).unwrap(), scan.index);
        }
    }
}
