//! `latte train-vae`: trains a small autoencoder on the frames of videos.

use latte_train::tasks::autoencoder;
use latte_train::{Outcome, Start, Trainer, VaeReport, VaeTrainConfig};

use super::run_args::{ConfigArgs, StartArgs};
use crate::device::DeviceArgs;
use crate::interrupt::Interrupt;
use crate::output::check_output_folder;
use crate::progress::RunProgress;
use crate::terminal::{note, say};

/// Trains a small autoencoder (AutoencoderKL) on the frames of videos.
///
/// Diffusion models can be trained on its latents instead of on pixels. The loss compares frames pixel by pixel and keeps latents
/// small; it has no perceptual and no adversarial part, so textures are soft. The result is written to the folder `vae` of the run,
/// in
/// the layout of diffusers, with the scaling_factor that gives the latents of this data a standard deviation of 1.
///
/// The run resumes from its newest checkpoint if it has one. Ctrl-C finishes the current step, saves, and ends with exit code 130;
/// the same command resumes, bit for bit.
///
///   latte data demo clips && latte train-vae --config configs/vae_demo.toml
///   latte train-vae --config configs/vae_demo.toml --set data.path=my-videos --set data.size=64 --set output.run=runs/vae-mine
///
/// configs/vae_demo.toml explains every key.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.device.expect_cpu("training an autoencoder")?;
    let config = VaeTrainConfig::load(&args.config.file, &args.config.overrides)?;
    let interrupt = Interrupt::listen()?;
    match train(config, args.start.start(), &interrupt)? {
        Outcome::Finished { checkpoint, report } => {
            say(&format!("finished; the last checkpoint is {}", checkpoint.display()));
            for line in lines(&report) {
                say(&line);
            }
        }
        Outcome::Stopped { step, checkpoint } => {
            say(&format!("stopped after step {step}; saved {}", checkpoint.display()));
            say("the same command resumes from there");
            return Err(interrupt.error());
        }
    }
    Ok(())
}

fn train(config: VaeTrainConfig, start: Start, interrupt: &Interrupt) -> anyhow::Result<Outcome<VaeReport>> {
    check_output_folder("output.run", &config.output.run)?;
    let mut trainer = Trainer::open(autoencoder(config)?, start)?;
    note(&format!(
        "autoencoder: {} parameters, levels of {:?} channels; data: {} videos, and {} held out",
        trainer.num_trainable(),
        trainer.config().autoencoder.block_out_channels,
        trainer.num_videos(),
        trainer.task().num_held_out(),
    ));
    if let Some(path) = trainer.resumed_from() {
        note(&format!("resuming from {}", path.display()));
    }
    let mut progress = RunProgress::new(trainer.config().train.max_steps);
    let outcome = interrupt.while_saving(|stop| trainer.run(stop, &mut progress));
    progress.finish();
    Ok(outcome?)
}

fn lines(report: &VaeReport) -> Vec<String> {
    let kind = if report.held_out { "held-out" } else { "training" };
    let channels: Vec<String> = report.channels.iter().map(|[mean, std]| format!("{mean:+.3} ± {std:.3}")).collect();
    vec![
        format!("PSNR on {} {kind} frames: {:.2} dB", report.num_frames, report.psnr),
        format!("latents by channel: {}; scaling_factor {:.5}", channels.join(", "), report.scaling_factor),
        format!("the autoencoder is in {}", report.folder.display()),
    ]
}
