//! A tiny data set of real mp4 files.

use std::path::Path;

use latte_video::{Clip, encode};

/// Writes two classes of three clips each: a bright square that moves right, and one that moves down. 12 frames of 24 × 24.
pub(crate) fn write_videos(root: &Path) {
    for (class, [dx, dy]) in [("right", [1, 0]), ("down", [0, 1])] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..3 {
            let mut pixels = vec![20_u8; 12 * 24 * 24 * 3];
            for frame in 0..12 {
                let (x0, y0) = (number * 2 + frame * dx, 3 + number + frame * dy);
                for y in y0..y0 + 6 {
                    for x in x0..x0 + 6 {
                        let at = ((frame * 24 + y % 24) * 24 + x % 24) * 3;
                        pixels[at..at + 3].copy_from_slice(&[230, 180, 60 * number as u8]);
                    }
                }
            }
            let clip = Clip::new(pixels, [12, 24, 24, 3], 8.0).unwrap();
            encode::write_mp4(folder.join(format!("{number}.mp4")), &clip, &encode::Mp4Options::default()).unwrap();
        }
    }
}
