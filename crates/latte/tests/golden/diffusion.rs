//! Kinds `sampler`, `loss`, `respacing` and `torch_rng`.

use std::error::Error;
use std::path::Path;

use golden::{Array, Case, Check};
use latte::noise::TorchRng;

pub(crate) fn sampler(_path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    Err("being written".into())
}

pub(crate) fn loss(_path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    Err("being written".into())
}

pub(crate) fn respacing(_path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    Err("being written".into())
}

pub(crate) fn torch_rng(path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    let case = Case::read(path)?;
    let mut checks = Vec::new();
    // Consecutive draws of one generator: the name says which.
    let mut generators: Vec<(u64, TorchRng)> = Vec::new();
    for (name, array) in case.with_prefix("out.") {
        let parts: Vec<&str> = name.split('.').collect();
        let values = match parts[..] {
            ["randn", seed, shape] => {
                let shape = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
                if shape != array.shape {
                    return Err(format!("{name}: the name says {shape:?}, the tensor is {:?}", array.shape).into());
                }
                draw(&mut TorchRng::new(seed.parse()?), array)?
            }
            ["generator", seed, "first" | "second"] => {
                let seed = seed.parse()?;
                if parts[2] == "first" {
                    generators.push((seed, TorchRng::new(seed)));
                }
                // Names come in alphabetical order: `first` before `second`.
                let (_, rng) = generators
                    .iter_mut()
                    .find(|(s, _)| *s == seed)
                    .ok_or_else(|| format!("{name}: there is no first draw of this generator"))?;
                draw(rng, array)?
            }
            _ => return Err(format!("{name}: neither randn.<seed>.<shape> nor generator.<seed>.first|second").into()),
        };
        let tolerance = if values.len() < 16 { 0.0 } else { 3e-7 };
        checks.push(Check::new_f32(name, &values, array, tolerance));
    }
    Ok(checks)
}

fn draw(rng: &mut TorchRng, like: &Array) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(rng.randn(like.shape.as_slice())?.flatten_all()?.to_vec1()?)
}
