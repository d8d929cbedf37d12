//! Finding videos in folders, and files that are not videos.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;

use latte_video::encode::{self, Mp4Options, SheetRow};
use latte_video::{Clip, Decoder, Error, Video, find_videos};

/// Frames with grey levels 10, 20, 30, …
fn levels(frames: usize, height: usize, width: usize) -> Clip {
    let pixels = (0..frames).flat_map(|f| vec![(10 * (f + 1)) as u8; height * width * 3]).collect();
    Clip::new(pixels, [frames, height, width, 3], 10.0).unwrap()
}

fn error(path: &Path) -> Error {
    Video::open(path, Decoder::BuiltIn).unwrap_err()
}

#[test]
fn a_file_that_is_not_a_video_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.mp4");
    fs::write(&text, "not a video at all").unwrap();
    assert!(matches!(error(&text), Error::NotVideo { .. }));
    let empty = dir.path().join("empty.mp4");
    fs::write(&empty, "").unwrap();
    assert!(matches!(error(&empty), Error::NotVideo { .. }));
    let head_only = dir.path().join("head.mp4");
    fs::write(&head_only, b"\0\0\0\x10ftypisom\0\0\0\0").unwrap();
    assert!(matches!(error(&head_only), Error::Damaged { .. }));
    assert!(matches!(error(&dir.path().join("missing.mp4")), Error::Io { .. }));
    for path in [&text, &empty] {
        // With ffmpeg installed it is still not a video; without ffmpeg, the error is the same as above.
        let said = Video::open(path, Decoder::Auto).unwrap_err().to_string();
        assert!(said.contains("not a video"), "{said}");
    }
}

#[test]
fn empty_folders_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(error(dir.path()), Error::Folder { .. }));
    let said = find_videos(dir.path()).unwrap_err().to_string();
    assert!(said.contains("no video") && said.contains("mp4"), "{said}");
    assert!(matches!(find_videos(dir.path().join("missing")).unwrap_err(), Error::Io { .. }));
}

#[test]
fn videos_are_found_sorted_at_any_depth() {
    let dir = tempfile::tempdir().unwrap();
    let path = |p: &str| dir.path().join(p);
    for sub in ["b/deep", "a/frames", "a/thumbnails", ".hidden"] {
        fs::create_dir_all(path(sub)).unwrap();
    }
    for file in ["b/deep/2.MP4", "b/1.avi", "b/notes.txt", "a/frames/0.png", "a/frames/1.png", ".hidden/x.mp4", "b/cover.jpg"] {
        fs::write(path(file), "").unwrap();
    }
    assert_eq!(find_videos(dir.path()).unwrap(), [path("a/frames"), path("b/1.avi"), path("b/deep/2.MP4")]);
}

#[cfg(unix)]
#[test]
fn links_to_a_parent_folder_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.mp4"), "").unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
    assert_eq!(find_videos(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_folder_of_frames_is_a_video() {
    let dir = tempfile::tempdir().unwrap();
    let frames = dir.path().join("frames");
    let clip = levels(12, 6, 5);
    encode::write_png_frames(&frames, &clip).unwrap();
    // Names of other programs: the order is numeric, not alphabetical.
    for i in 0..12 {
        fs::rename(frames.join(format!("{i:05}.png")), frames.join(format!("scene_3_{}.png", i + 1))).unwrap();
    }
    fs::write(frames.join("about.txt"), "").unwrap();
    let video = Video::open(&frames, Decoder::Auto).unwrap();
    assert_eq!((video.info().num_frames, video.info().width, video.info().height), (12, 5, 6));
    let back = video.frames(&[0, 1, 1, 11]).unwrap();
    let seen: Vec<u8> = (0..4).map(|i| back.frame(i)[0]).collect();
    assert_eq!(seen, [10, 20, 20, 120]);
    assert_eq!(video.pictures_decoded(), Some(3));
    assert_eq!(video.all().unwrap().pixels(), clip.pixels());
    assert!(encode::write_png_frames(&frames, &clip).is_err());

    encode::write_png(frames.join("scene_3_13.png"), &[0; 27], 3, 3).unwrap();
    let said = Video::open(&frames, Decoder::Auto).unwrap().all().unwrap_err().to_string();
    assert!(said.contains("scene_3_13.png") && said.contains("3 × 3") && said.contains("5 × 6"), "{said}");
    fs::write(frames.join("scene_3_13.png"), "broken").unwrap();
    assert!(matches!(Video::open(&frames, Decoder::Auto).unwrap().all().unwrap_err(), Error::Damaged { .. }));
}

#[test]
fn indices_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    encode::write_mp4(&path, &levels(5, 16, 16), &Mp4Options::default()).unwrap();
    for decoder in [Decoder::BuiltIn, Decoder::Auto] {
        let video = Video::open(&path, decoder).unwrap();
        let said = video.frames(&[2, 5]).unwrap_err().to_string();
        assert!(said.contains("frame 5") && said.contains("5 frames"), "{said}");
        assert!(video.frames(&[]).is_err());
        assert!(video.frames(&[3, 1]).is_err());
        let clip = video.frames(&[0, 0, 4]).unwrap();
        assert_eq!(clip.frame(0), clip.frame(1));
        let near = |value: u8, level: u8| value.abs_diff(level) <= 3;
        assert!(near(clip.frame(0)[0], 10) && near(clip.frame(2)[0], 50), "{} {}", clip.frame(0)[0], clip.frame(2)[0]);
    }
}

#[test]
fn odd_sizes_are_written_with_the_last_row_and_column_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.mp4");
    let clip = levels(3, 33, 21);
    encode::write_mp4(&path, &clip, &Mp4Options::default()).unwrap();
    let video = Video::open(&path, Decoder::BuiltIn).unwrap();
    assert_eq!((video.info().width, video.info().height, video.info().num_frames), (22, 34, 3));
    let back = video.all().unwrap();
    let values: std::collections::BTreeSet<u8> = back.frame(2).iter().copied().collect();
    // The levels of neighbouring frames are 10 apart.
    assert!(values.iter().all(|v| v.abs_diff(30) < 5), "{values:?}");
    let tiny = encode::write_mp4(dir.path().join("tiny.mp4"), &levels(2, 8, 8), &Mp4Options::default()).unwrap_err();
    assert!(tiny.to_string().contains("at least 16"), "{tiny}");
    // No partial or temporary file is left.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_gif_holds_every_frame_for_its_time_and_loops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    let clip = Clip::new(levels(7, 9, 11).pixels().to_vec(), [7, 9, 11, 3], 8.0).unwrap();
    encode::write_gif(&path, &clip).unwrap();
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut reader = options.read_info(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!((reader.width(), reader.height()), (11, 9));
    let mut delays = Vec::new();
    let mut index = 0;
    while let Some(frame) = reader.read_next_frame().unwrap() {
        delays.push(frame.delay);
        let expected = clip.frame(index)[0];
        assert!(frame.buffer.chunks(4).all(|p| p[..3].iter().all(|v| v.abs_diff(expected) <= 2)), "frame {index}");
        index += 1;
    }
    // An eighth of a second is 12.5 hundredths: the halves must add up.
    assert_eq!(delays.iter().map(|&d| u32::from(d)).sum::<u32>(), 88);
    assert_eq!(delays.len(), 7);
    assert!(matches!(reader.repeat(), gif::Repeat::Infinite));
}

#[test]
fn a_contact_sheet_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let clip = levels(5, 8, 8);
    let rows = [SheetRow { label: "one: 1.5%", clip: &clip }, SheetRow { label: "two", clip: &clip }];
    let sheet = encode::contact_sheet(&rows, 4, 16).unwrap();
    fs::create_dir(dir.path().join("sheet")).unwrap();
    sheet.write_png(dir.path().join("sheet/sheet.png")).unwrap();
    let back = Video::open(dir.path().join("sheet"), Decoder::Auto).unwrap().all().unwrap();
    assert_eq!(back.shape(), [1, sheet.height, sheet.width, 3]);
    assert_eq!(back.pixels(), sheet.pixels);
}
