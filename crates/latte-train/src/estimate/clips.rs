//! The cost of loading a clip: decoding, resizing, encoding, and the memory of cached and ready clips.

use std::sync::Arc;
use std::time::Instant;

use super::MemoryMeter;
use crate::config::TrainConfig;
use crate::data::loader::{ClipSource, EpochPlace, LoadedClip, Loader, Position};
use crate::error::Result;
use latte_model::noise::TorchRng;

/// Loading stops after this many seconds.
const ENOUGH_S: f64 = 3.0;
const ENOUGH_CLIPS: usize = 8;

/// The cost of one clip.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClipCost {
    /// The number of clips that were loaded for the measurement.
    pub(super) loaded: usize,
    /// When a video is loaded for the first time.
    cold: Seconds,
    /// When it is loaded again, if the source caches videos.
    warm: Seconds,
    /// The share of the videos that fit into the cache.
    kept_share: f64,
    /// Bytes of all cached videos.
    kept: f64,
    /// Bytes of the videos that were cached during the measurement; they are counted elsewhere.
    kept_already: f64,
    /// Bytes of one ready clip.
    ready: f64,
    /// Further bytes while a clip is being loaded.
    on_the_way: f64,
    num_files: usize,
}

/// A duration.
#[derive(Debug, Clone, Copy, Default)]
struct Seconds {
    by_the_clock: f64,
    /// Processor time, summed over all cores.
    of_processors: f64,
}

/// A source that two loaders can share.
struct Borrowed(Arc<dyn ClipSource>);

impl ClipSource for Borrowed {
    fn num_files(&self) -> usize {
        self.0.num_files()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
        self.0.load(file, rng)
    }

    fn bytes_kept(&self, file: usize) -> u64 {
        self.0.bytes_kept(file)
    }

    fn add_images(
        &self,
        place: EpochPlace<'_>,
        clip: &mut LoadedClip,
        rng: &mut TorchRng,
    ) -> std::result::Result<Vec<String>, String> {
        self.0.add_images(place, clip, rng)
    }
}

impl ClipCost {
    /// Loads some clips of the run's first epoch twice.
    pub(super) fn measure(source: &Arc<dyn ClipSource>, config: &TrainConfig, meter: &dyn MemoryMeter) -> Result<Self> {
        let num_files = source.num_files();
        let loader = || Loader::new(Box::new(Borrowed(Arc::clone(source))), config.train.seed, Position::default(), 1, 1);
        meter.begin();
        let before = meter.most_held();
        let (cold, count, ready) = time(&mut loader()?, ENOUGH_CLIPS.min(num_files))?;
        let taken = meter.most_held().saturating_sub(before) as f64;
        // The bytes that the source would cache for each video, estimated from those that were loaded.
        let bytes: Vec<u64> =
            (0..num_files).step_by(num_files.div_ceil(ENOUGH_CLIPS).max(1)).map(|file| source.bytes_kept(file)).collect();
        let mean = bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64;
        let budget = (config.data.cache_mib as f64) * f64::from(1 << 20);
        let all = mean * num_files as f64;
        let kept_share = if all > 0.0 { (budget / all).min(1.0) } else { 0.0 };
        let kept_already = (mean * count as f64).min(budget);
        let warm = if kept_share > 0.0 { time(&mut loader()?, count)?.0 } else { cold };
        let on_the_way = (taken - kept_already - 2.0 * ready).max(ready);
        Ok(Self { loaded: count, cold, warm, kept_share, kept: all.min(budget), kept_already, ready, on_the_way, num_files })
    }

    /// The seconds that loading adds to a step that takes `busy_s` without it, averaged over the run.
    pub(super) fn added_to_a_step(&self, config: &TrainConfig, busy_s: f64) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let (threads, clips) =
            (config.data.loader_threads as f64, (config.train.batch_size * config.train.gradient_accumulation_steps) as f64);
        let added = |of_clip: Seconds| {
            // Loading runs in parallel with the step on the same processors, and a step cannot start before its clips are ready.
            let shared = busy_s + clips * of_clip.of_processors / cores;
            shared.max(clips * of_clip.by_the_clock / threads) - busy_s
        };
        let total = clips * config.train.max_steps as f64;
        let first_time = (self.num_files as f64).min(total);
        let cold_share = (first_time + (1.0 - self.kept_share) * (total - first_time)) / total;
        cold_share * added(self.cold) + (1.0 - cold_share) * added(self.warm)
    }

    /// The bytes of clips during the run, beyond those that were there during the measurement.
    pub(super) fn memory(&self, config: &TrainConfig) -> u64 {
        let (ahead, threads) = (config.data.prefetch as f64, config.data.loader_threads as f64);
        // Ready clips, those of the current step, and those that threads work on.
        let step = (config.train.batch_size * config.train.gradient_accumulation_steps) as f64;
        ((self.kept - self.kept_already).max(0.0) + (ahead + step) * self.ready + threads * self.on_the_way) as u64
    }
}

/// Takes up to `most` clips; returns the seconds per clip, the number of clips, and the bytes of one.
fn time(loader: &mut Loader, most: usize) -> Result<(Seconds, usize, f64)> {
    let (started, processors) = (Instant::now(), processor_seconds());
    let (mut count, mut bytes) = (0, 0);
    while count == 0 || count < most && started.elapsed().as_secs_f64() < ENOUGH_S {
        for clip in loader.next_clips(1, &mut |_| {})? {
            bytes = size_of_val(clip.frames.values());
        }
        count += 1;
    }
    let by_the_clock = started.elapsed().as_secs_f64() / count as f64;
    let of_processors = match (processors, processor_seconds()) {
        // The loader is one clip ahead.
        (Some(before), Some(after)) => (after - before) / (count + 1) as f64,
        _ => by_the_clock,
    };
    Ok((Seconds { by_the_clock, of_processors }, count, bytes as f64))
}

/// The processor time of all threads of this process, from Linux.
fn processor_seconds() -> Option<f64> {
    /// Linux counts in hundredths of a second on every architecture.
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may contain spaces; user and system time are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cold: [f64; 2], warm: [f64; 2], kept_share: f64, num_files: usize) -> ClipCost {
        let seconds = |[by_the_clock, of_processors]: [f64; 2]| Seconds { by_the_clock, of_processors };
        ClipCost {
            loaded: 1,
            cold: seconds(cold),
            warm: seconds(warm),
            kept_share,
            kept: 1000.0,
            kept_already: 100.0,
            ready: 10.0,
            on_the_way: 5.0,
            num_files,
        }
    }

    fn config(overrides: &[&str]) -> TrainConfig {
        let text = "[model]\npreset = \"S/2\"\n[data]\npath = \"x\"\nsize = 64\n[train]\nmax_steps = 10\nbatch_size = 4\n[output]\nrun = \"y\"\n";
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        TrainConfig::from_toml(text, "x.toml", &overrides).unwrap()
    }

    #[test]
    fn loading_costs_processors_or_the_wait_for_it() {
        let config = config(&["data.loader_threads=2"]);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // 4 clips of 3 s on 2 threads take 6 s, and the network only 1 s.
        near(cost([3.0, 0.0], [0.0, 0.0], 0.0, 1000).added_to_a_step(&config, 1.0), 5.0);
        // The network does not wait, but shares its processors.
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        near(cost([0.1, 0.5], [0.0, 0.0], 0.0, 1000).added_to_a_step(&config, 10.0), 2.0 / cores);
        // 10 of 40 clips are loaded for the first time, and half of the rest again.
        near(cost([3.0, 0.0], [0.0, 0.0], 0.5, 10).added_to_a_step(&config, 1.0), (10.0 + 15.0) / 40.0 * 5.0);
    }

    #[test]
    fn the_memory_of_clips_is_that_of_kept_and_ready_ones() {
        let config = config(&["data.loader_threads=2", "data.prefetch=3", "train.gradient_accumulation_steps=2"]);
        assert_eq!(cost([0.0; 2], [0.0; 2], 1.0, 1).memory(&config), 900 + (3 + 8) * 10 + 2 * 5);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_how_long_this_process_has_worked() {
        let before = processor_seconds().unwrap();
        assert!(before >= 0.0 && processor_seconds().unwrap() >= before);
    }
}
