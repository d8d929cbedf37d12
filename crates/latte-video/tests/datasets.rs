//! Data sets on disk: which videos belong to each layout, indexes, checks, frame folders.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use latte_video::dataset::{
    Dataset, Expected, FrameExport, FrameFormat, ImageList, Index, Layout, Location, MediaLocation, ScanOptions, Severity, check,
    check_files, check_images, scan, update_index,
};
use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, ClipWindow, Decoder, Error, NoProgress, Progress, Stage, Transform, Video, read_image};

const WINDOW: usize = 48;

/// Frames of one grey level each; the first has level `first`.
fn grey(frames: usize, first: u8, [height, width]: [usize; 2], fps: f64) -> Clip {
    let pixels = (0..frames).flat_map(|f| vec![first.wrapping_add(f as u8); height * width * 3]).collect();
    Clip::new(pixels, [frames, height, width, 3], fps).unwrap()
}

fn mp4(path: &Path, clip: &Clip) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    encode::write_mp4(path, clip, &Mp4Options::default()).unwrap();
}

/// An empty file with the name of a video.
fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

fn frames(folder: &Path, count: usize) {
    for i in 0..count {
        touch(&folder.join(format!("v_{i}.jpg")));
    }
}

fn names(dataset: &Dataset) -> Vec<(&str, Option<u32>)> {
    dataset.items.iter().map(|item| (item.name.as_str(), item.label)).collect()
}

fn options() -> ScanOptions {
    ScanOptions { decoder: Decoder::BuiltIn, hash: false, last_frame: false, threads: 2 }
}

fn window() -> ClipWindow {
    ClipWindow { num_frames: 16, frame_interval: 3, rule: Layout::Folder.rules().frame_rule }
}

fn expected(layout: Layout) -> Expected {
    let rules = layout.rules();
    let window = ClipWindow { rule: rules.frame_rule, ..window() };
    Expected { window, transform: rules.transform, size: None, num_classes: None }
}

#[test]
fn layouts_list_what_the_official_readers_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    // FaceForensics: every video file, nested or not, and nothing else.
    for file in ["ffs/b.avi", "ffs/deep/er/a.mp4", "ffs/notes.txt", "ffs/.hidden/c.avi", "ffs/thumbs/0.jpg"] {
        touch(&at(file));
    }
    let ffs = Layout::FaceForensics.list(&at("ffs")).unwrap();
    assert_eq!(names(&ffs), [("b.avi", None), ("deep/er/a.mp4", None)]);
    assert!(ffs.classes.is_empty());

    // UCF101: a class's number is the rank of its folder's name by code points; videos outside class folders do not count.
    for file in ["ucf/Archery/v_Archery_g01_c01.avi", "ucf/YoYo/v_YoYo_g01_c01.avi", "ucf/applyMakeup/x.avi", "ucf/stray.avi"] {
        touch(&at(file));
    }
    fs::create_dir(at("ucf/Biking")).unwrap();
    let ucf = Layout::Ucf101.list(&at("ucf")).unwrap();
    assert_eq!(ucf.classes, ["Archery", "Biking", "YoYo", "applyMakeup"]);
    let expected =
        [("Archery/v_Archery_g01_c01.avi", Some(0)), ("YoYo/v_YoYo_g01_c01.avi", Some(2)), ("applyMakeup/x.avi", Some(3))];
    assert_eq!(names(&ucf), expected);

    // SkyTimelapse: folders of frames at any depth, with more frames than the window covers.
    for (folder, count) in [("sky/train/a/a_1", 49), ("sky/train/a/a_2", 48), ("sky/train/b/b_1", 60)] {
        frames(&at(folder), count);
    }
    touch(&at("sky/train/preview.mp4"));
    let mut sky = Layout::SkyTimelapse.list(&at("sky")).unwrap();
    assert_eq!(sky.items.len(), 3);
    assert_eq!(Layout::SkyTimelapse.fit(&mut sky, &window()).unwrap(), 1);
    assert_eq!(names(&sky), [("train/a/a_1", None), ("train/b/b_1", None)]);
    let long = ClipWindow { num_frames: 20, ..window() };
    let said = Layout::SkyTimelapse.fit(&mut sky, &long).unwrap_err().to_string();
    assert!(said.contains("none of the 2 videos has more than 60 frames"), "{said}");

    // Taichi-HD: any folder of frames that is not empty.
    frames(&at("taichi/x/1"), 3);
    frames(&at("taichi/y"), 1);
    fs::create_dir(at("taichi/empty")).unwrap();
    let mut taichi = Layout::TaichiHd.list(&at("taichi")).unwrap();
    assert_eq!(Layout::TaichiHd.fit(&mut taichi, &window()).unwrap(), 0);
    assert_eq!(names(&taichi), [("x/1", None), ("y", None)]);

    // A plain folder: both kinds; folders directly below the root are classes.
    touch(&at("folder/one/a.mp4"));
    touch(&at("folder/c.mp4"));
    frames(&at("folder/two"), 2);
    let folder = Layout::Folder.list(&at("folder")).unwrap();
    assert_eq!(names(&folder), [("c.mp4", None), ("one/a.mp4", Some(0)), ("two", Some(1))]);

    for layout in Layout::ALL.into_iter().filter(|layout| *layout != Layout::Manifest) {
        fs::create_dir_all(at("none/sub")).unwrap();
        for root in ["none", "missing"] {
            let said = layout.list(&at(root)).unwrap_err();
            assert!(matches!(said, Error::Folder { .. }), "{layout}: {said}");
        }
    }
}

/// A data set keeps its layout when it is converted into frame folders or into files.
#[test]
fn a_layout_accepts_the_other_kind_of_video_if_it_has_none_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    frames(&dir.path().join("ucf/Archery/v_Archery_g01_c01"), 2);
    let ucf = Layout::Ucf101.list(&dir.path().join("ucf")).unwrap();
    assert_eq!(names(&ucf), [("Archery/v_Archery_g01_c01", Some(0))]);
    touch(&dir.path().join("sky/a/a_1.mp4"));
    let sky = Layout::SkyTimelapse.list(&dir.path().join("sky")).unwrap();
    assert_eq!(names(&sky), [("a/a_1.mp4", None)]);
}

#[test]
fn an_index_has_the_metadata_of_the_files_and_opens_only_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("ucf"), dir.path().join("ucf.index.jsonl"));
    mp4(&root.join("A/v_A_g01_c01.mp4"), &grey(20, 10, [32, 48], 25.0));
    mp4(&root.join("B/v_B_g01_c01.mp4"), &grey(9, 10, [16, 16], 8.0));
    fs::write(root.join("B/v_B_g01_c02.avi"), "no video").unwrap();
    let first = update_index(&Location::new(Layout::Ucf101, &root), &out, options(), &mut NoProgress).unwrap();
    assert_eq!((first.opened, first.index.entries.len()), (3, 3));
    let index = Index::read(&out).unwrap();
    assert_eq!(index, first.index);
    assert_eq!(index.classes, ["A", "B"]);
    let broken = &index.entries[2];
    assert!(broken.error.as_ref().is_some_and(|e| e.contains("v_B_g01_c02.avi")) && broken.video.is_none(), "{broken:?}");

    let dataset = index.dataset(&Location::new(index.layout, &root)).unwrap();
    assert_eq!(names(&dataset), [("A/v_A_g01_c01.mp4", Some(0)), ("B/v_B_g01_c01.mp4", Some(1))]);
    for item in &dataset.items {
        let opened = Video::open_media(&item.place, Decoder::BuiltIn).unwrap();
        let told = item.info.clone().unwrap();
        let mut really = opened.info().clone();
        really.decoder = told.decoder;
        assert_eq!(told, really);
    }

    // If nothing has changed, only unreadable videos are tried again. Changed, new and missing files are noticed.
    assert_eq!(update_index(&Location::new(Layout::Ucf101, &root), &out, options(), &mut NoProgress).unwrap().opened, 1);
    fs::remove_file(root.join("B/v_B_g01_c02.avi")).unwrap();
    mp4(&root.join("B/v_B_g01_c01.mp4"), &grey(30, 10, [16, 16], 8.0));
    mp4(&root.join("A/v_A_g01_c00.mp4"), &grey(5, 10, [16, 16], 8.0));
    let third = update_index(&Location::new(Layout::Ucf101, &root), &out, options(), &mut NoProgress).unwrap();
    assert_eq!(third.opened, 2);
    let told: Vec<_> = third.index.entries.iter().map(|e| (e.name.as_str(), e.video.as_ref().unwrap().frames)).collect();
    assert_eq!(told, [("A/v_A_g01_c00.mp4", 5), ("A/v_A_g01_c01.mp4", 20), ("B/v_B_g01_c01.mp4", 30)]);
    // Hashes are added to known entries.
    let hashing = ScanOptions { hash: true, ..options() };
    assert_eq!(update_index(&Location::new(Layout::Ucf101, &root), &out, hashing, &mut NoProgress).unwrap().opened, 3);
    let hashed = update_index(&Location::new(Layout::Ucf101, &root), &out, options(), &mut NoProgress).unwrap();
    assert!(hashed.opened == 0 && hashed.index.entries.iter().all(|e| e.hash.as_ref().is_some_and(|h| h.len() == 64)));

    let said = update_index(&Location::new(Layout::Folder, &root), &out, options(), &mut NoProgress).unwrap_err().to_string();
    assert!(said.contains("of the layout `ucf101`, not `folder`"), "{said}");
}

/// Panics at the third video, which leaves the same files as a killed process.
struct InterruptAtThree;

impl Progress for InterruptAtThree {
    fn stage(&mut self, _: Stage, done: u64, _: u64) {
        assert!(done < 3, "interrupted");
    }
}

#[test]
fn an_interrupted_scan_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("v"), dir.path().join("v.jsonl"));
    for i in 0..6 {
        mp4(&root.join(format!("{i}.mp4")), &grey(5, 10, [16, 16], 8.0));
    }
    let one = ScanOptions { threads: 1, ..options() };
    let interrupted = std::panic::catch_unwind(|| {
        update_index(&Location::new(Layout::Folder, &root), &out, one, &mut InterruptAtThree).map(|_| ())
    });
    assert!(interrupted.is_err() && !out.exists());
    let left = dir.path().join(".v.jsonl.partial");
    // Also if it was interrupted within a line.
    let text = fs::read_to_string(&left).unwrap();
    assert_eq!(text.lines().count(), 1 + 3);
    fs::write(&left, text + "{\"name\":\"3.mp4\",\"by").unwrap();
    let scan = update_index(&Location::new(Layout::Folder, &root), &out, one, &mut NoProgress).unwrap();
    assert_eq!((scan.opened, scan.index.entries.len(), left.exists()), (3, 6, false));
    assert!(scan.index.entries.iter().all(|e| e.video.is_some()));
}

#[test]
fn an_invalid_index_is_refused_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.jsonl");
    let header = "{\"format\":\"latte-index\",\"version\":1,\"layout\":\"ucf101\",\"root\":\"/x\",\"classes\":[\"A\"]}\n";
    for (text, words) in [
        (String::new(), "line 1"),
        ("{\"format\":\"other\"}\n".into(), "line 1"),
        (header.replace("\"version\":1", "\"version\":2"), "version 2"),
        (format!("{header}{{\"name\":3}}\n"), "line 2"),
        (format!("{header}{{\"name\":\"a\",\"label\":1,\"bytes\":1,\"modified\":1}}\n"), "label 1 of only 1 classes"),
    ] {
        fs::write(&path, text).unwrap();
        let said = Index::read(&path).unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("index.jsonl") && !said.contains('\n'), "{words}: {said}");
    }
    // An index without a readable video.
    fs::write(&path, format!("{header}{{\"name\":\"a\",\"label\":0,\"bytes\":1,\"modified\":1,\"error\":\"cut off\"}}\n"))
        .unwrap();
    let said = Index::read(&path).unwrap().dataset(&Location::new(Layout::Folder, dir.path())).unwrap_err().to_string();
    assert!(said.contains("none of the 1 videos") && said.contains("cut off"), "{said}");
}

/// The diagnostics, and whether any is an error.
fn told(index: &Index, expected: &Expected) -> (Vec<String>, bool) {
    let diagnostics = check(index, expected);
    let error = diagnostics.iter().any(|f| f.severity == Severity::Error);
    (diagnostics.into_iter().map(|f| f.to_string()).collect(), error)
}

#[test]
fn problems_of_a_data_set_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("v");
    let index_of = |layout| {
        scan(&Location::new(layout, &root), &[], ScanOptions { hash: true, last_frame: true, ..options() }, &mut NoProgress)
    };
    for i in 0..3 {
        mp4(&root.join(format!("A/{i}.mp4")), &grey(50, 10 + i, [32, 32], 8.0));
    }
    mp4(&root.join("B/0.mp4"), &grey(50, 20, [32, 32], 8.0));
    let sound = index_of(Layout::Folder).unwrap().index;
    let (said, error) = told(&sound, &expected(Layout::Folder));
    assert!(said.is_empty() && !error, "{said:?}");

    fs::copy(root.join("A/0.mp4"), root.join("B/same.mp4")).unwrap();
    mp4(&root.join("B/short.mp4"), &grey(9, 30, [32, 32], 8.0));
    mp4(&root.join("B/dense.mp4"), &grey(30, 40, [32, 32], 8.0));
    mp4(&root.join("B/fast.mp4"), &grey(50, 50, [24, 32], 30.0));
    let whole = fs::read(root.join("A/0.mp4")).unwrap();
    fs::write(root.join("B/none.mp4"), "x").unwrap();
    fs::create_dir(root.join("C")).unwrap();
    mp4(&root.join("stray.mp4"), &grey(50, 60, [32, 32], 8.0));
    // Cut off after the index of its frames, or before it: either way the last frame is missing.
    fs::write(root.join("B/cut.mp4"), &whole[..whole.len() - whole.len() / 3]).unwrap();
    let index = index_of(Layout::Folder).unwrap().index;
    let (said, error) = told(&index, &Expected { size: Some([32, 32]), ..expected(Layout::Folder) });
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    for words in [
        "2 of 11 videos cannot be read",
        "1 of 9 is too short for a clip of 16 frames, 3 apart, which needs 16: B/short.mp4 (9)",
        "1 of 9 is shorter than the 48 frames of a window, and sampled more densely: B/dense.mp4 (30)",
        "1 of 8 is smaller than the 32 × 32 of training (height × width), and enlarged: 24 × 32 (1 videos, as B/fast.mp4)",
        "1 of 11 lies in no sub-folder",
        "1 of 3 has no usable video and cannot be trained: C (0)",
        "the same content 1 times over: A/0.mp4 = B/same.mp4",
        "videos have 2 frame rates, and clips count frames, not seconds: 8 (7 videos); 30 (1 videos)",
    ] {
        assert!(has(words), "{words}: {said:#?}");
    }
    assert!(!error && said.len() == 8 && said.iter().all(|line| line.starts_with("warning: ") && !line.contains('\n')));

    // With the number of classes of the model.
    let (said, error) = told(&index, &Expected { num_classes: Some(4), ..expected(Layout::Folder) });
    assert!(error && said[0] == "error: 3 classes, where the model has 4", "{said:#?}");
    let (said, error) = told(&index, &Expected { num_classes: Some(3), ..expected(Layout::Folder) });
    assert!(error && said[0].starts_with("error: 1 of 3 has no usable video"), "{said:#?}");
    let (said, _) = told(&index_of(Layout::Ucf101).unwrap().index, &expected(Layout::Ucf101));
    assert!(said.iter().any(|line| line.contains("3 classes, where the published data set has 101")), "{said:#?}");
    // All videos are too short or have the wrong size.
    let long = Expected { window: ClipWindow { num_frames: 60, ..window() }, ..expected(Layout::Folder) };
    let (said, error) = told(&index, &long);
    assert!(error && said.iter().any(|line| line.starts_with("error: 9 of 9 videos are too short")), "{said:#?}");
    let (said, error) = told(&sound, &Expected { size: Some([16, 16]), ..expected(Layout::TaichiHd) });
    assert!(error && said[0].contains("4 of 4 videos are not 16 × 16"), "{said:#?}");
    assert!(said[0].contains("32 × 32 (4 videos, as A/0.mp4)"), "{said:#?}");

    // A class with less than a tenth of its share.
    let mut many = sound.clone();
    for i in 0..40 {
        many.entries.push(latte_video::dataset::IndexEntry { name: format!("A/x{i}"), hash: None, ..sound.entries[0].clone() });
    }
    let (said, _) = told(&many, &expected(Layout::Folder));
    assert!(said.len() == 1 && said[0].contains("1 of 2 has few videos") && said[0].contains("B (1)"), "{said:#?}");
}

#[test]
fn sky_folders_that_the_reader_leaves_out_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    for (name, count) in [("a", WINDOW), ("b", WINDOW + 1)] {
        encode::write_png_frames(dir.path().join("t").join(name), &grey(count, 0, [4, 4], 8.0)).unwrap();
    }
    let index = scan(&Location::new(Layout::SkyTimelapse, dir.path()), &[], options(), &mut NoProgress).unwrap().index;
    let (said, error) = told(&index, &expected(Layout::SkyTimelapse));
    assert!(!error && said.len() == 1, "{said:?}");
    assert!(said[0].contains("which needs 49") && said[0].contains("t/a (48)"), "{said:?}");
}

#[test]
fn files_that_changed_since_the_index_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        mp4(&dir.path().join(format!("{i}.mp4")), &grey(5, 10, [16, 16], 8.0));
    }
    let index = scan(&Location::new(Layout::Folder, dir.path()), &[], options(), &mut NoProgress).unwrap().index;
    assert!(check_files(&index, &Location::new(Layout::Folder, dir.path())).unwrap().is_empty());
    fs::remove_file(dir.path().join("0.mp4")).unwrap();
    fs::write(dir.path().join("1.mp4"), "longer than it was, or shorter").unwrap();
    touch(&dir.path().join("new.mp4"));
    let diagnostics: Vec<String> =
        check_files(&index, &Location::new(Layout::Folder, dir.path())).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(diagnostics.len(), 2);
    assert!(
        diagnostics[0].contains("2 of 3 videos are gone or have changed") && diagnostics[0].contains("0.mp4; 1.mp4"),
        "{diagnostics:?}"
    );
    assert!(diagnostics[1].contains("1 videos are not in the index: new.mp4"), "{diagnostics:?}");

    let signatures = index.signatures();
    let stale = |name: &str| signatures[name].stale(&dir.path().join(name));
    assert!(stale("0.mp4").is_some_and(|said| said.contains("gone") && said.contains("latte data index")));
    assert!(stale("1.mp4").is_some_and(|said| said.contains("the file has 30:")));
    assert_eq!(stale("2.mp4"), None);
}

#[test]
fn lists_of_images_are_read_by_the_official_rule() {
    let dir = tempfile::tempdir().unwrap();
    let (list, folder) = (dir.path().join("list.txt"), dir.path().join("images"));
    fs::create_dir(&folder).unwrap();
    fs::write(&list, "v_Archery_g01_c01_0001.jpg\n\n  v_YoYo_g08_c02_0012.jpg  \nv_Archery_g02_c01_0001.jpg").unwrap();
    let classes = ["Archery".to_string(), "YoYo".to_string()];
    let ucf = ImageList::read(Layout::Ucf101, &list, &folder, &classes).unwrap();
    let all: Vec<_> = (0..ucf.len()).map(|i| (ucf.path(i), ucf.label(i))).collect();
    let file = |name: &str| folder.join(name);
    let expected: [(PathBuf, Option<u32>); 3] = [
        (file("v_Archery_g01_c01_0001.jpg"), Some(0)),
        (file("v_YoYo_g08_c02_0012.jpg"), Some(1)),
        (file("v_Archery_g02_c01_0001.jpg"), Some(0)),
    ];
    assert_eq!(all, expected);
    let said = ImageList::read(Layout::Ucf101, &list, &folder, &classes[..1]).unwrap_err().to_string();
    assert!(said.contains("line 3") && said.contains("v_YoYo_g08_c02_0012.jpg"), "{said}");

    fs::write(&list, "id0/0001.jpg\nid1/0007.jpg\n").unwrap();
    let ffs = ImageList::read(Layout::FaceForensics, &list, &folder, &[]).unwrap();
    assert_eq!((ffs.len(), ffs.path(1), ffs.label(1)), (2, folder.join("id1/0007.jpg"), None));
    for layout in [Layout::Folder, Layout::SkyTimelapse, Layout::TaichiHd] {
        assert!(ImageList::read(layout, &list, &folder, &[]).is_err());
    }
    // One image is missing, the other has another size.
    fs::create_dir(folder.join("id0")).unwrap();
    encode::write_jpeg(folder.join("id0/0001.jpg"), &[9; 8 * 8 * 3], 8, 8, 90).unwrap();
    assert!(check_images(&ffs, Some([8, 8]), 10).iter().all(|f| f.severity == Severity::Warning && f.what.contains("id1/0007")));
    let diagnostics = check_images(&ffs, Some([16, 16]), 10);
    assert_eq!(diagnostics[0].severity, Severity::Error);
    assert!(
        diagnostics[0].what.contains("1 of 1 images that were tried") && diagnostics[0].what.contains("8 × 8"),
        "{diagnostics:?}"
    );
    fs::write(&list, "\n").unwrap();
    assert!(ImageList::read(Layout::FaceForensics, &list, &folder, &[]).unwrap_err().to_string().contains("no image"));
}

#[test]
fn videos_become_frame_folders_that_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("v"), dir.path().join("frames"));
    mp4(&root.join("a/one.mp4"), &grey(7, 100, [32, 48], 8.0));
    mp4(&root.join("two.mp4"), &grey(5, 100, [32, 48], 8.0));
    fs::write(root.join("bad.mp4"), "x").unwrap();
    let png = FrameFormat { quality: None, size: None, transform: Transform::ResizeCrop };
    let export = FrameExport::plan(&root, &out, png).unwrap();
    let write = |export: &FrameExport| (0..3).map(|i| export.write(i, Decoder::BuiltIn).ok()).collect::<Vec<_>>();
    assert_eq!(write(&export), [Some(Some(7)), None, Some(Some(5))]);
    // Existing output is not written again; a failed task left nothing behind.
    assert_eq!(write(&export), [Some(None), None, Some(None)]);
    assert!(!out.join("bad").exists() && !out.join(".bad.partial").exists());
    let whole = |path: &Path| Video::open(path, Decoder::BuiltIn).unwrap().all().unwrap();
    let frames = Layout::Folder.list(&out).unwrap();
    assert_eq!(names(&frames), [("a/one", Some(0)), ("two", Some(1))]);
    assert_eq!(frames.items[0].place, MediaLocation::Path(out.join("a/one")));
    assert_eq!(whole(&out.join("a/one")).pixels(), whole(&root.join("a/one.mp4")).pixels());
    // Temporary files of a killed run are removed.
    fs::remove_dir_all(out.join("two")).unwrap();
    touch(&out.join(".two.partial/00099.png"));
    export.write(2, Decoder::BuiltIn).unwrap();
    assert_eq!(whole(&out.join("two")).num_frames(), 5);

    let jpeg = FrameFormat { quality: Some(95), size: Some([16, 16]), transform: Transform::ResizeCrop };
    let said = FrameExport::plan(&root, &out, jpeg).unwrap_err().to_string();
    assert!(said.contains("another format"), "{said}");
    let small = dir.path().join("small");
    let export = FrameExport::plan(&root, &small, jpeg).unwrap();
    write(&export);
    let (source, back) = (whole(&root.join("two.mp4")), whole(&small.join("two")));
    assert_eq!(back.shape(), [5, 16, 16, 3]);
    assert!(small.join("two/00004.jpg").is_file());
    for frame in 0..5 {
        let apart = source.frame(frame)[0].abs_diff(back.frame(frame)[0]);
        assert!(apart <= 2, "frame {frame}: {apart}");
    }

    // Two files that would use the same folder, or one folder inside another.
    for other in ["two.mov", "two/three.mp4"] {
        touch(&root.join(other));
        let said = FrameExport::plan(&root, &dir.path().join("x"), png).unwrap_err().to_string();
        assert!(said.contains("rename one"), "{said}");
        fs::remove_file(root.join(other)).unwrap();
    }
}

#[test]
fn a_jpeg_is_closer_with_a_higher_quality() {
    let dir = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..32 * 32).flat_map(|i| [(i % 32 * 8) as u8, (i / 32 * 8) as u8, 128]).collect();
    let error = |quality| {
        let path = dir.path().join(format!("{quality}.jpg"));
        encode::write_jpeg(&path, &pixels, 32, 32, quality).unwrap();
        let back = read_image(&path).unwrap();
        back.pixels().iter().zip(&pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() as f64 / pixels.len() as f64
    };
    let (low, high) = (error(30), error(95));
    assert!(high < 1.5 && low > 2.0 * high, "{low} {high}");
    for quality in [0, 101] {
        assert!(encode::write_jpeg(dir.path().join("x.jpg"), &pixels, 32, 32, quality).is_err());
    }
    assert!(encode::write_jpeg(dir.path().join("x.jpg"), &pixels, 31, 32, 90).is_err());
}

/// Values that other programs added to an index are ignored; invalid values of known keys are errors.
#[test]
fn an_index_ignores_values_that_python_added() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("v"), dir.path().join("v.jsonl"));
    mp4(&root.join("a/1.mp4"), &grey(5, 10, [16, 16], 8.0));
    let location = Location::new(Layout::Folder, &root);
    let index = update_index(&location, &out, options(), &mut NoProgress).unwrap().index;
    assert!(index.empty_classes().is_empty());
    let text = fs::read_to_string(&out).unwrap();
    let scored = text.replace("{\"name\"", "{\"score\": NaN, \"name\"");
    assert_ne!(scored, text);
    for text in [scored.clone(), format!("\u{feff}{}", scored.replace('\n', "\r\n"))] {
        fs::write(&out, text).unwrap();
        assert_eq!(Index::read(&out).unwrap(), index);
    }
    fs::write(&out, text.replacen("\"bytes\":", "\"bytes\":NaN,\"was\":", 1)).unwrap();
    let said = Index::read(&out).unwrap_err().to_string();
    assert!(said.contains("line 2") && said.contains("`bytes` is NaN, which is no number"), "{said}");
    fs::write(&out, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    assert!(Index::read(&out).unwrap_err().to_string().ends_with("it is UTF-16; save it as UTF-8"));
    fs::create_dir(root.join("b")).unwrap();
    fs::remove_file(&out).unwrap();
    assert_eq!(update_index(&location, &out, options(), &mut NoProgress).unwrap().index.empty_classes(), ["b"]);
}

#[test]
fn lists_with_a_byte_order_mark_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.txt");
    fs::write(&list, "\u{feff}a.png\r\n\u{feff}b/c.png\r\n").unwrap();
    let images = ImageList::read(Layout::FaceForensics, &list, Path::new("d"), &[]).unwrap();
    assert_eq!([images.path(0), images.path(1)], [PathBuf::from("d/a.png"), "d/b/c.png".into()]);
    fs::write(&list, "a.png\n".encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()).unwrap();
    let said = ImageList::read(Layout::FaceForensics, &list, Path::new("d"), &[]).unwrap_err().to_string();
    assert!(said.ends_with("list.txt: it is UTF-16; save it as UTF-8"), "{said}");
}
