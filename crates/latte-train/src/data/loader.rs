//! Threads that decode ahead, without any effect on the order of clips.
//!
//! The seed alone fixes the endless sequence of clips: epoch `e` visits every file once, in an order drawn from (seed, e), and the
//! draws for a clip (its window, its flip) come from (seed, e, index in the epoch). Threads take indices from this sequence, and
//! the results are returned in its order. So neither the number of threads nor their timing changes the results, and a position is
//! enough for a checkpoint to resume exactly.
//!
//! Every index gives one clip: a file that cannot be read is replaced by another one, which (seed, e, index in the epoch) decides
//! too. So `n` clips advance the position by `n`, whichever files cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use latte_model::noise::TorchRng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A training clip, with the single images of joint training (§3.4 of the paper).
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedClip {
    /// The frames of the clip, followed by the images.
    pub frames: ClipFrames,
    /// Its class; absent in a data set without classes.
    pub label: Option<u32>,
    /// The caption of the video; absent if the data set has none.
    pub caption: Option<String>,
    /// The class of each image; empty without images or classes.
    pub image_labels: Vec<u32>,
}

/// The stored values of frames and images, row-major; each has the same number of values.
#[derive(Debug, Clone, PartialEq)]
pub enum ClipFrames {
    /// `[f + images, 3, h, w]` in `[-1, 1]`.
    Pixels(Vec<f32>),
    /// `[f + images, m, h, w]`: the output of a frozen encoder for each (see [`latte_model::vae::LatentSpace`]).
    Moments(Vec<f32>),
}

impl ClipFrames {
    /// The values.
    pub fn values(&self) -> &Vec<f32> {
        let (Self::Pixels(values) | Self::Moments(values)) = self;
        values
    }

    /// The values, to append to.
    pub fn values_mut(&mut self) -> &mut Vec<f32> {
        let (Self::Pixels(values) | Self::Moments(values)) = self;
        values
    }
}

/// A source of clips: numbered files. Each can be loaded any number of times, with draws from `rng`.
///
/// The result must depend on `file` and `rng` alone.
pub trait ClipSource: Send + Sync {
    /// The number of files, at least one.
    fn num_files(&self) -> usize;

    /// A clip of file number `file`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and says why it cannot be loaded.
    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String>;

    /// An estimate of the bytes that the source keeps in memory for file number `file` after it was loaded, if it keeps any and
    /// there is room (`data.cache_mib`).
    fn bytes_kept(&self, file: usize) -> u64 {
        let _ = file;
        0
    }

    /// Adds the single images of joint training for `place` to `clip`, the result of [`load`](Self::load); `rng` has drawn for the
    /// clip. Returns the images that could not be read and were replaced. A source without images does nothing.
    ///
    /// The result must depend on the arguments alone.
    ///
    /// # Errors
    ///
    /// If images cannot be read, and their replacements cannot either.
    fn add_images(
        &self,
        _place: EpochPlace<'_>,
        _clip: &mut LoadedClip,
        _rng: &mut TorchRng,
    ) -> std::result::Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// The place of a clip in the sequence, for draws that do not depend on its file.
#[derive(Debug, Clone, Copy)]
pub struct EpochPlace<'a> {
    /// The number of completed epochs.
    pub epoch: u64,
    /// The number of files of this epoch that were visited before.
    pub index: u64,
    /// The epoch's generator, before any draw. Its forks with the numbers of clips are in use.
    pub rng: &'a TorchRng,
}

/// A position in the sequence of clips: that of the next clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The number of completed epochs.
    pub epoch: u64,
    /// The number of files of this epoch that were visited.
    pub index: u64,
}

/// Returns clips in order while threads decode the next ones.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The ticket of the next clip to return.
    next: u64,
    num_files: u64,
    failed: BTreeSet<String>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("position", &self.position()).field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

struct Shared {
    source: Box<dyn ClipSource>,
    rng: TorchRng,
    /// The largest number of clips beyond the next one that may be decoded or in progress.
    ahead: u64,
    queue: Mutex<Queue>,
    /// Signals a change of `queue`.
    changed: Condvar,
}

/// A clip with messages about files and images that could not be read; or the error of the last file, if none can be read.
type Loaded = std::result::Result<(LoadedClip, Vec<String>), String>;

struct Queue {
    /// The ticket that the next free thread takes. Ticket = epoch · files + index.
    free: u64,
    /// The ticket that is returned next.
    wanted: u64,
    ready: BTreeMap<u64, Loaded>,
    /// The orders of the epochs that threads work on.
    orders: BTreeMap<u64, Arc<Vec<usize>>>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread cannot panic while it holds the lock: it decodes without the lock, and under `catch_unwind`.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loader {
    /// Starts `threads` threads (at least one) that keep up to `ahead` clips ready, beginning at `position`.
    ///
    /// # Errors
    ///
    /// If the system cannot start a thread.
    pub fn new(source: Box<dyn ClipSource>, seed: u64, position: Position, threads: usize, ahead: usize) -> Result<Self> {
        let num_files = source.num_files().max(1) as u64;
        let next = position.epoch * num_files + position.index.min(num_files);
        let shared = Arc::new(Shared {
            source,
            rng: TorchRng::new(seed).fork(LOADER_STREAM),
            ahead: ahead.max(1) as u64,
            queue: Mutex::new(Queue { free: next, wanted: next, ready: BTreeMap::new(), orders: BTreeMap::new(), stop: false }),
            changed: Condvar::new(),
        });
        let mut loader = Self { shared, threads: Vec::new(), next, num_files, failed: BTreeSet::new() };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || decode_ahead(&shared, num_files))
                .map_err(|e| {
                    Error::data("loader", format!("cannot start a decoding thread: {e}; lower `data.loader_threads`"))
                })?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The position of the next clip.
    pub fn position(&self) -> Position {
        Position { epoch: self.next / self.num_files, index: self.next % self.num_files }
    }

    /// The number of different messages about unreadable files so far.
    pub fn num_failed(&self) -> usize {
        self.failed.len()
    }

    /// The next `count` clips. `warn` receives each different message about unreadable files once.
    ///
    /// # Errors
    ///
    /// If no file can be loaded.
    pub fn next_clips(&mut self, count: usize, warn: &mut dyn FnMut(&str)) -> Result<Vec<LoadedClip>> {
        let mut clips = Vec::with_capacity(count);
        for _ in 0..count {
            let (clip, unread) = self.take().map_err(|last| {
                let what = format!("none of the {} files gives a clip; the last one: {last}", self.num_files);
                Error::data("data.path", what)
            })?;
            clips.push(clip);
            for message in unread {
                self.warn_once(message, warn);
            }
        }
        Ok(clips)
    }

    fn warn_once(&mut self, message: String, warn: &mut dyn FnMut(&str)) {
        if !self.failed.contains(&message) {
            warn(&message);
            self.failed.insert(message);
        }
    }

    fn take(&mut self) -> Loaded {
        let mut queue = self.shared.lock();
        let result = loop {
            if let Some(result) = queue.ready.remove(&self.next) {
                break result;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        self.next += 1;
        queue.wanted = self.next;
        let epoch = self.next / self.num_files;
        queue.orders.retain(|&e, _| e >= epoch);
        drop(queue);
        self.shared.changed.notify_all();
        result
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic is impossible (see `Shared::lock`), and a drop could not report it.
            let _ = thread.join();
        }
    }
}

/// The stream of the run's generator that the loader forks from; the trainer uses others.
const LOADER_STREAM: u64 = 2;

fn decode_ahead(shared: &Shared, num_files: u64) {
    loop {
        let mut queue = shared.lock();
        while !queue.stop && queue.free >= queue.wanted + shared.ahead {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.stop {
            return;
        }
        let ticket = queue.free;
        queue.free += 1;
        let (epoch, index) = (ticket / num_files, ticket % num_files);
        let epoch_rng = shared.rng.fork(epoch);
        let order =
            Arc::clone(queue.orders.entry(epoch).or_insert_with(|| Arc::new(epoch_rng.clone().randperm(num_files as usize))));
        drop(queue);

        let place = EpochPlace { epoch, index, rng: &epoch_rng };
        let result = load(shared, place, order[index as usize]);
        shared.lock().ready.insert(ticket, result);
        shared.changed.notify_all();
    }
}

/// The clip at `place`: of `file`, or of a replacement.
fn load(shared: &Shared, place: EpochPlace<'_>, file: usize) -> Loaded {
    let rng = place.rng.fork(place.index);
    let mut unread = match try_file(shared, place, file, rng.clone()) {
        Ok(loaded) => return Ok(loaded),
        Err(message) => vec![message],
    };
    // All other files, in an order that only this place decides.
    let others = rng.fork(0).randperm(shared.source.num_files()).into_iter().filter(|&other| other != file);
    for (attempt, other) in (1..).zip(others) {
        if shared.lock().stop {
            break;
        }
        match try_file(shared, place, other, rng.fork(attempt)) {
            Ok((clip, more)) => {
                unread.extend(more);
                return Ok((clip, unread));
            }
            Err(message) => unread.push(message),
        }
    }
    Err(unread.pop().unwrap_or_default())
}

/// A clip of `file` for `place`, with draws from `rng`.
fn try_file(shared: &Shared, place: EpochPlace<'_>, file: usize, mut rng: TorchRng) -> Loaded {
    let load = || {
        let mut clip = shared.source.load(file, &mut rng)?;
        let unread = shared.source.add_images(place, &mut clip, &mut rng)?;
        Ok((clip, unread))
    };
    catch_unwind(AssertUnwindSafe(load))
        .unwrap_or_else(|_| Err(format!("file number {file} of the data set: the decoder crashed; it is skipped")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Clips that encode their file and their draws; some files fail, and each takes a different time.
    struct Numbers {
        files: usize,
        bad: BTreeSet<usize>,
        sleep: bool,
        loads: Arc<AtomicUsize>,
    }

    impl ClipSource for Numbers {
        fn num_files(&self) -> usize {
            self.files
        }

        fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
            let load = self.loads.fetch_add(1, Ordering::SeqCst);
            if self.sleep {
                std::thread::sleep(Duration::from_micros((load * 7919 % 13) as u64 * 150));
            }
            if self.bad.contains(&file) {
                return Err(format!("{file} is bad"));
            }
            assert!(file != 1000, "a decoder that panics");
            let frames = ClipFrames::Pixels(vec![file as f32, rng.rand_f32(1)[0]]);
            Ok(LoadedClip { frames, label: Some(file as u32), caption: None, image_labels: Vec::new() })
        }
    }

    fn loader(files: usize, bad: &[usize], seed: u64, position: Position, threads: usize, sleep: bool) -> Loader {
        let source = Numbers { files, bad: bad.iter().copied().collect(), sleep, loads: Arc::default() };
        Loader::new(Box::new(source), seed, position, threads, 5).unwrap()
    }

    fn take(loader: &mut Loader, count: usize) -> Vec<LoadedClip> {
        loader.next_clips(count, &mut |_| {}).unwrap()
    }

    #[test]
    fn threads_and_their_timing_change_nothing() {
        let start = Position::default();
        let one = take(&mut loader(7, &[3], 11, start, 1, false), 40);
        let many = take(&mut loader(7, &[3], 11, start, 4, true), 40);
        assert_eq!(one, many);
        let other_seed = take(&mut loader(7, &[3], 12, start, 1, false), 40);
        assert_ne!(one, other_seed);
    }

    #[test]
    fn every_epoch_visits_every_file_once_in_another_order() {
        let mut loader = loader(9, &[], 1, Position::default(), 2, false);
        let mut epochs = Vec::new();
        for _ in 0..3 {
            let files: Vec<u32> = take(&mut loader, 9).iter().map(|c| c.label.unwrap()).collect();
            let mut sorted = files.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..9).collect::<Vec<u32>>());
            epochs.push(files);
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
    }

    #[test]
    fn a_position_is_enough_to_resume_exactly() {
        let mut straight = loader(7, &[3], 5, Position::default(), 3, true);
        let first = take(&mut straight, 17);
        let position = straight.position();
        let rest = take(&mut straight, 20);
        assert_eq!(take(&mut loader(7, &[3], 5, position, 2, false), 20), rest);
        assert_ne!(first[..10], rest[..10]);
    }

    #[test]
    fn every_place_gives_one_clip_whatever_the_files_are() {
        let (mut sound, mut damaged) =
            (loader(7, &[], 5, Position::default(), 2, false), loader(7, &[1, 3], 5, Position::default(), 3, true));
        let (all, replaced) = (take(&mut sound, 40), take(&mut damaged, 40));
        assert_eq!(damaged.position(), Position { epoch: 5, index: 5 });
        assert_eq!(damaged.position(), sound.position());
        for (place, (clip, other)) in all.iter().zip(&replaced).enumerate() {
            let is_bad = clip.label == Some(1) || clip.label == Some(3);
            assert_eq!(clip == other, !is_bad, "place {place}");
            assert!(other.label != Some(1) && other.label != Some(3), "place {place}");
        }
        // Each place draws its own replacement.
        let files: BTreeSet<_> = all.iter().zip(&replaced).filter(|(a, b)| a != b).map(|(_, clip)| clip.label).collect();
        assert!(files.len() > 2, "{files:?}");
    }

    #[test]
    fn a_bad_file_is_skipped_and_warned_about_once() {
        let mut loader = loader(4, &[2], 0, Position::default(), 2, false);
        let mut warnings = Vec::new();
        let clips = loader.next_clips(12, &mut |w| warnings.push(w.to_string())).unwrap();
        assert!(clips.iter().all(|c| c.label != Some(2)));
        assert_eq!(warnings, ["2 is bad"]);
        assert_eq!(loader.num_failed(), 1);
    }

    #[test]
    fn only_bad_files_is_an_error() {
        let mut loader = loader(3, &[0, 1, 2], 0, Position::default(), 2, false);
        let e = loader.next_clips(1, &mut |_| {}).unwrap_err().to_string();
        assert!(e.contains("none of the 3 files gives a clip") && e.contains("is bad"), "{e}");
    }

    #[test]
    fn decoding_ahead_is_bounded() {
        let loads = Arc::new(AtomicUsize::new(0));
        let source = Numbers { files: 100, bad: BTreeSet::new(), sleep: false, loads: Arc::clone(&loads) };
        let mut loader = Loader::new(Box::new(source), 0, Position::default(), 3, 5).unwrap();
        take(&mut loader, 1);
        std::thread::sleep(Duration::from_millis(100));
        // One was returned, five are ahead.
        assert_eq!(loads.load(Ordering::SeqCst), 6);
    }
}
