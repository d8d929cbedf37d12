//! Selects the frames of a clip, and whether it is mirrored.

use latte_model::noise::TorchRng;
use latte_video::ClipWindow;

/// How a clip is drawn from a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRule {
    /// The frames of a clip, from its start.
    pub window: ClipWindow,
    /// Whether clips are mirrored with probability 1/2.
    pub flip: bool,
}

/// The draws for a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The frames, ascending.
    pub indices: Vec<usize>,
    /// Whether left and right are exchanged.
    pub flip: bool,
}

impl WindowRule {
    /// Draws a clip of a video of `total_frames` frames: its start and then, only if `flip` is set, whether it is mirrored.
    ///
    /// # Errors
    ///
    /// If the video is too short; the message does not name it.
    pub fn draw(&self, total_frames: usize, rng: &mut TorchRng) -> Result<Window, String> {
        // A video that is too short has no start; `indices` returns the error.
        let starts = self.window.num_starts(total_frames).max(1) as i64;
        let start = rng.randint(0, starts, 1).map_err(|e| e.to_string())?[0] as usize;
        let indices = self.window.indices(total_frames, start).map_err(|e| e.to_string())?;
        Ok(Window { indices, flip: self.draw_flip(rng) })
    }

    /// Whether to mirror; it draws only if `flip` is set.
    pub fn draw_flip(&self, rng: &mut TorchRng) -> bool {
        self.flip && rng.rand_f32(1)[0] < 0.5
    }
}
