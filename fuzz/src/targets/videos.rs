//! Videos, images, and frame folders.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use latte_video::dataset::Layout;
use latte_video::{Clip, ClipWindow, Decoder, FrameRule, Video, read_image};

use super::{file, repository, written};

/// Only the first of larger frames is decoded: a few bytes can request frames of any size, and time is limited.
const LARGE: usize = 1 << 20;

/// Decodes the first frame, two in the middle, and the last; each needs a seek to a key frame.
pub(super) fn read(path: &Path) -> bool {
    let Ok(video) = Video::open(path, Decoder::BuiltIn) else { return false };
    let info = video.info();
    if info.width * info.height > LARGE {
        return video.frames(&[0]).is_ok();
    }
    let frames = info.num_frames;
    let middle = frames / 2;
    let wanted: [&[usize]; 3] = [&[0], &[middle, (middle + 2).min(frames - 1)], &[frames - 1]];
    wanted.iter().all(|indices| video.frames(indices).is_ok())
}

pub(super) fn image(path: &Path) -> bool {
    read_image(path).is_ok()
}

/// Images of two sizes that this program writes.
pub(super) fn jpegs() -> Result<Vec<Vec<u8>>, String> {
    let image = |[height, width]: [usize; 2]| {
        let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * i / 7 % 256) as u8).collect();
        written("image.jpg", |path| latte_video::encode::write_jpeg(path, &pixels, width, height, 80).map_err(|e| e.to_string()))
    };
    Ok(vec![image([16, 24])?, image([9, 7])?])
}

/// The file lists the names of the frames of a folder, one per line: the frames are created, then the folder is listed and read.
pub(super) fn frame_names(path: &Path) -> bool {
    const MAX_NAMES: usize = 40;
    let (Ok(text), Some(parent)) = (std::fs::read(path), path.parent()) else { return false };
    let (root, picture) = (parent.join("root"), parent.join("picture.png"));
    let folder = root.join("video");
    // Remove the files of the previous input.
    let _ = std::fs::remove_dir_all(&root);
    if std::fs::create_dir_all(&folder).is_err() || !(picture.exists() || write_picture(&picture)) {
        return false;
    }
    for name in text.split(|byte| *byte == b'\n').take(MAX_NAMES) {
        // Names that the system refuses cannot occur in a real folder.
        let _ = std::fs::hard_link(&picture, folder.join(OsStr::from_bytes(&name[..name.len().min(255)])));
    }
    for layout in [Layout::Folder, Layout::SkyTimelapse, Layout::TaichiHd, Layout::FaceForensics] {
        if let Ok(mut dataset) = layout.list(&root) {
            let window = ClipWindow { num_frames: 2, frame_interval: 1, rule: FrameRule::OfficialStride };
            let _ = layout.fit(&mut dataset, &window);
        }
    }
    Video::open(&folder, Decoder::BuiltIn).is_ok_and(|video| {
        let last = video.info().num_frames - 1;
        video.frames(&[0, last]).is_ok()
    })
}

fn write_picture(path: &Path) -> bool {
    let clip = Clip::new(vec![128; 4 * 4 * 3], [1, 4, 4, 3], 8.0);
    clip.is_ok_and(|clip| latte_video::encode::write_png(path, clip.pixels(), 4, 4).is_ok())
}

pub(super) fn names() -> Vec<Vec<u8>> {
    let lines = [
        "frame_1.png\nframe_2.png\nframe_10.png\n",
        "00000.png\n00001.png\n00002.jpg\n.hidden.png\nreadme.txt\n",
        "a-1.PNG\nb_2.png\n3.png\nx.png\n\u{e9}_04.png\n12_b.png\n",
        "v_Biking_g01_c01_0001.png\nv_Biking_g01_c01_0002.png\n",
    ];
    lines.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(super) const NAMES: &[&str] = &[
    ".png",
    ".jpg",
    ".jpeg",
    "_",
    "-",
    "000000001",
    "340282366920938463463374607431768211456",
    "\u{664}",
    "frame",
    "+3",
    "..png",
];

/// A small video for archives.
pub(super) fn small() -> Result<Vec<u8>, String> {
    file(&repository("testdata/clips/h264_cropped.mp4"))
}
