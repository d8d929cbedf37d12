//! A clip that is stopped after any step, saved, and gone on with by new objects has the bits of one that was never stopped.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Tensor;
use latte::diffusion::{PredictionType, VarianceType};
use latte::pipeline::{GenerationState, Recipe, Request, Resumable, T2vSettings, TemporalDecoding, TextToVideo, Transformer};
use latte::sampling::{SolverKind, StepReport};
use latte::text::PromptPair;
use latte_ops::Precision;
use serde_json::{Value, json};

use super::class_model;

/// Stops after `k` predictions.
fn stop_after(k: usize) -> impl FnMut(&StepReport) -> ControlFlow<()> {
    move |report| if report.done == k { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The state through a file, as another process has it.
fn through_a_file<T>(made: Resumable<T>, folder: &Path) -> GenerationState {
    let Resumable::Stopped(state) = made else { panic!("it was not stopped") };
    let path = folder.join("state.safetensors");
    state.save(&path).unwrap();
    GenerationState::load(&path).unwrap()
}

fn finished<T>(made: Resumable<T>) -> T {
    match made {
        Resumable::Finished(made) => made,
        Resumable::Stopped(_) => panic!("nobody stopped it"),
    }
}

/// Every method, also with the options that make it remember more.
fn methods() -> Vec<(SolverKind, f64, Vec<(String, Value)>)> {
    let option = |key: &str, value: Value| vec![(key.to_string(), value)];
    let mut methods: Vec<_> = SolverKind::ALL.into_iter().map(|kind| (kind, 0.0, Vec::new())).collect();
    methods.extend([
        (SolverKind::Ddim, 0.6, Vec::new()),
        (SolverKind::Ddim, 0.6, option("timestep_spacing", json!("leading"))),
        (SolverKind::Ddpm, 0.0, option("timestep_spacing", json!("leading"))),
        (SolverKind::DpmMultistep, 0.0, option("solver_order", json!(3))),
        (SolverKind::DpmSinglestep, 0.0, option("solver_order", json!(3))),
        (SolverKind::Deis, 0.0, option("solver_order", json!(3))),
        (SolverKind::Unipc, 0.0, option("solver_order", json!(3))),
        (SolverKind::Pndm, 0.0, option("skip_prk_steps", json!(true))),
    ]);
    methods
}

#[test]
fn class_models_go_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let model = || class_model(PredictionType::Epsilon, VarianceType::LearnedRange, true);
    let request = Request { class: Some(2), seed: 11 };
    for (sampler, eta, sampler_options) in methods() {
        let recipe = Recipe { sampler, eta, sampler_options, steps: 5, ..Recipe::default() };
        let mut calls = 0;
        let whole = finished(
            model()
                .generate_resumable(&recipe, request, None, &mut |report| {
                    calls = report.num_steps;
                    ControlFlow::Continue(())
                })
                .unwrap(),
        );
        assert!(calls >= 5);
        for k in 1..=calls {
            let stopped = model().generate_resumable(&recipe, request, None, &mut stop_after(k)).unwrap();
            let state = through_a_file(stopped, folder.path());
            let mut seen = Vec::new();
            let rest = model().generate_resumable(&recipe, request, Some(&state), &mut |report| {
                seen.push(report.done);
                ControlFlow::Continue(())
            });
            assert_eq!(finished(rest.unwrap()), whole, "{sampler} after {k}");
            assert_eq!(seen, (k + 1..=calls).collect::<Vec<_>>(), "{sampler} after {k}");
        }
    }
}

/// Stopped after every single step.
#[test]
fn a_clip_may_be_stopped_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { class: Some(2), seed: 11 };
    for sampler in [SolverKind::Unipc, SolverKind::DpmMultistepSde, SolverKind::Kdpm2Ancestral] {
        let model = class_model(PredictionType::Velocity, VarianceType::FixedSmall, false);
        let recipe = Recipe { sampler, steps: 4, ..Recipe::default() };
        let whole = finished(model.generate_resumable(&recipe, request, None, &mut stop_after(0)).unwrap());
        let mut state = None;
        let mut k = 0;
        let clip = loop {
            k += 1;
            match model.generate_resumable(&recipe, request, state.as_ref(), &mut stop_after(k)).unwrap() {
                Resumable::Finished(clip) => break clip,
                stopped @ Resumable::Stopped(_) => state = Some(through_a_file(stopped, folder.path())),
            }
        };
        assert!(k > 4 && clip == whole, "{sampler} {k}");
    }
}

#[test]
fn a_state_of_another_clip_or_a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = class_model(PredictionType::Epsilon, VarianceType::LearnedRange, true);
    let recipe = Recipe { sampler: SolverKind::DpmMultistep, steps: 4, ..Recipe::default() };
    let request = Request { class: Some(2), seed: 11 };
    let state = through_a_file(model.generate_resumable(&recipe, request, None, &mut stop_after(2)).unwrap(), folder.path());
    let refused = |recipe: &Recipe, request, state: &GenerationState| {
        let result = model.generate_resumable(recipe, request, Some(state), &mut stop_after(0));
        result.err().map(|e| e.to_string()).unwrap_or_default()
    };
    for (recipe, request) in [
        (recipe.clone(), Request { seed: 12, ..request }),
        (recipe.clone(), Request { class: Some(1), ..request }),
        (Recipe { steps: 5, ..recipe.clone() }, request),
        (Recipe { sampler: SolverKind::Deis, ..recipe.clone() }, request),
        (Recipe { guidance: Some(2.0), ..recipe.clone() }, request),
        (Recipe { precision: Precision::Bf16, ..recipe.clone() }, request),
        (Recipe { sampler_options: vec![("solver_order".into(), json!(3))], ..recipe.clone() }, request),
    ] {
        let message = refused(&recipe, request, &state);
        assert!(message.starts_with("saved state: it belongs to another clip"), "{message}");
    }
    // Saying what holds anyway changes nothing.
    let said = Recipe { frames: Some(2), size: Some([4, 4]), guidance: Some(4.0), ..recipe.clone() };
    assert_eq!(refused(&said, request, &state), "");

    let mut forgetful = state.clone();
    forgetful.sampling.solver.tensors.remove("memory.0");
    assert!(refused(&recipe, request, &forgetful).contains("`memory.0` is missing"));
    let mut late = state;
    late.sampling.num_steps = 7;
    assert!(refused(&recipe, request, &late).contains("a run of 7"));

    let path = folder.path().join("state.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert!(GenerationState::load(&path).is_err());
    let weights = folder.path().join("weights.safetensors");
    let tensors =
        std::iter::once(("x".to_string(), Tensor::zeros(2, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()));
    latte::weights::save(&weights, &tensors.collect(), Some(&json!({"kind": "model"}))).unwrap();
    let message = GenerationState::load(&weights).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("is no file of a clip that was begun"), "{message}");
}

fn text_to_video() -> (TextToVideo, T2vSettings, PromptPair) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v");
    let pipeline = TextToVideo::open(&folder).unwrap();
    let settings = T2vSettings {
        prompt: "a lighthouse".into(),
        negative_prompt: "rain".into(),
        seed: 5,
        num_steps: 5,
        guidance_scale: 4.0,
        guidance_interval: None,
        guidance_rescale: 0.0,
        num_frames: 2,
        size: pipeline.default_size(),
        scheduler: pipeline.scheduler_with(&[]).unwrap(),
        sampler: None,
        eta: 0.0,
        temporal_attention: true,
        temporal_decoder: TemporalDecoding::Off,
        tile: None,
        clean_caption: true,
        compat_masking: false,
        fps: 8.0,
    };
    let encoded = pipeline.encode_texts(&["a lighthouse", "rain"], true, None, &mut |_, _| {}).unwrap().texts;
    let texts = PromptPair::new(&encoded[0], &encoded[1], false).unwrap();
    (pipeline, settings, texts)
}

fn bits(latents: &Tensor) -> Vec<u32> {
    latents.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn text_to_video_goes_on_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, settings, texts) = text_to_video();
    let denoise = |transformer: &Transformer, settings: &T2vSettings, state: Option<&GenerationState>, k: usize| {
        transformer.denoise_resumable(settings, &texts, Precision::F32, state, &mut stop_after(k)).unwrap()
    };
    for sampler in SolverKind::ALL {
        let eta = if sampler == SolverKind::Ddim { 0.5 } else { 0.0 };
        let settings = T2vSettings { sampler: Some(sampler.name().into()), eta, ..settings.clone() };
        let (first, second) = (pipeline.load_transformer().unwrap(), pipeline.load_transformer().unwrap());
        let mut calls = 0;
        let whole = first.denoise(&settings, &texts, Precision::F32, &mut |_, total| calls = total).unwrap();
        for k in 1..=calls {
            let state = through_a_file(denoise(&first, &settings, None, k), folder.path());
            let rest = finished(denoise(&second, &settings, Some(&state), 0));
            assert_eq!(bits(&rest), bits(&whole), "{sampler} after {k}");
        }
    }
    // How latents are decoded is not part of them; what they show is.
    let transformer = pipeline.load_transformer().unwrap();
    let state = through_a_file(denoise(&transformer, &settings, None, 2), folder.path());
    let decoded_otherwise = T2vSettings { fps: 25.0, ..settings.clone() };
    assert!(matches!(denoise(&transformer, &decoded_otherwise, Some(&state), 0), Resumable::Finished(_)));
    for other in [T2vSettings { seed: 6, ..settings.clone() }, T2vSettings { prompt: "a boat".into(), ..settings }] {
        let result = transformer.denoise_resumable(&other, &texts, Precision::F32, Some(&state), &mut stop_after(0));
        let message = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with("saved state: it belongs to another clip"), "{message}");
    }
}
