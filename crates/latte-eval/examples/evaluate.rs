//! The Fréchet distance of two sets of clips: `cargo run --release -p latte-eval --example evaluate -- [DETECTOR]`.

use std::path::Path;

use latte_eval::clips::{ClipList, ClipsInMemory};
use latte_eval::compare::compare;
use latte_eval::detector::{Setup, import, random_i3d};
use latte_eval::protocol::{Protocol, Task};
use latte_eval::score::ScoreOptions;
use latte_eval::{NoProgress, Result};
use latte_video::Clip;

/// Clips of 10 frames of 32 × 32: a horizontal gradient that moves; `shades` sets its brightness.
fn clips(name: &str, shades: std::ops::Range<usize>) -> Result<ClipsInMemory> {
    let clip = |shade: usize| {
        let value = |at: usize| ((at / 3 % 32 + at / (3 * 32 * 32)) * shade % 256) as u8;
        Clip::new((0..10 * 32 * 32 * 3).map(value).collect(), [10, 32, 32, 3], 8.0)
    };
    ClipsInMemory::new(name, shades.map(clip).collect::<latte_video::Result<_>>()?)
}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<()> {
    // The published I3D, or without a file a random network, whose distances can only be compared with each other.
    let detector = match std::env::args().nth(1) {
        Some(path) => import(Path::new(&path), None)?.build(Setup::default())?,
        None => random_i3d(0, Setup::default())?,
    };
    let protocol = Protocol::named("styleganv", Task::Fvd, Some(1))?.changed(|protocol| protocol.frames = 10);
    let (real, like, unlike) = (clips("real", 3..7)?, clips("like", 4..8)?, clips("unlike", 40..44)?);
    let options = ScoreOptions { allow_few: true, ..ScoreOptions::default() };
    let fvd = |fake: &dyn ClipList| compare(&protocol, detector.as_ref(), Some(&real), fake, &options, &mut NoProgress);
    println!("FVD of similar clips: {:.2}; of different clips: {:.2}", fvd(&like)?.value, fvd(&unlike)?.value);
    Ok(())
}
