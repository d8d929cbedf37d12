//! Convolutions and pooling against their formulas, value by value.

use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::backend::by_reference;
use crate::backend::cpu::instruction_set::tests::with_each;
use crate::finite_difference::{assert_close, pseudo_random};

/// A constant without a tape.
fn var(x: &Tensor) -> Var {
    Tape::inference().constant(x)
}

fn prepared(weight: &Tensor, bias: &Tensor, stride: [usize; 3], padding: Padding, relu: bool) -> Result<Conv3d> {
    Conv3d::new(&var(weight), &var(bias), stride, padding, relu)
}

fn run(branches: &[Branch<'_>]) -> Result<Tensor> {
    side_by_side(&Tape::inference(), branches)?.to_host()
}

/// A volume that also gives values for positions outside it.
struct Volume {
    values: Vec<f32>,
    shape: [usize; 5],
}

impl Volume {
    fn of(x: &Tensor) -> Result<Self> {
        let (n, t, h, w, c) = x.dims5()?;
        Ok(Self { values: x.flatten_all()?.to_vec1()?, shape: [n, t, h, w, c] })
    }

    fn get(&self, n: usize, place: [isize; 3], c: usize) -> Option<f32> {
        let [_, t, h, w, channels] = self.shape;
        let inside = place.iter().zip([t, h, w]).all(|(&p, len)| p >= 0 && (p as usize) < len);
        let [t, y, x] = place.map(|p| p as usize);
        inside.then(|| self.values[(((n * self.shape[1] + t) * h + y) * w + x) * channels + c])
    }
}

/// Calls `f(clip, values under the kernel, …)` for every output position and channel.
fn each_place(
    x: &Volume,
    window: &Window,
    channels: usize,
    f: impl Fn(usize, &[([usize; 3], [isize; 3])], usize) -> f32,
) -> Result<Tensor> {
    let [n, t, h, w, _] = x.shape;
    let out = window.places([t, h, w]).unwrap_or_default();
    let around = window.around([t, h, w]).unwrap_or_default();
    let mut values = Vec::new();
    for clip in 0..n {
        for place in (0..out.iter().product()).map(|p: usize| [p / out[2] / out[1], p / out[2] % out[1], p % out[2]]) {
            let [kt, kh, kw] = window.size;
            let under: Vec<_> = (0..kt * kh * kw)
                .map(|k| {
                    let step = [k / kw / kh, k / kw % kh, k % kw];
                    let at = |a: usize| (place[a] * window.stride[a] + step[a]) as isize - around[a][0] as isize;
                    (step, [at(0), at(1), at(2)])
                })
                .collect();
            values.extend((0..channels).map(|c| f(clip, &under, c)));
        }
    }
    Ok(Tensor::from_vec(values, (n, out[0], out[1], out[2], channels), &Device::Cpu)?)
}

fn convolved(x: &Tensor, weight: &Tensor, bias: &Tensor, window: &Window, relu: bool) -> Result<Tensor> {
    let (volume, weight, bias) = (Volume::of(x)?, Volume::of(weight)?, bias.to_vec1::<f32>()?);
    each_place(&volume, window, bias.len(), |n, under, out| {
        let sum = under.iter().flat_map(|(step, at)| {
            (0..volume.shape[4]).map(|c| {
                // The weight is [out, in, time, height, width], so `in` has the index of time.
                let [out_c, in_c] = [out, c];
                let [_, _, _, kh, kw] = weight.shape;
                let index = (((out_c * weight.shape[1] + in_c) * weight.shape[2] + step[0]) * kh + step[1]) * kw + step[2];
                f64::from(volume.get(n, *at, c).unwrap_or(0.0)) * f64::from(weight.values[index])
            })
        });
        let y = (sum.sum::<f64>() + f64::from(bias[out])) as f32;
        if relu { y.max(0.0) } else { y }
    })
}

fn pooled(x: &Tensor, pool: Pool, window: &Window) -> Result<Tensor> {
    let volume = Volume::of(x)?;
    each_place(&volume, window, volume.shape[4], |n, under, c| {
        let inside: Vec<f32> = under.iter().filter_map(|(_, at)| volume.get(n, *at, c)).collect();
        match pool {
            Pool::Max => inside.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            Pool::Mean => inside.iter().sum::<f32>() / inside.len() as f32,
            Pool::MeanWithPadding => inside.iter().sum::<f32>() / under.len() as f32,
        }
    })
}

fn windows() -> impl Strategy<Value = Window> {
    let axis = || (1usize..5, 1usize..3, 0usize..4, 0usize..4);
    ([axis(), axis(), axis()], any::<bool>()).prop_map(|(axes, same)| {
        let around = axes.map(|(size, _, front, back)| [front.min(size - 1), back.min(size - 1)]);
        let padding = if same { Padding::Same } else { Padding::Around(around) };
        Window { size: axes.map(|a| a.0), stride: axes.map(|a| a.1), padding }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn branches_are_what_their_formulas_say(
        (n, t, h, w) in (1usize..3, 1usize..6, 1usize..9, 1usize..20),
        // Deep kernels in several parts; odd numbers of channels; more columns than a panel has.
        (input, output) in (prop_oneof![4 => 1usize..24, 1 => 130usize..140], prop_oneof![3 => 1usize..40, 1 => 100usize..140]),
        (window, relu, seed) in (windows(), any::<bool>(), any::<u64>()),
    ) {
        prop_assume!(window.places([t, h, w]).is_some());
        let compare = || -> Result<()> {
            let x = pseudo_random(&[n, t, h, w, input], seed)?;
            let [kt, kh, kw] = window.size;
            let (weight, bias) = (pseudo_random(&[output, input, kt, kh, kw], seed ^ 1)?, pseudo_random(&[output], seed ^ 2)?);
            let convolution = prepared(&weight, &bias, window.stride, window.padding, relu)?;
            let pools = [Pool::Max, Pool::Mean, Pool::MeanWithPadding];
            let x_var = var(&x);
            let mut branches = vec![Branch::Convolution(&x_var, &convolution)];
            branches.extend(pools.map(|pool| Branch::Pool(&x_var, pool, window)));
            branches.push(Branch::Convolution(&x_var, &convolution));
            let ours = run(&branches)?;
            let reference = convolved(&x, &weight, &bias, &window, relu)?;
            let pools = pools.iter().map(|&pool| pooled(&x, pool, &window)).collect::<Result<Vec<_>>>()?;
            let expected = Tensor::cat(&[&reference, &pools[0], &pools[1], &pools[2], &reference], 4)?;
            assert_close(&ours, &expected, 1e-5)
        };
        for (set, result) in with_each(|set| (set, compare())) {
            prop_assert!(result.is_ok(), "{set}: {result:?}");
        }
        let reference = by_reference(compare);
        prop_assert!(reference.is_ok(), "the reference: {reference:?}");
    }
}

#[test]
fn many_places_are_shared_among_tasks() -> Result<()> {
    let x = pseudo_random(&[2, 5, 17, 13, 6], 1)?;
    for size in [[1, 1, 1], [3, 3, 3]] {
        let [t, h, w] = size;
        let (weight, bias) = (pseudo_random(&[70, 6, t, h, w], 2)?, pseudo_random(&[70], 3)?);
        let padding = Padding::Around(size.map(|s| [s / 2; 2]));
        let convolution = prepared(&weight, &bias, [1; 3], padding, true)?;
        let reference = convolved(&x, &weight, &bias, &Window { size, stride: [1; 3], padding }, true)?;
        for result in with_each(|_| assert_close(&run(&[Branch::Convolution(&var(&x), &convolution)])?, &reference, 1e-5)) {
            result?;
        }
    }
    Ok(())
}

#[test]
fn the_odd_place_of_same_padding_is_behind() {
    let window = |size: usize, stride: usize| Window { size: [size; 3], stride: [stride; 3], padding: Padding::Same };
    assert_eq!(window(7, 2).around([224, 16, 9]), Some([[2, 3], [2, 3], [3, 3]]));
    assert_eq!(window(3, 2).around([112, 7, 1]), Some([[0, 1], [1, 1], [1, 1]]));
    assert_eq!(window(2, 2).around([8, 7, 1]), Some([[0, 0], [0, 1], [0, 1]]));
    assert_eq!(window(1, 2).around([8, 7, 1]), Some([[0, 0]; 3]));
    assert_eq!(window(7, 2).places([224, 17, 9]), Some([112, 9, 5]));
}

#[test]
fn not_a_number_stays_one() -> Result<()> {
    let x = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu)?.reshape((1, 1, 1, 2, 1))?;
    let (weight, bias) = (Tensor::new(&[1f32], &Device::Cpu)?.reshape((1, 1, 1, 1, 1))?, Tensor::new(&[0f32], &Device::Cpu)?);
    let convolution = prepared(&weight, &bias, [1; 3], Padding::NONE, true)?;
    let y = run(&[Branch::Convolution(&var(&x), &convolution)])?.flatten_all()?.to_vec1::<f32>()?;
    assert!(y[0].is_nan() && y[1] == 1.0, "{y:?}");
    let pooled = run(&[Branch::Pool(&var(&x), Pool::Max, Window::valid([1, 1, 2]))])?.flatten_all()?.to_vec1::<f32>()?;
    assert!(pooled[0].is_nan());
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let x = var(&pseudo_random(&[1, 2, 3, 3, 4], 1)?);
    let bias = pseudo_random(&[2], 2)?;
    let make = |input: usize, size: usize, stride: usize| {
        prepared(&pseudo_random(&[2, input, size, 1, 1], 3)?, &bias, [stride; 3], Padding::NONE, false)
    };
    let failed = |result: Result<Tensor>| result.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(failed(run(&[Branch::Convolution(&x, &make(3, 1, 1)?)])).contains("[1, 2, 3, 3, 4]"));
    assert!(failed(run(&[Branch::Convolution(&x, &make(4, 3, 1)?)])).contains("fits"));
    assert!(make(4, 1, 0).is_err());
    let (one, two) = (make(4, 1, 1)?, make(4, 2, 1)?);
    assert!(failed(run(&[Branch::Convolution(&x, &one), Branch::Convolution(&x, &two)])).contains("branches"));
    assert!(run(&[]).is_err());
    let outside = Window { size: [1; 3], stride: [1; 3], padding: Padding::Around([[1; 2]; 3]) };
    assert!(run(&[Branch::Pool(&x, Pool::Max, outside)]).is_err());
    // There is no gradient, and a request for one must be an error.
    let tape = Tape::recording();
    assert!(conv3d(&tape, &tape.input(x.value()), &one).is_err());
    Ok(())
}
