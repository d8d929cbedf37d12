//! Checks every operation on a device against its reference formulation on the CPU, on random inputs, forward and backward: whether
//! this build of the program gives right results on this machine.

use candle_core::{Device, Tensor};

use crate::backend::by_reference;
use crate::finite_difference::pseudo_random;
use crate::{
    Activation, AdamW, AdamWState, Attention, AttentionAxis, Branch, Canvas, Conv3d, Convolution, ConvolutionWeights, Error,
    GroupNorm, GroupSums, Padding, Pool, Precision, Result, Rope, Tape, Value, Var, Window, activation, adamw_ema, add,
    add_assign, attention, concat, convolution, convolution_over_frames, cross_attention, dot_product_attention, embedding,
    gated_residual, global_norm, group_norm, layer_norm, linear, linear_gated, linear_gelu, mean_axis, modulated_layer_norm, mul,
    narrow, pad, permute, repeat_rows, reshape, rms_norm, side_by_side, silu,
};

/// The tolerance of a value against the reference formulation in f32: sums are added in another order.
const FORWARD: f64 = 2e-5;
/// The tolerance of gradients, which are sums of more terms.
const GRADIENT: f64 = 1e-4;
/// The tolerance with operands of 8 bits: one that rounds to the other side of a tie changes by 1/256 of itself.
const BF16: f64 = 2e-2;

/// The error of one result against the reference formulation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationCheck {
    /// The result that was compared: `value`, or `gradient` and the number of the input.
    pub what: String,
    /// Largest absolute difference ÷ largest absolute value of the reference formulation; infinite if the shapes differ or a value
    /// is NaN.
    pub error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
}

/// One operation with inputs to check it on.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    inputs: &'static [&'static [usize]],
    precision: Precision,
    has_gradients: bool,
    run: fn(&Tape<'_>, &[Var]) -> Result<Var>,
}

impl Operation {
    /// Runs the operation on `device`, and its reference formulation on the CPU.
    ///
    /// # Errors
    ///
    /// If one of them fails.
    pub fn check(&self, device: &Device) -> Result<Vec<OperationCheck>> {
        let inputs = self.random_inputs()?;
        let expected = by_reference(|| self.results(&inputs, &|tensor| Ok(tensor.into())))?;
        let ours = self.results(&inputs, &|tensor| Ok(tensor.to_device(device)?.into()))?;
        let check = |i: usize, (ours, expected): (&Tensor, &Tensor)| {
            let what = if i == 0 { "value".to_string() } else { format!("gradient {i}") };
            let exact = if i == 0 { FORWARD } else { GRADIENT };
            let tolerance = if self.precision == Precision::Bf16 { BF16 } else { exact };
            Ok(OperationCheck { what, error: error(ours, expected)?, tolerance })
        };
        ours.iter().zip(&expected).enumerate().map(|(i, pair)| check(i, pair)).collect()
    }

    fn random_inputs(&self) -> Result<Vec<Tensor>> {
        self.inputs.iter().zip(1..).map(|(dims, seed)| pseudo_random(dims, seed)).collect()
    }

    /// The value and the gradients for random inputs on the device to which `send` moves them.
    #[cfg(test)]
    pub(crate) fn results_on(&self, send: &dyn Fn(&Tensor) -> Result<Value>) -> Result<Vec<Tensor>> {
        self.results(&self.random_inputs()?, send)
    }

    /// The value, then the gradient of each input, on the device to which `send` moves tensors.
    fn results(&self, inputs: &[Tensor], send: &dyn Fn(&Tensor) -> Result<Value>) -> Result<Vec<Tensor>> {
        let tape = if self.has_gradients { Tape::recording() } else { Tape::inference() }.with_precision(self.precision);
        let vars = inputs.iter().map(|t| Ok(tape.input(send(t)?))).collect::<Result<Vec<Var>>>()?;
        let value = (self.run)(&tape, &vars)?;
        let mut results = vec![value.to_host()?];
        if self.has_gradients {
            let gradients = tape.backward(&value, send(&pseudo_random(value.dims(), 99)?)?)?;
            for (i, var) in vars.iter().enumerate() {
                let found = gradients.input(var);
                results.push(found.ok_or_else(|| Error::MissingParameter(format!("gradient {}", i + 1)))?.to_host()?);
            }
        }
        Ok(results)
    }
}

fn error(ours: &Tensor, expected: &Tensor) -> Result<f64> {
    if ours.dims() != expected.dims() {
        return Ok(f64::INFINITY);
    }
    let (ours, expected) = (ours.flatten_all()?.to_vec1::<f32>()?, expected.flatten_all()?.to_vec1::<f32>()?);
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(&expected).fold(0f32, |worst, (a, b)| {
        let difference = (a - b).abs();
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    });
    Ok(f64::from(worst) / f64::from(largest))
}

const fn recorded(
    name: &'static str,
    inputs: &'static [&'static [usize]],
    run: fn(&Tape<'_>, &[Var]) -> Result<Var>,
) -> Operation {
    Operation { name, inputs, precision: Precision::F32, has_gradients: true, run }
}

/// An operation that has no gradient or is not recorded.
const fn plain(name: &'static str, inputs: &'static [&'static [usize]], run: fn(&Tape<'_>, &[Var]) -> Result<Var>) -> Operation {
    Operation { has_gradients: false, ..recorded(name, inputs, run) }
}

const fn bf16(operation: Operation, name: &'static str) -> Operation {
    Operation { name, precision: Precision::Bf16, ..operation }
}

const LAYER: &[&[usize]] = &[&[2, 3, 9, 48], &[80, 48], &[80]];
const QKV: &[&[usize]] = &[&[2, 4, 9, 3 * 48]];
const CROSS: &[&[usize]] = &[&[2, 3, 5, 24], &[2, 7, 48]];
const MODULATED: &[&[usize]] = &[&[2, 3, 9, 48], &[2, 48], &[2, 48]];
const IMAGES: &[&[usize]] = &[&[2, 9, 8, 6], &[10, 6, 3, 3], &[10]];
const NORMALISED: &[&[usize]] = &[&[2, 9, 8, 6], &[10, 6, 3, 3], &[10], &[6], &[6]];
const VOLUMES: &[&[usize]] = &[&[2, 4, 7, 6, 5], &[8, 5, 3, 3, 3], &[8]];

const LINEAR: Operation = recorded("linear", LAYER, |tape, v| linear(tape, &v[0], &v[1], Some(&v[2])));
const LINEAR_GELU: Operation = recorded("linear_gelu", LAYER, |tape, v| linear_gelu(tape, &v[0], &v[1], Some(&v[2])));
const LINEAR_GATED: Operation = recorded("linear_gated", &[&[2, 27, 48], &[80, 48], &[80], &[2, 27, 80], &[2, 80]], |tape, v| {
    linear_gated(tape, &v[0], &v[1], Some(&v[2]), &v[3], &v[4])
});
const SPATIAL: Operation = recorded("attention within frames", QKV, |tape, v| {
    attention(tape, &v[0], &Attention { axis: AttentionAxis::Spatial, num_heads: 4, heads: 0..4, rope: None })
});
const TEMPORAL: Operation = recorded("attention across frames, rotary", QKV, |tape, v| {
    let rope = Rope::new(4, 12, v[0].value())?;
    attention(tape, &v[0], &Attention { axis: AttentionAxis::Temporal, num_heads: 4, heads: 1..4, rope: Some(&rope) })
});
const CROSS_ATTENTION: Operation = recorded("cross_attention", CROSS, |tape, v| {
    let bias = Tensor::new(&[[0f32, 0., 0., 0., 0., -10000., -10000.], [0.; 7]], &Device::Cpu)?;
    cross_attention(tape, &v[0], &v[1], 4, Some(&tape.from_host(&bias, v[0].value())?))
});
const CONVOLUTION: Operation = recorded("convolution, doubled", IMAGES, |tape, v| {
    let options = Convolution { upsample: true, ..Convolution::SAME };
    convolution(tape, &v[0], &ConvolutionWeights::new(tape, &v[1], &v[2])?, &options)
});

/// All operations that models and training use.
pub const OPERATIONS: &[Operation] = &[
    LINEAR,
    bf16(LINEAR, "linear, bf16"),
    LINEAR_GELU,
    bf16(LINEAR_GELU, "linear_gelu, bf16"),
    LINEAR_GATED,
    // The fused kernel of sampling: a recording tape computes the layer and its gate one after the other.
    Operation { name: "linear_gated, fused", has_gradients: false, ..LINEAR_GATED },
    SPATIAL,
    bf16(SPATIAL, "attention within frames, bf16"),
    TEMPORAL,
    bf16(TEMPORAL, "attention across frames, rotary, bf16"),
    CROSS_ATTENTION,
    bf16(CROSS_ATTENTION, "cross_attention, bf16"),
    recorded("modulated_layer_norm", MODULATED, |tape, v| modulated_layer_norm(tape, &v[0], &v[1], &v[2], 1e-6)),
    recorded("layer_norm", &[&[2, 27, 48], &[48], &[48]], |tape, v| layer_norm(tape, &v[0], &v[1], &v[2], 1e-6)),
    recorded("gated_residual", &[&[2, 27, 48], &[2, 48], &[2, 27, 48]], |tape, v| gated_residual(tape, &v[0], &v[1], &v[2])),
    recorded("silu", &[&[3, 50]], |tape, v| silu(tape, &v[0])),
    recorded("embedding", &[&[7, 48]], |tape, v| embedding(tape, &v[0], &[3, 0, 3, 6])),
    recorded("add, broadcast", &[&[2, 4, 9, 8], &[4, 1, 8]], |tape, v| add(tape, &v[0], &v[1])),
    recorded("moving values", &[&[2, 3, 4, 5], &[2, 3, 2, 5]], |tape, v| {
        let joined = concat(tape, &[&v[0], &v[1]], 2)?; // [2, 3, 6, 5]
        let turned = permute(tape, &joined, &[3, 0, 2, 1])?; // [5, 2, 6, 3]
        let part = narrow(tape, &pad(tape, &turned, 2, [1, 0])?, 2, 1, 4)?; // [5, 2, 4, 3]
        let mean = mean_axis(tape, &part, 0)?; // [2, 4, 3]
        repeat_rows(tape, &reshape(tape, &mean, &[8, 3])?, 5)
    }),
    plain("canvas", &[&[2, 1, 3], &[2, 2, 3]], |tape, v| {
        let mut canvas = Canvas::new(&[2, 3, 3], &v[0])?;
        canvas.put(&v[1], 1, 1)?;
        canvas.put(&v[0], 1, 0)?;
        Ok(canvas.finish(tape))
    }),
    recorded("a value used twice", &[&[9, 48], &[48, 48]], |tape, v| {
        let y = linear(tape, &v[0], &v[1], None)?;
        let twice = add(tape, &linear(tape, &y, &v[1], None)?, &silu(tape, &v[0])?)?;
        add(tape, &twice, &v[0])
    }),
    plain("convolution with norm, SiLU and residual", NORMALISED, |tape, v| {
        let weights = ConvolutionWeights::new(tape, &v[1], &v[2])?;
        let norm = GroupNorm::new(&v[3], &v[4], 3, 1e-6)?.of(&v[0], true)?;
        let plain = convolution(tape, &v[0], &weights, &Convolution::SAME)?;
        let options = Convolution { input: Some(&norm), residual: Some(&plain), ..Convolution::SAME };
        convolution(tape, &v[0], &weights, &options)
    }),
    recorded("convolution, stride 2", IMAGES, |tape, v| {
        let options = Convolution { stride: 2, padding: [[0, 1]; 2], ..Convolution::PLAIN };
        convolution(tape, &v[0], &ConvolutionWeights::new(tape, &v[1], &v[2])?, &options)
    }),
    recorded("group_norm", &[&[2, 9, 8, 6], &[6], &[6]], |tape, v| {
        group_norm(tape, &v[0], &GroupNorm::new(&v[1], &v[2], 3, 1e-5)?, true)
    }),
    CONVOLUTION,
    bf16(CONVOLUTION, "convolution, doubled, bf16"),
    plain("convolution_over_frames", &[&[5, 6, 4, 6], &[6, 6, 3, 1], &[6], &[6]], |tape, v| {
        let weights = ConvolutionWeights::new(tape, &v[1], &v[2])?;
        let frames = (0..5).map(|i| narrow(tape, &v[0], 0, i, 1)).collect::<Result<Vec<_>>>()?;
        let norm = GroupNorm::new(&v[3], &v[2], 2, 1e-5)?;
        let sums = frames.iter().map(|frame| norm.sums(frame)).collect::<Result<Vec<_>>>()?;
        let input = norm.normalisation(&GroupSums::merge(&sums)?, true)?;
        let all = convolution_over_frames(tape, &frames, 0..5, &weights, None, None)?;
        let some = convolution_over_frames(tape, &frames, 1..4, &weights, Some(&input), Some(&all[1..4]))?;
        concat(tape, &all.iter().chain(&some).collect::<Vec<_>>(), 0)
    }),
    plain("attention in all of a clip", &[&[2, 5, 9, 3 * 24]], |tape, v| {
        attention(tape, &v[0], &Attention { axis: AttentionAxis::Joint, num_heads: 2, heads: 0..2, rope: None })
    }),
    recorded("dot_product_attention", &[&[2, 7, 24], &[2, 7, 24], &[2, 7, 24]], |tape, v| {
        dot_product_attention(tape, [&v[0], &v[1], &v[2]], 4, 0.4, None)
    }),
    recorded("rms_norm", &[&[2, 27, 48], &[48]], |tape, v| rms_norm(tape, &v[0], &v[1], 1e-6)),
    recorded("activation and mul", &[&[3, 50], &[3, 50]], |tape, v| {
        mul(tape, &activation(tape, &v[0], Activation::QuickGelu)?, &activation(tape, &v[1], Activation::Relu)?)
    }),
    plain("convolution and pool of volumes", VOLUMES, |tape, v| {
        let convolution = Conv3d::new(&v[1], &v[2], [1, 2, 2], Padding::Same, true)?;
        let window = Window { size: [2, 3, 3], stride: [1, 2, 2], padding: Padding::Same };
        side_by_side(tape, &[Branch::Convolution(&v[0], &convolution), Branch::Pool(&v[0], Pool::Max, window)])
    }),
    plain("adamw_ema", &[&[40, 30], &[40, 30], &[40, 30], &[40, 30], &[40, 30]], |tape, v| {
        let own = |i: usize| v[i].value().deep_copy();
        let (weight, ema, first) = (own(0)?, own(1)?, own(2)?);
        let second = mul(tape, &v[3], &v[3])?.value().deep_copy()?;
        let state = AdamWState { weight: &weight, ema: &ema, first_moment: &first, second_moment: &second };
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.1, ema_decay: 0.99 };
        adamw_ema(&constants, 1e-2, 3, v[4].value(), 0.5, &state)?;
        let all = [weight, ema, first, second].map(|value| tape.constant(value));
        concat(tape, &all.each_ref(), 0)
    }),
    plain("add_assign and global_norm", &[&[40, 30], &[30, 40]], |tape, v| {
        let sum = v[0].value().deep_copy()?;
        add_assign(&sum, permute(tape, &v[1], &[1, 0])?.value())?;
        let norm = global_norm([&sum, v[1].value()])?;
        let norm = tape.from_host(&Tensor::full(norm as f32, (40, 30), &Device::Cpu)?, &sum)?;
        mul(tape, &tape.constant(sum), &norm)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;

    #[test]
    fn the_kernels_pass_and_the_list_names_each_once() -> Result<()> {
        for results in with_each(|set| -> Result<_> {
            OPERATIONS.iter().map(|op| Ok((set, op.name, op.check(&Device::Cpu)?))).collect::<Result<Vec<_>>>()
        }) {
            for (set, name, checks) in results? {
                assert!(!checks.is_empty(), "{name}");
                for check in checks {
                    assert!(check.error <= check.tolerance, "{set}: {name}: {check:?}");
                }
            }
        }
        let mut names: Vec<&str> = OPERATIONS.iter().map(|op| op.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
        Ok(())
    }

    #[test]
    fn a_kernel_that_differs_from_the_reference_is_noticed() -> Result<()> {
        // The reference formulation gives twice the kernel's value, as if the kernel were wrong.
        let wrong = Operation {
            run: |tape, v| {
                let y = silu(tape, &v[0])?;
                if crate::backend::is_forced() { add(tape, &y, &y) } else { Ok(y) }
            },
            ..recorded("wrong", &[&[3, 5]], |_, v| Ok(v[0].clone()))
        };
        let checks = wrong.check(&Device::Cpu)?;
        assert_eq!(checks.len(), 2);
        assert!(checks.iter().all(|check| check.error > 0.4), "{checks:?}");
        assert!(error(&Tensor::new(&[f32::NAN], &Device::Cpu)?, &Tensor::new(&[1f32], &Device::Cpu)?)?.is_infinite());
        assert!(error(&Tensor::new(&[1f32, 1.], &Device::Cpu)?, &Tensor::new(&[1f32], &Device::Cpu)?)?.is_infinite());
        Ok(())
    }

    #[test]
    fn reference_formulations_agree_with_kernels_where_both_are_chosen_by_hand() -> Result<()> {
        // The kernels are not the reference that `by_reference` runs: some operations differ in their last bits.
        let x = pseudo_random(&[64, 300], 1)?;
        let weight = pseudo_random(&[100, 300], 2)?;
        let run = || -> Result<Vec<f32>> {
            let tape = Tape::inference();
            let y = linear_gelu(&tape, &tape.constant(x.clone()), &tape.constant(weight.clone()), None)?;
            Ok(y.to_host()?.flatten_all()?.to_vec1()?)
        };
        assert_ne!(run()?, by_reference(run)?);
        assert!(!crate::backend::is_forced());
        Ok(())
    }
}
