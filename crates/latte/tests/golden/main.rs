//! Parity of this crate with the reference on every golden file of its kinds.

mod diffusion;
mod model;
mod pipeline;
mod solver;
mod t2v;
mod tensors;
mod text;
mod vae;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use golden::Check;

fn check(path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn Error>> {
    match kind {
        "latte" => model::latte(path),
        "latte_joint" => model::latte_joint(path),
        "latte_t2v" => t2v::latte_t2v(path),
        "t2v_pipeline" => pipeline::t2v_pipeline(path),
        "tiny-latte-t2v" => pipeline::folder(path),
        "t5" => text::t5(path),
        "tokens" => text::tokens(path),
        "sampler" => diffusion::sampler(path),
        "loss" => diffusion::loss(path),
        "scheduler" => solver::scheduler(path),
        "respacing" => diffusion::respacing(path),
        "torch_rng" => diffusion::torch_rng(path),
        "vae" => vae::kl(path),
        "vae_temporal" => vae::temporal(path),
        other => Err(format!("no check for kind `{other}`").into()),
    }
}

fn main() -> ExitCode {
    golden::run("latte", check)
}
