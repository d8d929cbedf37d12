//! Whole videos after the transform, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The frames of one video after the transform, each `[3, h, w]`.
pub(super) type Frames = Vec<Vec<f32>>;

/// A video, and whether it is mirrored: a mirrored video is not the mirror image of what the transform makes of it.
pub(super) type Key = (usize, bool);

/// Whole videos after the transform, while they fit. Changes how long a clip takes, never what it is.
#[derive(Debug)]
pub(super) struct FrameCache {
    budget: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// `None`: reserved by a thread that is decoding it, or found not to decode as a whole.
    frames: BTreeMap<Key, Option<Arc<Frames>>>,
}

impl FrameCache {
    /// Holds up to `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, held: Mutex::default() }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<Frames>> {
        self.lock().frames.get(&key)?.clone()
    }

    /// How many frames a video has that is held, mirrored or not.
    pub(super) fn num_frames(&self, video: usize) -> Option<usize> {
        [false, true].iter().find_map(|&flip| self.get((video, flip))).map(|frames| frames.len())
    }

    /// Whether the caller should decode the whole video and [`put`](Self::put) it, or else [`release`](Self::release) it.
    pub(super) fn reserve(&self, key: Key, bytes: usize) -> bool {
        let mut held = self.lock();
        if held.bytes + bytes > self.budget || held.frames.contains_key(&key) {
            return false;
        }
        held.bytes += bytes;
        held.frames.insert(key, None);
        true
    }

    /// Gives back what was reserved for a video that does not decode as a whole; it is not tried as a whole again.
    pub(super) fn release(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    pub(super) fn put(&self, key: Key, frames: Arc<Frames>) {
        self.lock().frames.insert(key, Some(frames));
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
