//! A cache of whole videos after the transform, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The frames of one video after the transform, each `[3, h, w]`.
pub(super) type Frames = Vec<Vec<f32>>;

/// A video, and whether it is mirrored: the transform of a mirrored video is not the mirrored result of the transform.
pub(super) type Key = (usize, bool);

/// A cache of whole videos after the transform. It changes the speed only, never a clip.
#[derive(Debug)]
pub(super) struct FrameCache {
    budget: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// `None`: a thread that is decoding it has reserved it, or it cannot be decoded completely.
    frames: BTreeMap<Key, Option<Arc<Frames>>>,
}

impl FrameCache {
    /// A cache of up to `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, held: Mutex::default() }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<Frames>> {
        self.lock().frames.get(&key)?.clone()
    }

    /// The number of frames of a cached video, mirrored or not.
    pub(super) fn num_frames(&self, video: usize) -> Option<usize> {
        [false, true].iter().find_map(|&flip| self.get((video, flip))).map(|frames| frames.len())
    }

    /// Whether the caller should decode the whole video and then [`put`](Self::put) or [`release`](Self::release) it.
    pub(super) fn reserve(&self, key: Key, bytes: usize) -> bool {
        let mut held = self.lock();
        if held.bytes + bytes > self.budget || held.frames.contains_key(&key) {
            return false;
        }
        held.bytes += bytes;
        held.frames.insert(key, None);
        true
    }

    /// Releases the bytes reserved for a video that cannot be decoded completely; it is not reserved again.
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
