//! The demo: data set, training, samples, and a count of the clips that move as their class says.

pub(crate) mod parameters;
mod score;

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use candle_core::Device;
use latte::{ClassId, ClassRequest, Generator, Precision, SamplingParams, contact_sheet_of};
use latte_demo::{Class, Measured, dataset, measure_folder};
use latte_train::{Outcome, Start, TrainConfig, read_evaluations};
use latte_video::results::{Part, ResultFolder};

use crate::commands::sample::{Format, classes, sample_all};
use crate::commands::train::train;
use crate::generator;
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::duration;
use crate::terminal::say;
use parameters::{Budget, Folders};

/// Runs the demo in the folder `out`, training and sampling on `device`.
///
/// # Errors
///
/// If a file cannot be written, the training fails, or `interrupt` stops it.
pub(crate) fn run(out: &Path, budget: Budget, seed: u64, device: &Device, interrupt: &Interrupt) -> anyhow::Result<()> {
    let started = Instant::now();
    let videos = out.join("videos");
    say(&format!("1. data: mp4 files of moving shapes, {} classes, in {}", Class::all().len(), videos.display()));
    let num_videos = dataset::write(&videos, parameters::CLIPS_PER_CLASS, seed)?;
    let held_out = out.join("held-out");
    dataset::write_held_out(&held_out, budget.judged_per_class, seed)?;
    let config_path = out.join("train.toml");
    // A run with another length or seed has its own folder.
    let run = out.join(format!("run-{}-steps-seed-{seed}", budget.max_steps));
    let folders = Folders { videos: &videos, held_out: Some(&held_out), run: &run };
    parameters::write_config(&config_path, &folders, budget, seed)?;

    say(&format!("2. training on {num_videos} files: latte train --config {}", config_path.display()));
    let config = TrainConfig::load(&config_path, &[])?;
    if let Outcome::Stopped { step, .. } = train(config, device, Start::Auto, interrupt)? {
        say(&format!("stopped after step {step}; the same command resumes from there"));
        return Err(interrupt.error());
    }

    let generator = generator::open(&run, false, None, Precision::F32, device.clone().into())?;
    let samples = out.join("samples");
    say(&format!("3. sampling {} videos of each class from the averaged weights", budget.samples_per_class));
    let mut results = ResultFolder::new(&samples, false);
    let written = sample_all(&generator, &requests(&generator, budget, seed)?, Format::Mp4, &mut results)?;
    // One clip of each class fits a screen; the other clips are among the videos.
    let sheet = contact_sheet_of(written.iter().step_by(budget.samples_per_class).map(|written| &written.made))?;
    let mut sheets = ResultFolder::new(out, false);
    let sheet = sheets.write("contact_sheet", &[Part::new("png", |path| sheet.write_png(path))])?.pop().unwrap_or_default();
    output::tell(&results, "");
    output::tell(&sheets, "");

    say("4. measuring the written files");
    let mut measured = Vec::new();
    for clip in &written {
        let name = generator.metadata().class_name(clip.made.class);
        let class = Class::from_name(&name)
            .with_context(|| format!("`{name}` is not a class of the demo: was {} written by it?", videos.display()))?;
        measured.push(Measured::from_file(class, &clip.path)?);
    }
    say("");
    for line in score::report(&measured) {
        say(&line);
    }
    let evaluations = read_evaluations(&run.join("evaluation.jsonl"))?;
    for line in score::distances(&evaluations) {
        say(&line);
    }
    say("");
    say(&format!("took        {}", duration(started.elapsed())));
    say(&format!("look at     {}", sheet.display()));
    say(&format!("videos      {}", samples.display()));
    say(&format!("weights     {}", generator.weights().unwrap_or(&run).display()));
    say("try next:");
    say(&format!("  latte sample --checkpoint {} --num 4 --seed 100 --enlarge 4", run.display()));
    say(&format!("  latte sample --checkpoint {} --class right_red_square --frames 16 --enlarge 4", run.display()));
    say(&format!("  latte train --config {} --set train.max_steps={}", config_path.display(), 2 * budget.max_steps));
    say(&format!("  latte runs {}", out.display()));
    say(&format!("  latte plot {} --metric loss,fvd", run.display()));
    say("  latte train --config configs/small.toml --set data.path=<a folder of your videos>");
    Ok(())
}

/// Measures the videos below `folder` by the demo's classes.
///
/// # Errors
///
/// As [`measure_folder`].
pub(crate) fn measure(folder: &Path) -> anyhow::Result<()> {
    for line in score::report(&measure_folder(folder)?) {
        say(&line);
    }
    Ok(())
}

fn requests(generator: &Generator, budget: Budget, seed: u64) -> anyhow::Result<Vec<ClassRequest>> {
    let params =
        SamplingParams { steps: budget.sampling_steps, guidance: Some(parameters::GUIDANCE), ..SamplingParams::default() };
    let of_class = |class: Option<u32>| {
        let params = &params;
        (0..budget.samples_per_class as u64).map(move |n| ClassRequest {
            class: class.map(ClassId::Number),
            seed: seed.wrapping_mul(1000).wrapping_add(n),
            params: params.clone(),
            enlarge: parameters::ENLARGE,
        })
    };
    Ok(classes(&[], generator)?.into_iter().flat_map(of_class).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_demo_promises_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let budget = Budget { max_steps: 1, batch_size: 16, samples_per_class: 1, sampling_steps: 1, judged_per_class: 1 };
        run(&out, budget, 3, &Device::Cpu, &Interrupt::default()).unwrap();
        let count = |name: &str| std::fs::read_dir(out.join(name)).unwrap().count();
        assert_eq!((count("videos"), count("videos/up_blue_disc")), (8, parameters::CLIPS_PER_CLASS));
        assert_eq!((count("samples"), count("held-out")), (8, 8));
        let evaluations = read_evaluations(&out.join("run-1-steps-seed-3/evaluation.jsonl")).unwrap();
        assert_eq!(evaluations.iter().map(|record| (record.step, record.clips)).collect::<Vec<_>>(), [(0, 8), (1, 8)]);
        for file in ["train.toml", "contact_sheet.png", "samples/left_red_square_seed3000.mp4"] {
            assert!(out.join(file).is_file(), "{file}");
        }
        // The second call finds the finished run and does not train again.
        run(&out, budget, 3, &Device::Cpu, &Interrupt::default()).unwrap();
        assert_eq!(count("run-1-steps-seed-3/checkpoints"), 1);

        // Written videos can be measured again; the data set itself has the best result.
        assert_eq!(measure_folder(&out.join("samples")).unwrap().len(), 8);
        let data = measure_folder(&out.join("videos/up_blue_disc")).unwrap();
        let all = parameters::CLIPS_PER_CLASS;
        assert_eq!(score::report(&data)[0], format!("{all} of {all} clips (100 %) move the way their class says"));
        let error = measure_folder(&out.join("run-1-steps-seed-3")).unwrap_err().to_string();
        assert!(error.contains("no video in this folder"), "{error}");
    }

    /// The losses of the demo's first steps, each averaged over the fifty or so before it: where the loss falls steeply, runs that
    /// differ by rounding are a step or two apart.
    fn smoothed_losses(folder: &Path, videos: &Path, precision: &str) -> Vec<f64> {
        let (config, run) = (folder.join(format!("{precision}.toml")), folder.join(precision));
        let folders = Folders { videos, held_out: None, run: &run };
        parameters::write_config(&config, &folders, Budget { max_steps: 200, ..parameters::FULL }, 0).unwrap();
        let config = TrainConfig::load(&config, &[format!("train.precision={precision}")]).unwrap();
        train(config, &Device::Cpu, Start::Auto, &Interrupt::default()).unwrap();
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let mut average = None;
        let losses = metrics.lines().map(|line| {
            let loss = serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
            let smoothed = average.map_or(loss, |average: f64| 0.98 * average + 0.02 * loss);
            average = Some(smoothed);
            smoothed
        });
        losses.collect()
    }

    #[test]
    fn training_in_bfloat16_follows_training_in_f32() {
        let folder = tempfile::tempdir().unwrap();
        let videos = folder.path().join("videos");
        dataset::write(&videos, parameters::CLIPS_PER_CLASS, 0).unwrap();
        let [f32, bf16] = ["f32", "bf16"].map(|precision| smoothed_losses(folder.path(), &videos, precision));
        assert_eq!((f32.len(), bf16.len()), (200, 200));
        assert!(f32[199] < 0.8 * f32[0], "nothing was learnt: {} to {}", f32[0], f32[199]);
        assert_ne!(f32, bf16, "the precision changes nothing");
        let worst = f32.iter().zip(&bf16).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
        assert!(worst < 0.02, "{worst}");
        println!("largest difference of the smoothed losses: {worst:.4}");
    }
}
