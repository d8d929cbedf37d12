//! Threads that decode ahead, with an order that no thread can change.
//!
//! The endless sequence of clips is fixed by the seed alone: epoch `e` visits every file once, in an order drawn from
//! (seed, e), and what is drawn for a clip (its window, its flip) comes from (seed, e, place in the epoch). Threads take
//! places from that sequence and the results are handed out in its order, so neither the number of threads nor their timing
//! reaches the numbers, and a position is all that a checkpoint needs to resume exactly.
//!
//! Every place gives one clip: a file that cannot be read is replaced by another one, which (seed, e, place in the epoch) decides
//! too. So the position after `n` clips is `n` places further on, whatever the files are.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use latte_model::noise::TorchRng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One training clip, and the single images that are trained on beside it (joint training, §3.4 of the paper).
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedClip {
    /// The frames of the clip, and behind them the images.
    pub frames: ClipFrames,
    /// Its class; absent in a data set without classes.
    pub label: Option<u32>,
    /// What the data set says about the video, in words; absent where it says nothing.
    pub caption: Option<String>,
    /// The class of each image; empty without images or classes.
    pub image_labels: Vec<u32>,
}

/// Frames and images as they are stored, row-major; as many values for each.
#[derive(Debug, Clone, PartialEq)]
pub enum ClipFrames {
    /// `[f + images, 3, h, w]` in `[-1, 1]`.
    Pixels(Vec<f32>),
    /// `[f + images, m, h, w]`: what a frozen encoder says of each (see [`latte_model::vae::LatentSpace`]).
    Moments(Vec<f32>),
}

impl ClipFrames {
    /// What is stored.
    pub fn values(&self) -> &Vec<f32> {
        let (Self::Pixels(values) | Self::Moments(values)) = self;
        values
    }

    /// What is stored, to add to.
    pub fn values_mut(&mut self) -> &mut Vec<f32> {
        let (Self::Pixels(values) | Self::Moments(values)) = self;
        values
    }
}

/// Where clips come from: numbered files, each loaded as often as asked with what `rng` draws.
///
/// The result must depend on `file` and `rng` alone.
pub trait ClipSource: Send + Sync {
    /// How many files there are; at least one.
    fn num_files(&self) -> usize;

    /// A clip of file number `file`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and says why it gives no clip.
    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String>;

    /// About how many bytes of file number `file` the source would keep in memory once it has been loaded, if it keeps any and
    /// there is room (`data.cache_mib`).
    fn bytes_kept(&self, file: usize) -> u64 {
        let _ = file;
        0
    }

    /// Adds the single images of joint training that belong to the clip at `place` to `clip`, which [`load`](Self::load) has
    /// given; `rng` has drawn for the clip. Says which images could not be read, and were replaced by others. A source without
    /// images does nothing.
    ///
    /// The result must depend on the arguments alone.
    ///
    /// # Errors
    ///
    /// If images cannot be read, and others cannot either.
    fn add_images(
        &self,
        _place: EpochPlace<'_>,
        _clip: &mut LoadedClip,
        _rng: &mut TorchRng,
    ) -> std::result::Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// A clip's place among all, for what does not depend on which file it comes from.
#[derive(Debug, Clone, Copy)]
pub struct EpochPlace<'a> {
    /// How many times every file has been visited before.
    pub epoch: u64,
    /// How many files of this epoch have been visited before.
    pub index: u64,
    /// The epoch's generator, before it has drawn anything. Its forks with the numbers of clips are taken.
    pub rng: &'a TorchRng,
}

/// A place in the sequence of clips: the next one to hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// How many times every file has been visited.
    pub epoch: u64,
    /// How many files of this epoch have been visited.
    pub index: u64,
}

/// Hands out clips in order while threads decode the next ones.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The ticket of the next clip to hand out.
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
    /// How many clips may be decoded or under way beyond the next one to hand out.
    ahead: u64,
    queue: Mutex<Queue>,
    /// Something in `queue` has changed.
    changed: Condvar,
}

/// A clip, and which files and images could not be read on the way to it; or why the last of all files gives none.
type Loaded = std::result::Result<(LoadedClip, Vec<String>), String>;

struct Queue {
    /// The ticket that the next free thread takes. Ticket = epoch · files + index.
    free: u64,
    /// The ticket that is handed out next.
    wanted: u64,
    ready: BTreeMap<u64, Loaded>,
    /// The order of the epochs that threads are working on.
    orders: BTreeMap<u64, Arc<Vec<usize>>>,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread cannot panic while it holds the lock: decoding happens outside, under `catch_unwind`.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loader {
    /// Starts `threads` threads (at least one) that keep up to `ahead` clips ready, from `position` on.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
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
                .map_err(|e| Error::data("loader", format!("no thread to decode on: {e}; lower `data.loader_threads`")))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// Where the next clip comes from.
    pub fn position(&self) -> Position {
        Position { epoch: self.next / self.num_files, index: self.next % self.num_files }
    }

    /// How many different messages about unreadable files there have been.
    pub fn num_failed(&self) -> usize {
        self.failed.len()
    }

    /// The next `count` clips. `warn` gets each different message about what could not be read once.
    ///
    /// # Errors
    ///
    /// If no file gives a clip.
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
            // It cannot have panicked (see `Shared::lock`), and a drop could do nothing about it.
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

/// The clip at `place`: of `file`, or of another one in its place.
fn load(shared: &Shared, place: EpochPlace<'_>, file: usize) -> Loaded {
    let rng = place.rng.fork(place.index);
    let mut unread = match try_file(shared, place, file, rng.clone()) {
        Ok(loaded) => return Ok(loaded),
        Err(message) => vec![message],
    };
    // All other files, in an order of this place alone.
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

/// A clip of `file` for `place`, with what `rng` draws.
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

    /// Clips that say which file they are and what was drawn for them; some files fail, and each takes another time.
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
    fn a_position_is_enough_to_go_on_exactly() {
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
        // Places draw their replacements for themselves.
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
        // One handed out, five ahead.
        assert_eq!(loads.load(Ordering::SeqCst), 6);
    }
}
