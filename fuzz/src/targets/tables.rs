//! Lists of videos: manifests, archives, indexes, image lists.

use std::path::Path;

use latte_video::dataset::{
    Dataset, Expected, ImageList, Index, Layout, Location, ManifestOptions, MediaLocation, ScanOptions, check, check_files, scan,
};
use latte_video::{ClipWindow, Decoder, FrameRule, Transform, Video};

use super::{repository, videos, written};

pub(super) const WORDS: &[&str] = &[
    "path",
    "caption",
    "label",
    "name",
    "page_dir",
    "videoid",
    "a.mp4",
    "../a.mp4",
    "/a.mp4",
    "http://a/b.mp4",
    "place",
    "archived",
    "bytes",
    "modified",
    "video",
    "frames",
    "fps",
    "hash",
    "error",
    "latte-index",
    "manifest",
    "shards",
    "v_a_g01_c01_1.jpg",
];

/// Lists an archive and opens its first videos.
pub(super) fn shards(path: &Path) -> bool {
    let Ok((dataset, skipped)) = Dataset::from_shards(path) else { return false };
    let _ = skipped.summary();
    dataset.items.iter().take(2).all(|item| {
        let video = Video::open_media(&item.place, Decoder::BuiltIn);
        video.is_ok_and(|video| video.frames(&[0]).is_ok()) && item.place.content_hash().is_ok()
    })
}

/// Archives with each kind of header: ustar, GNU's long names, extended headers.
pub(super) fn archives() -> Result<Vec<Vec<u8>>, String> {
    let video = videos::small()?;
    let end = vec![0; 1024];
    let caption: &[u8] = br#"{"caption": "a cat"}"#;
    let plain = [entry("a.mp4", b'0', &video), entry("a.json", b'0', caption), entry("a.cls", b'0', b"0"), end.clone()].concat();
    let gnu = [entry("././@LongLink", b'L', b"folder/long name.mp4\0"), entry("x", b'0', &video), end.clone()].concat();
    let extended = b"22 path=long/name.mp4\n";
    let pax = [
        entry("p", b'x', extended),
        entry("x", b'0', &video),
        entry("folder/", b'5', b""),
        entry("name.txt", b'0', b"a dog"),
        end,
    ];
    Ok(vec![plain, gnu, pax.concat()])
}

/// A header and its content, padded to whole blocks.
fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&block, content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn manifest(path: &Path) -> bool {
    let named = ManifestOptions { path_column: Some("label".into()), ..ManifestOptions::default() };
    let _ = Dataset::from_manifest(path, &named);
    Dataset::from_manifest(path, &ManifestOptions::default()).is_ok_and(|(dataset, skipped)| {
        let _ = (skipped.summary(), dataset.fingerprint());
        true
    })
}

/// Tables with the delimiter `by`.
pub(super) fn manifests(by: &str) -> Vec<Vec<u8>> {
    let tables = [
        "path,caption,label\na.mp4,\"a cat, black\",cat\nb.mp4,a dog,dog\nb.mp4,\"two\nlines\",dog\n",
        "video,label\na.mp4,0\nb.mp4,1\nhttp://x/y.mp4,1\n",
        "videoid,name,page_dir\n1066674784,A cat,000001_000050\n1066674785,\"Quoted \"\"dog\"\"\",000001_000050\n",
    ];
    tables.map(|table| table.replace(',', by).into_bytes()).to_vec()
}

pub(super) fn json_lines() -> Vec<Vec<u8>> {
    let tables = [
        "{\"path\": \"a.mp4\", \"caption\": \"a cat\", \"label\": \"cat\"}\n{\"path\": \"b.mp4\", \"caption\": null, \"label\": 1}\n",
        "{\"file_name\": \"a.mp4\", \"text\": \"\\u00e9\\ud83d\\ude00\", \"class\": 0}\n\n{\"file_name\": \"b.mp4\", \"class\": 1, \"more\": [1, {}]}\n",
    ];
    tables.map(|table| table.as_bytes().to_vec()).to_vec()
}

pub(super) fn images(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    let classes = ["Biking".to_string(), "Diving".to_string()];
    let read = |layout: Layout, classes: &[String]| {
        ImageList::read(layout, path, folder, classes).is_ok_and(|list| {
            let last = list.len() - 1;
            let _ = (list.path(0), list.path(last), list.label(last));
            true
        })
    };
    let of_classes = read(Layout::Ucf101, &classes);
    read(Layout::FaceForensics, &[]) || of_classes
}

pub(super) fn image_lists() -> Vec<Vec<u8>> {
    let lists = ["a/v_Biking_g01_c01_0001.jpg\n\nb/v_Diving_g02_c01_0002.jpg\n", "x.png\r\n  y z.png  \n\u{e9}.jpg"];
    lists.map(|list| list.as_bytes().to_vec()).to_vec()
}

/// Reads an index, checks the data set, and reads again what it writes.
pub(super) fn index(path: &Path) -> bool {
    let Ok(index) = Index::read(path) else { return false };
    for (num_frames, rule) in [(16, FrameRule::Linspace), (usize::MAX / 2, FrameRule::OfficialStride)] {
        let window = ClipWindow { num_frames, frame_interval: 3, rule };
        let expected = Expected { window, transform: Transform::ResizeCrop, size: Some([256, 256]), num_classes: Some(2) };
        let _ = check(&index, &expected);
    }
    let folder = path.parent().unwrap_or(path);
    let location = Location::new(Layout::Folder, folder);
    let _ = (check_files(&index, &location), index.signatures());
    if let Ok(dataset) = index.dataset(&location) {
        for item in dataset.items.iter().take(4) {
            let _ = (item.place.shown(), matches!(item.place, MediaLocation::Path(_)));
        }
    }
    let again = path.with_file_name("again.jsonl");
    index.write(&again).is_ok() && Index::read(&again).is_ok_and(|read| read.entries.len() == index.entries.len())
}

/// The index of the test clips, and one of an archive.
pub(super) fn indices() -> Result<Vec<Vec<u8>>, String> {
    let options = ScanOptions { decoder: Decoder::BuiltIn, hash: true, last_frame: false, threads: 1 };
    let archive = std::env::temp_dir().join(format!("latte-fuzz-seed-{}.tar", std::process::id()));
    let first = archives()?.swap_remove(0);
    std::fs::write(&archive, first).map_err(|e| e.to_string())?;
    let of = |location: Location| {
        let found = scan(&location, &[], options, &mut latte_video::NoProgress).map_err(|e| e.to_string())?;
        written("index.jsonl", |path| found.index.write(path).map_err(|e| e.to_string()))
    };
    let indices = [Location::new(Layout::Folder, repository("testdata/clips")), Location::new(Layout::Shards, &archive)].map(of);
    // A failure to remove it only takes disk space.
    let _ = std::fs::remove_file(&archive);
    indices.into_iter().collect()
}
