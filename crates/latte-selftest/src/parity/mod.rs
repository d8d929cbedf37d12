//! Parity with the reference: one check for each kind of golden file. Networks run on the selected device; samplers, schedules,
//! losses and tokens are always computed on the CPU.

mod diffusion;
mod model;
mod pipeline;
mod solver;
mod t2v;
mod tensors;
mod text;
mod text_training;
mod training;
mod vae;

use std::path::Path;

use candle_core::Device;
use golden::Check;

use tensors::Result;

/// All comparisons of the golden file at `path`, of kind `kind`.
pub(crate) fn check(device: &Device, path: &Path, kind: &str) -> Result<Vec<Check>> {
    match kind {
        "latte" => model::latte(device, path),
        "latte_joint" => model::latte_joint(device, path),
        "latte_t2v" => t2v::latte_t2v(device, path),
        "t2v_pipeline" => pipeline::t2v_pipeline(device, path),
        "tiny-latte-t2v" => pipeline::folder(path),
        "t5" => text::t5(device, path),
        "tokens" => text::tokens(path),
        "sampler" => diffusion::sampler(path),
        "loss" => diffusion::loss(path),
        "scheduler" => solver::scheduler(path),
        "respacing" => diffusion::respacing(path),
        "torch_rng" => diffusion::torch_rng(path),
        "vae" => vae::kl(device, path),
        "vae_temporal" => vae::temporal(device, path),
        "train" => training::train(device, path),
        "t2v_train" => text_training::train(device, path),
        other => Err(format!("no check for kind `{other}`").into()),
    }
}
