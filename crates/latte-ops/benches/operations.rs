//! Compares the speed of each operation of a block with the limit of the machine: `cargo bench -p latte-ops`.
//!
//! The sizes are those of one clip of 16 frames of 256 × 256 pixels in the models S/2 and B/2. Each operation is timed in turn with
//! the machine's limit, because on a shared machine the limit moves; the share is the median over single runs.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use latte_ops::{
    AdamW, AdamWState, Attention, AttentionAxis, CachingAllocator, InstructionSet, PackedWeightCache, Precision, Result, Tape,
    Value, Var, adamw_ema, attention, finite_difference::pseudo_random, gated_residual, limits, linear, linear_gelu,
    modulated_layer_norm,
};

#[global_allocator]
static ALLOCATOR: CachingAllocator = CachingAllocator::new();

/// What limits an operation, and how much work it has.
enum Work {
    /// Floating-point operations: a product and a sum count as two.
    Flops(f64),
    /// The bytes that the operation reads and writes at least.
    Bytes(f64),
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, work: &Work, mut run: impl FnMut() -> Result<()>) -> Result<()> {
    const RUNS: usize = 9;
    run()?;
    let (mut seconds, mut shares) = (Vec::new(), Vec::new());
    let (amount, limit, unit): (f64, fn() -> f64, _) = match *work {
        Work::Flops(flops) => (flops, limits::flops, "GFLOP/s"),
        Work::Bytes(bytes) => (bytes, limits::bytes_per_second, "GB/s"),
    };
    for _ in 0..RUNS {
        let before = limit();
        let start = Instant::now();
        run()?;
        let elapsed = start.elapsed().as_secs_f64();
        let limit = f64::midpoint(before, limit());
        seconds.push(elapsed);
        shares.push(amount / elapsed / limit);
    }
    let seconds = median(seconds);
    println!("| {name} | {:.2} ms | {:.0} {unit} | {:.0} % |", seconds * 1e3, amount / seconds / 1e9, median(shares) * 100.0);
    Ok(())
}

/// Forward, and forward with backward: the time of the backward pass is the difference.
fn both(
    name: &str,
    work: [&Work; 2],
    precision: Precision,
    inputs: &[Tensor],
    f: impl Fn(&Tape<'_>, &[Var]) -> Result<Var>,
) -> Result<()> {
    let packed = PackedWeightCache::new();
    report(name, work[0], || {
        let tape = Tape::inference().with_precision(precision).with_packed_weight_cache(&packed);
        let vars: Vec<Var> = inputs.iter().enumerate().map(|(i, t)| tape.parameter(&i.to_string(), t)).collect();
        f(&tape, &vars).map(drop)
    })?;
    report(&format!("{name}, forward and backward"), work[1], || {
        let tape = Tape::recording().with_precision(precision).with_packed_weight_cache(&packed);
        let vars: Vec<Var> = inputs.iter().enumerate().map(|(i, t)| tape.parameter(&i.to_string(), t)).collect();
        let y = f(&tape, &vars)?;
        let gradient = y.value().clone();
        tape.backward(&y, gradient).map(drop)
    })
}

fn main() -> Result<()> {
    // The NAME of `cargo bench -- NAME`; cargo's own arguments begin with a dash.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    println!("instructions: {}, threads: {}", InstructionSet::current(), rayon::current_num_threads());
    let (flops, bytes) = (limits::flops(), limits::bytes_per_second());
    println!("limits: {:.0} GFLOP/s in f32, {:.1} GB/s read and written\n", flops / 1e9, bytes / 1e9);
    println!("| operation | median | achieved | of the limit |\n|---|---|---|---|");
    for (model, d, heads) in [("S/2", 384, 6), ("B/2", 768, 12)] {
        let (f, n) = (16, 256);
        let tokens = f * n;
        let x = pseudo_random(&[1, f, n, d], 1)?;
        let size = |tensors: f64| Work::Bytes(tensors * (tokens * d * 4) as f64);
        for (layer, input, out) in [("qkv", d, 3 * d), ("proj", d, d), ("fc1 + GELU", d, 4 * d), ("fc2", 4 * d, d)] {
            for precision in [Precision::F32, Precision::Bf16] {
                let name = format!("{model} {layer} {precision:?}");
                if !is_wanted(&name) {
                    continue;
                }
                let inputs = [pseudo_random(&[1, f, n, input], 1)?, pseudo_random(&[out, input], 2)?, pseudo_random(&[out], 3)?];
                let flops = (2 * tokens * input * out) as f64;
                both(&name, [&Work::Flops(flops), &Work::Flops(3.0 * flops)], precision, &inputs, |tape, v| {
                    let layer = if layer.contains("GELU") { linear_gelu } else { linear };
                    layer(tape, &v[0], &v[1], Some(&v[2]))
                })?;
            }
        }
        let qkv = [pseudo_random(&[1, f, n, 3 * d], 4)?];
        for (axis, length) in [(AttentionAxis::Spatial, n), (AttentionAxis::Temporal, f)] {
            let name = format!("{model} attention {axis:?}");
            if is_wanted(&name) {
                let flops = (4 * tokens * length * d) as f64;
                // The backward pass computes the scores again and does four more matmuls.
                both(&name, [&Work::Flops(flops), &Work::Flops(3.5 * flops)], Precision::F32, &qkv, |tape, v| {
                    attention(tape, &v[0], &Attention { axis, num_heads: heads, heads: 0..heads, rope: None })
                })?;
            }
        }
        let vectors = [x.clone(), pseudo_random(&[1, d], 5)?, pseudo_random(&[1, d], 6)?];
        let name = format!("{model} layer norm + modulate");
        if is_wanted(&name) {
            both(&name, [&size(2.0), &size(5.0)], Precision::F32, &vectors, |tape, v| {
                modulated_layer_norm(tape, &v[0], &v[1], &v[2], 1e-6)
            })?;
        }
        let name = format!("{model} gated residual");
        if is_wanted(&name) {
            let inputs = [x.clone(), vectors[1].clone(), pseudo_random(&[1, f, n, d], 7)?];
            both(&name, [&size(3.0), &size(6.0)], Precision::F32, &inputs, |tape, v| gated_residual(tape, &v[0], &v[1], &v[2]))?;
        }
        let name = format!("{model} AdamW + EMA");
        if is_wanted(&name) {
            let tensor = |seed| Ok::<_, latte_ops::Error>(Value::from(pseudo_random(&[12 * d, d], seed)?));
            let zeros = || Ok::<_, latte_ops::Error>(Value::from(Tensor::zeros((12 * d, d), DType::F32, &Device::Cpu)?.copy()?));
            let (weight, ema, gradient, first, second) = (tensor(1)?, tensor(2)?, tensor(3)?, zeros()?, zeros()?);
            let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, ema_decay: 0.9999 };
            report(&name, &Work::Bytes((9 * 12 * d * d * 4) as f64), || {
                let state = AdamWState { weight: &weight, ema: &ema, first_moment: &first, second_moment: &second };
                adamw_ema(&constants, 1e-4, 1, &gradient, 1.0, &state)
            })?;
        }
    }
    Ok(())
}
