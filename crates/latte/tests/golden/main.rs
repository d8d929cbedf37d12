//! Parity of this crate with the reference on every golden file of its kinds.

mod diffusion;
mod model;
mod vae;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use golden::Check;

fn check(path: &Path, kind: &str) -> Result<Vec<Check>, Box<dyn Error>> {
    match kind {
        "latte" => model::latte(path),
        "latte_joint" => model::latte_joint(path),
        "sampler" => diffusion::sampler(path),
        "loss" => diffusion::loss(path),
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
