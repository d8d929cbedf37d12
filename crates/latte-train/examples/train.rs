//! Trains a tiny model: `cargo run --release -p latte-train --example train -- [CONFIGURATION]`.

use latte_train::{CancelToken, Progress, Start, StepEvent, TrainConfig, Trainer, TrainingProgress, tasks};
use latte_video::{Clip, encode};

/// Prints every fifth step.
struct Console;

impl Progress for Console {}

impl TrainingProgress for Console {
    #[allow(clippy::print_stdout, reason = "an example prints its progress")]
    fn step(&mut self, StepEvent { record, max_steps, .. }: &StepEvent) {
        if record.step.is_multiple_of(5) {
            println!("step {} of {max_steps}: loss {:.3}", record.step, record.loss);
        }
    }
}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("latte-example-train");
    let config = match std::env::args().nth(1) {
        Some(path) => TrainConfig::load(path.as_ref(), &[])?,
        None => {
            std::fs::create_dir_all(folder.join("videos"))?;
            let pixels = (0..12 * 16 * 16 * 3).map(|at| (at / (16 * 16 * 3) * 20) as u8).collect();
            let clip = Clip::new(pixels, [12, 16, 16, 3], 8.0)?; // it grows brighter
            encode::write_mp4(folder.join("videos/brighter.mp4"), &clip, &encode::Mp4Options::default())?;
            let (videos, run) = (folder.join("videos"), folder.join("run"));
            let text = "[model]\npatch_size = 4\nhidden_size = 32\ndepth = 2\nnum_heads = 2\n[data]\nsize = 16\nnum_frames = 4\n\
                        [train]\nmax_steps = 20\nbatch_size = 2\n[output]\n";
            let set = [format!("data.path={}", videos.display()), format!("output.run={}", run.display())];
            TrainConfig::from_toml(text, "example", &set)?
        }
    };
    let mut trainer = Trainer::open(tasks::class(config)?, Start::Auto)?;
    println!("{:?}", trainer.run(&CancelToken::new(), &mut Console)?);
    Ok(())
}
