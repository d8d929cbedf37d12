//! mp4 files of generated clips.

use std::path::Path;

use latte_video::Clip;
use latte_video::encode::{self, Mp4Options};

use crate::terminal::note;

/// Writes a clip as mp4, and says where it had to be compressed more than usual.
///
/// # Errors
///
/// As [`encode::write_mp4`].
pub(crate) fn write(path: &Path, clip: &Clip) -> anyhow::Result<()> {
    if let Some(quantiser) = encode::write_mp4(path, clip, &Mp4Options::default())? {
        let usual = Mp4Options::default().quantiser;
        note(&format!(
            "{}: compressed more than usual (quantiser {quantiser} instead of {usual}), because noise takes more bits than the encoder \
             has room for; gif and png frames are not compressed like that",
            path.display()
        ));
    }
    Ok(())
}
