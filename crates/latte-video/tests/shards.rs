//! Data sets in WebDataset shards, and videos read from inside an archive.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use latte_video::dataset::{Dataset, Item, MediaLocation, Skipped};
use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder, Error, Video, ffmpeg_is_available};
use tar::{Builder, EntryType, Header};

/// Writes an archive with these members.
fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut builder = Builder::new(fs::File::create(path).unwrap());
    for (name, contents) in members {
        let mut header = Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *contents).unwrap();
    }
    builder.finish().unwrap();
}

/// An encoded clip with frames of one grey level each, which depend on `shade`.
fn video(dir: &Path, shade: u8) -> Vec<u8> {
    let pixels = (0..6).flat_map(|f| vec![shade + 10 * f; 32 * 48 * 3]).collect();
    let path = dir.join("video.mp4");
    encode::write_mp4(&path, &Clip::new(pixels, [6, 32, 48, 3], 8.0).unwrap(), &Mp4Options::default()).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}

fn seen(items: &[Item]) -> Vec<(&str, Option<u32>, Option<&str>)> {
    items.iter().map(|i| (i.name.as_str(), i.label, i.caption.as_deref())).collect()
}

fn said(skipped: &Skipped) -> Vec<String> {
    skipped.listed.iter().map(ToString::to_string).collect()
}

fn decoders() -> Vec<Decoder> {
    let ffmpeg = ffmpeg_is_available();
    if !ffmpeg {
        needs::not_run("ffmpeg", "only the built-in decoder is tried");
    }
    [Decoder::BuiltIn, Decoder::Ffmpeg].into_iter().filter(|&d| ffmpeg || d == Decoder::BuiltIn).collect()
}

#[test]
fn shards_as_video2dataset_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (video(dir.path(), 0), video(dir.path(), 100));
    let json = br#"{"videoID": "x", "caption": "from json", "url": "https://ak.example/1", "status": "success", "tags": [1]}"#;
    write_tar(&dir.path().join("00001.tar"), &[("000010000.json", json), ("000010000.mp4", &two)]);
    write_tar(
        &dir.path().join("00000.tar"),
        &[
            ("000000000.mp4", &one),
            ("000000000.txt", b"from text\n"),
            ("000000000.json", json),
            ("000000001.json", br#"{"status": "failed_to_download"}"#),
            ("000000002.mp4", &two),
            ("000000002.cls", b"1"),
        ],
    );
    fs::write(dir.path().join("00000_stats.json"), "{}").unwrap();
    fs::write(dir.path().join("00002.tar.gz"), "").unwrap();
    let labelled = |skipped: &Skipped| {
        let lines = said(skipped);
        assert!(lines.iter().any(|l| l.contains("00000.tar/000000001: a sample without a video; it has .json")), "{lines:?}");
        lines
    };
    // A single label 1 leaves a gap.
    let gap = Dataset::from_shards(dir.path()).unwrap_err().to_string();
    assert!(gap.contains("labels go up to 1, but none is 0"), "{gap}");
    write_tar(&dir.path().join("00001.tar"), &[("000010000.json", json), ("000010000.mp4", &two), ("000010000.cls", b"0\n")]);
    let (data, skipped) = Dataset::from_shards(dir.path()).unwrap();
    let expected = [
        ("00000/000000000", None, Some("from text")),
        ("00000/000000002", Some(1), None),
        ("00001/000010000", Some(0), Some("from json")),
    ];
    assert_eq!(seen(&data.items), expected);
    assert_eq!(data.classes, ["0", "1"]);
    let lines = labelled(&skipped);
    assert!(lines.iter().any(|l| l.contains("00002.tar.gz: a compressed archive")), "{lines:?}");
    assert_eq!(lines.len(), 2);
    // The same by a pattern, and one shard by its path.
    let (same, skipped) = Dataset::from_shards(dir.path().join("{00000..00001}.tar")).unwrap();
    assert_eq!(same.items, data.items);
    assert_eq!(labelled(&skipped).len(), 1);
    write_tar(&dir.path().join("named.tar"), &[("a.mp4", &one), ("a.json", br#"{"label": "run"}"#)]);
    let (single, _) = Dataset::from_shards(dir.path().join("named.tar")).unwrap();
    assert_eq!(seen(&single.items), [("named/a", Some(0), None)]);
    assert_eq!(single.classes, ["run"]);
    // The locations are those of the videos.
    for (item, shade) in data.items.iter().zip([0, 100, 100]) {
        for decoder in decoders() {
            let clip = Video::open_media(&item.place, decoder).unwrap().frames(&[0, 5]).unwrap();
            for (frame, level) in [(0, shade), (1, shade + 50)] {
                assert!(clip.frame(frame)[0].abs_diff(level) <= 3, "{}: {}", item.name, clip.frame(frame)[0]);
            }
        }
    }
}

/// The location of the member `name`, found without the reader under test.
fn place(archive: &Path, name: &str) -> MediaLocation {
    let mut tar = tar::Archive::new(fs::File::open(archive).unwrap());
    let entry = tar.entries().unwrap().map(Result::unwrap).find(|e| e.path().unwrap() == Path::new(name)).unwrap();
    let (offset, length) = (entry.raw_file_position(), entry.size());
    MediaLocation::Archived { archive: archive.to_path_buf(), offset, length, name: name.into() }
}

#[test]
fn a_video_inside_an_archive_is_the_one_outside() {
    let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/clips");
    let names = ["h264_bframes.mp4", "h264_fragments.mp4", "h264.mkv", "hevc.mp4", "vp9.webm", "rotated_90.mp4"];
    let contents: Vec<Vec<u8>> = names.iter().map(|n| fs::read(clips.join(n)).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    // A colon, a comma, a space and a percent sign, which have a meaning in URLs.
    let archive = dir.path().join("a:b, 100% c.tar");
    let members: Vec<(&str, &[u8])> = names.iter().copied().zip(contents.iter().map(Vec::as_slice)).collect();
    write_tar(&archive, &members);
    for name in names {
        // The ffmpeg program is started for each read: two containers are enough for it.
        let decoders = if name == "h264_bframes.mp4" || name == "vp9.webm" { decoders() } else { vec![Decoder::BuiltIn] };
        for decoder in decoders {
            let outside = Video::open(clips.join(name), decoder).unwrap();
            let inside = Video::open_media(&place(&archive, name), decoder).unwrap();
            let (mut a, b) = (outside.info().clone(), inside.info());
            a.path = archive.join(name);
            assert_eq!(&a, b, "{name}");
            let n = a.num_frames;
            for indices in [(n - 9..n).step_by(2).collect::<Vec<_>>(), vec![0, 1]] {
                assert_eq!(outside.frames(&indices).unwrap(), inside.frames(&indices).unwrap(), "{name} {decoder:?} {indices:?}");
            }
            let by_path = Video::open_media(&MediaLocation::Path(clips.join(name)), decoder).unwrap();
            assert_eq!(by_path.info(), outside.info());
        }
    }
}

#[test]
fn a_missing_video_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a.tar");
    let bytes = video(dir.path(), 0);
    write_tar(&archive, &[("x/y.mp4", &bytes), ("empty.mp4", b""), ("text.mp4", b"no video, but some text")]);
    let whole = place(&archive, "x/y.mp4");
    for decoder in decoders() {
        for name in ["empty.mp4", "text.mp4"] {
            let error = Video::open_media(&place(&archive, name), decoder).unwrap_err();
            assert!(matches!(error, Error::NotVideo { .. }) && error.to_string().contains(name), "{error}");
        }
    }
    fs::write(&archive, &fs::read(&archive).unwrap()[..900]).unwrap();
    for decoder in decoders() {
        let said = Video::open_media(&whole, decoder).unwrap_err().to_string();
        assert!(said.contains("a.tar/x/y.mp4") && said.contains("has 900 bytes") && said.contains("list it again"), "{said}");
    }
}

#[test]
fn unusable_members_are_skipped_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let long = vec![b'x'; 5 << 20];
    let mut builder = Builder::new(fs::File::create(&path).unwrap());
    let mut add = |kind: EntryType, name: &str, contents: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        if kind == EntryType::Symlink {
            header.set_link_name("fine.mp4").unwrap();
        }
        builder.append_data(&mut header, name, contents).unwrap();
    };
    add(EntryType::Directory, "clips/", b"");
    add(EntryType::Regular, "clips/fine.mp4", b"video");
    add(EntryType::Regular, "clips/._fine.mp4", b"what macOS adds");
    add(EntryType::Regular, "README", b"no ending");
    add(EntryType::Symlink, "clips/linked.mp4", b"");
    add(EntryType::Regular, "long.mp4", b"video");
    add(EntryType::Regular, "long.txt", &long);
    add(EntryType::Regular, "latin.mp4", b"video");
    add(EntryType::Regular, "latin.caption", b"caf\xE9");
    add(EntryType::Regular, "broken.mp4", b"video");
    add(EntryType::Regular, "broken.json", b"{");
    add(EntryType::Regular, "list.mp4", b"video");
    add(EntryType::Regular, "list.json", br#"{"text": ["a", "b"]}"#);
    // The list does not matter if the caption has its own file.
    add(EntryType::Regular, "both.mp4", b"video");
    add(EntryType::Regular, "both.json", br#"{"text": ["a", "b"]}"#);
    add(EntryType::Regular, "both.TXT", b"own");
    add(EntryType::Regular, "two.left.mp4", b"video");
    add(EntryType::Regular, "two.right.mp4", b"video");
    add(EntryType::Regular, "again.mp4", b"video");
    add(EntryType::Regular, "again.txt", b"1");
    add(EntryType::Regular, "again.txt", b"2");
    builder.finish().unwrap();
    let (data, skipped) = Dataset::from_shards(&path).unwrap();
    assert_eq!(seen(&data.items), [("a/clips/fine", None, None), ("a/both", None, Some("own"))]);
    let lines = said(&skipped);
    for expected in [
        "a.tar/clips/linked.mp4: a link",
        "a.tar/long: its .txt is 5242880 bytes long",
        "a.tar/latin: its .caption is no UTF-8 text",
        "a.tar/broken: its .json is no JSON object",
        "a.tar/list: `text` in its .json should be text or a number, it is a list",
        "a.tar/two: its .right.mp4 is a second video",
        "a.tar/again: its .txt is there twice",
    ] {
        assert!(lines.iter().any(|l| l.contains(expected)), "{expected}: {lines:#?}");
    }
    assert_eq!(lines.len(), 7);
}

#[test]
fn samples_before_the_damage_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let contents = vec![7; 2000];
    write_tar(&path("0.tar"), &[("a.mp4", &contents), ("b.mp4", &contents)]);
    let whole = fs::read(path("0.tar")).unwrap();
    // Within b's contents; between members; within a header.
    for (len, what) in [(4000, "`b.mp4` should have 2000 bytes"), (2560, "lacks the mark"), (2700, "the archive ends within it")]
    {
        fs::write(path("0.tar"), &whole[..len]).unwrap();
        let (data, skipped) = Dataset::from_shards(dir.path()).unwrap();
        assert_eq!(seen(&data.items), [("0/a", None, None)]);
        let lines = said(&skipped);
        assert!(lines.len() == 1 && lines[0].contains("0.tar: damaged or cut off: ") && lines[0].contains(what), "{lines:?}");
    }
    // A damaged shard does not affect the others; alone, it is an error.
    fs::write(path("1.tar"), [1; 5000]).unwrap();
    fs::write(path("2.tar"), b"\x1F\x8B compressed").unwrap();
    fs::write(path("3.tar"), b"").unwrap();
    let (data, skipped) = Dataset::from_shards(dir.path()).unwrap();
    assert_eq!((data.items.len(), skipped.count), (1, 4));
    for (name, expected) in
        [("1.tar", "is this a tar archive?"), ("2.tar", "write it without compression"), ("3.tar", "lacks the mark")]
    {
        let said = Dataset::from_shards(path(name)).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains(expected) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn a_path_without_shards_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir(path("compressed")).unwrap();
    fs::write(path("compressed/0.tar.zst"), "").unwrap();
    write_tar(&path("0.tar"), &[("a.txt", b"no video")]);
    for (name, expected) in [
        ("missing", "expected a .tar file, a folder of them, or a pattern"),
        ("empty", "no .tar file in this folder"),
        ("compressed", "0.tar.zst: a compressed archive"),
        ("{0..2}.tar", "2 of the 3 files that this pattern means are missing"),
        ("{0..2.tar", "a brace is opened and not closed"),
        ("0.tar", "a sample without a video; it has .txt"),
    ] {
        let said = Dataset::from_shards(path(name)).unwrap_err().to_string();
        assert!(said.contains(expected) && !said.contains('\n'), "{said}");
    }
}

#[test]
fn shards_of_the_same_name_are_distinguished_by_their_folders() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    for part in ["cats", "dogs"] {
        fs::create_dir(path(part)).unwrap();
        let archive = path(part).join("000.tar");
        write_tar(&archive, &[("./1.mp4", b"x"), ("__/1.mp4", b"y")]);
        // No program writes this, but a reader must not follow it.
        let mut bytes = fs::read(&archive).unwrap();
        let at = bytes.windows(8).position(|w| w == b"__/1.mp4").unwrap();
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&bytes[at..at + 512]);
        header.as_old_mut().name[..2].copy_from_slice(b"..");
        header.set_cksum();
        bytes[at..at + 512].copy_from_slice(header.as_bytes());
        fs::write(&archive, bytes).unwrap();
    }
    let (data, _) = Dataset::from_shards(path("{dogs,cats}/000.tar")).unwrap();
    let names: Vec<&str> = data.items.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["dogs/000/1", "dogs/000/1#2", "cats/000/1", "cats/000/1#2"]);
}

/// Members with byte-order marks, JSON written by Python, and a gif beside the video.
#[test]
fn members_of_other_programs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (one, path) = (video(dir.path(), 0), dir.path().join("a.tar"));
    let mark = |text: &str| format!("\u{feff}{text}").into_bytes();
    let wide: Vec<u8> = "0\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write_tar(
        &path,
        &[
            ("0.mp4", &one),
            ("0.cls", &mark("0\r\n")),
            ("0.txt", &mark("one\r\n")),
            ("1.gif", b"GIF89a"),
            ("1.mp4", &one),
            ("1.cls", b"1"),
            ("1.json", &mark("{\"punsafe\": NaN, \"caption\": \"two\", \"ratio\": Infinity}")),
            ("2.mp4", &one),
            ("2.gif", b"GIF89a"),
            ("2.cls", &wide),
        ],
    );
    let (data, skipped) = Dataset::from_shards(&path).unwrap();
    assert_eq!(seen(&data.items), [("a/0", Some(0), Some("one")), ("a/1", Some(1), Some("two"))]);
    assert!(matches!(&data.items[1].place, MediaLocation::Archived { name, .. } if name == "1.mp4"));
    let lines = said(&skipped);
    assert!(
        lines.len() == 1 && lines[0].contains("a.tar/2: its .cls is no UTF-8 text: it is UTF-16; save it as UTF-8"),
        "{lines:?}"
    );
    // One of many labels is not a number.
    let labels: Vec<String> = (0..4).map(|i| if i == 2 { "two".into() } else { i.to_string() }).collect();
    let names: Vec<[String; 2]> = (0..4).map(|i| [format!("{i}.mp4"), format!("{i}.cls")]).collect();
    let members = names.iter().zip(&labels).flat_map(|([a, b], label)| [(a.as_str(), one.as_slice()), (b, label.as_bytes())]);
    write_tar(&path, &members.collect::<Vec<_>>());
    let error = Dataset::from_shards(&path).unwrap_err();
    assert!(matches!(error, Error::Labels(_)) && error.to_string().contains("`two` (of a/2) is no whole number"), "{error}");
}
