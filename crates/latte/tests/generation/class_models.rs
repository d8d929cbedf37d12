//! Every sampler with a class model.

use latte::{
    CancelToken, ClassModel, GenerationProgress, NoProgress, Progress, Request, Resumable, Sampler, SamplingParams, StepReport,
};
use latte_model::diffusion::{PredictionType, VarianceType};
use serde_json::{Value, json};

use super::class_model;

const DETERMINISTIC: [Sampler; 8] = [
    Sampler::Ddim,
    Sampler::Euler,
    Sampler::DpmMultistep,
    Sampler::DpmSinglestep,
    Sampler::Pndm,
    Sampler::Heun,
    Sampler::Deis,
    Sampler::Unipc,
];

fn params(sampler: Sampler, steps: usize) -> SamplingParams {
    SamplingParams { sampler, steps, ..SamplingParams::default() }
}

fn with_options(sampler: Sampler, steps: usize, options: &[(&str, Value)]) -> SamplingParams {
    let sampler_options = options.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect();
    SamplingParams { sampler_options, ..params(sampler, steps) }
}

fn generate(model: &ClassModel, params: &SamplingParams) -> Vec<f32> {
    let request = Request { class: Some(1), seed: 7 };
    let made = model.generate(params, request, None, &mut NoProgress, &CancelToken::new()).unwrap();
    made.finished().unwrap().values
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Every prediction type and every variance, on pixels and on latents.
#[test]
fn every_method_samples_from_every_class_model() {
    for prediction in [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity] {
        for variance in [VarianceType::LearnedRange, VarianceType::Learned, VarianceType::FixedSmall, VarianceType::FixedLarge] {
            let model = class_model(prediction, variance, true);
            let mut clips: Vec<Vec<f32>> = Vec::new();
            for sampler in Sampler::ALL {
                let clip = generate(&model, &params(sampler, 4));
                assert!(clip.iter().all(|v| v.is_finite()), "{sampler} {prediction:?} {variance:?}");
                assert!(clips.iter().all(|other| *other != clip), "{sampler} {prediction:?} {variance:?}: another one's clip");
                clips.push(clip);
            }
        }
    }
}

/// With many steps, all samplers without noise solve the same ODE from the same noise, so they give the same clip.
///
/// DDIM's error is of order 1: e with 1000 steps, about 4e with 250, so these two are about 3e apart. A sampler within that
/// distance of DDIM with 1000 steps agrees with it. DEIS ends at the smallest noise level of the schedule, σ = 0.01, and not at
/// clean data, which adds to its distance. Samplers of higher order fall to order 1 where clamping makes the path kinked, and the
/// first steps of PNDM cost as much, with constants larger than DDIM's. Such a sampler must come closer as the steps get smaller:
/// twice as many steps must reduce the distance by at least 30 % (order 1 from 250 to 500 steps halves it, or takes a third off
/// measured from DDIM with 1000 steps; the distance of a sampler with another limit would not change).
#[test]
fn with_many_steps_methods_without_noise_agree() {
    for (prediction, clip_denoised) in [
        (PredictionType::Epsilon, false),
        (PredictionType::Epsilon, true),
        (PredictionType::Velocity, false),
        (PredictionType::X0, true),
    ] {
        let model = class_model(prediction, VarianceType::LearnedRange, clip_denoised);
        let exact = generate(&model, &params(Sampler::Ddim, 1000));
        let tolerance = largest_difference(&exact, &generate(&model, &params(Sampler::Ddim, 250)));
        let few = largest_difference(&exact, &generate(&model, &params(Sampler::Ddim, 5)));
        assert!(few > 3.0 * tolerance, "{prediction:?} {clip_denoised}: {few} and {tolerance} tell nothing apart");
        for sampler in DETERMINISTIC {
            let ours = largest_difference(&exact, &generate(&model, &params(sampler, 500)));
            let end = if sampler == Sampler::Deis { 0.05 } else { 0.0 };
            let agrees = ours < tolerance + end;
            let converges = || ours < 0.7 * largest_difference(&exact, &generate(&model, &params(sampler, 250)));
            assert!(agrees || converges(), "{sampler} {prediction:?} {clip_denoised}: {ours}, tolerance {tolerance}");
        }
    }
}

/// The largest absolute value of any x0.
struct LargestX0(f32);

impl Progress for LargestX0 {}

impl GenerationProgress for LargestX0 {
    fn predicted(&mut self, report: &StepReport) {
        let seen = report.x0.abs().and_then(|x| x.flatten_all()?.max(0)?.to_scalar::<f32>());
        self.0 = self.0.max(seen.expect("a tensor"));
    }
}

/// The x0 of every step stays in [−1, 1] if and only if the model works on pixels.
#[test]
fn pixel_models_are_clamped_by_every_method() {
    for sampler in Sampler::ALL {
        let largest_x0 = |clip_denoised, options: &[(&str, Value)]| {
            let model = class_model(PredictionType::Epsilon, VarianceType::LearnedRange, clip_denoised);
            let mut largest = LargestX0(0.0);
            let request = Request { class: Some(1), seed: 7 };
            let made = model.generate(&with_options(sampler, 5, options), request, None, &mut largest, &CancelToken::new());
            assert!(matches!(made, Ok(Resumable::Finished(_))));
            largest.0
        };
        assert!(largest_x0(false, &[]) > 1.0, "{sampler}: nothing was to be clamped");
        assert!(largest_x0(true, &[]) <= 1.0, "{sampler}");
        if sampler == Sampler::Unipc {
            assert!(largest_x0(true, &[("predict_x0", json!(false)), ("final_sigmas_type", json!("sigma_min"))]) <= 1.0);
        }
        if sampler == Sampler::Heun {
            assert!(largest_x0(true, &[("clip_sample", json!(false))]) > 1.0, "an option is more exact");
        }
    }
}

#[test]
fn options_of_methods_change_clips() {
    let model = class_model(PredictionType::Epsilon, VarianceType::LearnedRange, false);
    for (sampler, key, value) in [
        (Sampler::DpmMultistep, "use_karras_sigmas", json!(true)),
        (Sampler::DpmMultistep, "solver_order", json!(3)),
        (Sampler::DpmMultistep, "timestep_spacing", json!("trailing")),
        (Sampler::Unipc, "solver_type", json!("bh1")),
        (Sampler::Pndm, "skip_prk_steps", json!(true)),
        (Sampler::Ddim, "timestep_spacing", json!("leading")),
        (Sampler::Ddpm, "timestep_spacing", json!("trailing")),
        (Sampler::Heun, "use_beta_sigmas", json!(true)),
    ] {
        let (without, with) = (params(sampler, 6), with_options(sampler, 6, &[(key, value)]));
        assert_ne!(generate(&model, &without), generate(&model, &with), "{sampler} {key}");
    }
    let stochastic = SamplingParams { eta: 0.5, ..params(Sampler::Ddim, 6) };
    assert_ne!(generate(&model, &params(Sampler::Ddim, 6)), generate(&model, &stochastic));
    let early = SamplingParams { guidance_interval: Some([500.0, 999.0]), ..params(Sampler::Euler, 6) };
    let rescaled = SamplingParams { guidance_rescale: 0.7, ..params(Sampler::Euler, 6) };
    assert_ne!(generate(&model, &params(Sampler::Euler, 6)), generate(&model, &early));
    assert_ne!(generate(&model, &params(Sampler::Euler, 6)), generate(&model, &rescaled));
}

#[test]
fn what_a_method_or_model_does_not_have_is_refused() {
    let model = class_model(PredictionType::Epsilon, VarianceType::Learned, false);
    for (key, params) in [
        ("beta_start", with_options(Sampler::Euler, 4, &[("beta_start", json!(0.1))])),
        ("prediction_type", with_options(Sampler::Ddim, 4, &[("prediction_type", json!("sample"))])),
        ("variance_type", with_options(Sampler::Ddpm, 4, &[("variance_type", json!("fixed_small"))])),
        ("solver_order", with_options(Sampler::Ddim, 4, &[("solver_order", json!(2))])),
        ("solver_order", with_options(Sampler::DpmMultistep, 4, &[("solver_order", json!(9))])),
        ("nonsense", with_options(Sampler::DpmMultistep, 4, &[("nonsense", json!(9))])),
        // The learned variance is a log σ²; diffusers' DDPM reads it as σ².
        ("timestep_spacing", with_options(Sampler::Ddpm, 4, &[("timestep_spacing", json!("leading"))])),
        ("thresholding", with_options(Sampler::Ddim, 4, &[("thresholding", json!(true))])),
        ("eta", SamplingParams { eta: 0.5, ..params(Sampler::Euler, 4) }),
        ("eta", SamplingParams { eta: 0.5, ..params(Sampler::Ddpm, 4) }),
        ("guidance-rescale", SamplingParams { guidance_rescale: -1.0, ..params(Sampler::Euler, 4) }),
        ("guidance-interval", SamplingParams { guidance_interval: Some([2.0, 1.0]), ..params(Sampler::Euler, 4) }),
    ] {
        let message = model.config().check(&params, Some(1)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with(&format!("{key}: ")), "{key}: {message}");
    }
}
