//! A clip that is stopped after any step, saved, and resumed by new objects or another process has the same bits as one that was
//! never stopped.

use std::path::Path;
use std::process::Command;

use candle_core::Tensor;
use latte::{
    CancelToken, ClassModel, ClipPixels, GenerationState, NoProgress, Precision, Request, Resumable, Sampler, SamplingParams,
    TemporalDecoding, TextSettings, TextToVideoParts, Transformer,
};
use latte_model::diffusion::{PredictionType, VarianceType};
use latte_model::text::PromptPair;
use serde_json::{Value, json};

use super::{CancelAfter, class_model};

/// Generates a clip or the rest of one, and stops after prediction `k`; never for 0.
fn generate(
    model: &ClassModel,
    params: &SamplingParams,
    request: Request,
    state: Option<&GenerationState>,
    k: usize,
) -> latte::Result<Resumable<ClipPixels>> {
    let mut progress = CancelAfter::new(k);
    let cancel = progress.cancel.clone();
    model.generate(params, request, state, &mut progress, &cancel)
}

/// The state after it was saved and loaded, as another process gets it.
fn through_a_file<T>(made: Resumable<T>, folder: &Path) -> GenerationState {
    let Resumable::Stopped(state) = made else { panic!("it was not stopped") };
    let path = folder.join("state.safetensors");
    state.save(&path).unwrap();
    GenerationState::load(&path).unwrap()
}

fn finished<T>(made: Resumable<T>) -> T {
    match made {
        Resumable::Finished(made) => made,
        Resumable::Stopped(_) => panic!("it was stopped"),
    }
}

/// A sampler, its η, and its options.
type Method = (Sampler, f64, Vec<(String, Value)>);

/// Every sampler, also with the options that make it store more predictions.
fn methods() -> Vec<Method> {
    let option = |key: &str, value: Value| vec![(key.to_string(), value)];
    let mut methods: Vec<_> = Sampler::ALL.into_iter().map(|kind| (kind, 0.0, Vec::new())).collect();
    methods.extend([
        (Sampler::Ddim, 0.6, Vec::new()),
        (Sampler::Ddim, 0.6, option("timestep_spacing", json!("leading"))),
        (Sampler::Ddpm, 0.0, option("timestep_spacing", json!("leading"))),
        (Sampler::DpmMultistep, 0.0, option("solver_order", json!(3))),
        (Sampler::DpmSinglestep, 0.0, option("solver_order", json!(3))),
        (Sampler::Deis, 0.0, option("solver_order", json!(3))),
        (Sampler::Unipc, 0.0, option("solver_order", json!(3))),
        (Sampler::Pndm, 0.0, option("skip_prk_steps", json!(true))),
    ]);
    methods
}

#[test]
fn class_models_are_resumed_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let model = || class_model(PredictionType::Epsilon, VarianceType::LearnedRange, true);
    let request = Request { class: Some(2), seed: 11 };
    for (sampler, eta, sampler_options) in methods() {
        let params = SamplingParams { sampler, eta, sampler_options, steps: 5, ..SamplingParams::default() };
        let mut progress = CancelAfter::new(0);
        let whole = finished(model().generate(&params, request, None, &mut progress, &CancelToken::new()).unwrap());
        let calls = progress.num_steps;
        assert!(calls >= 5);
        for k in 1..=calls {
            let stopped = generate(&model(), &params, request, None, k).unwrap();
            let state = through_a_file(stopped, folder.path());
            let mut progress = CancelAfter::new(0);
            let rest = model().generate(&params, request, Some(&state), &mut progress, &CancelToken::new());
            assert_eq!(finished(rest.unwrap()), whole, "{sampler} after {k}");
            assert_eq!(progress.heard, (k + 1..=calls).collect::<Vec<_>>(), "{sampler} after {k}");
        }
    }
}

/// Stopped after every single step.
#[test]
fn a_clip_may_be_stopped_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { class: Some(2), seed: 11 };
    for sampler in [Sampler::Unipc, Sampler::DpmMultistepSde, Sampler::Kdpm2Ancestral] {
        let model = class_model(PredictionType::Velocity, VarianceType::FixedSmall, false);
        let params = SamplingParams { sampler, steps: 4, ..SamplingParams::default() };
        let whole = finished(generate(&model, &params, request, None, 0).unwrap());
        let mut state = None;
        let mut k = 0;
        let clip = loop {
            k += 1;
            match generate(&model, &params, request, state.as_ref(), k).unwrap() {
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
    let params = SamplingParams { sampler: Sampler::DpmMultistep, steps: 4, ..SamplingParams::default() };
    let request = Request { class: Some(2), seed: 11 };
    let state = through_a_file(generate(&model, &params, request, None, 2).unwrap(), folder.path());
    let refused = |params: &SamplingParams, request, state: &GenerationState| {
        let result = generate(&model, params, request, Some(state), 0);
        result.err().map(|e| e.to_string()).unwrap_or_default()
    };
    for (params, request) in [
        (params.clone(), Request { seed: 12, ..request }),
        (params.clone(), Request { class: Some(1), ..request }),
        (SamplingParams { steps: 5, ..params.clone() }, request),
        (SamplingParams { sampler: Sampler::Deis, ..params.clone() }, request),
        (SamplingParams { guidance: Some(2.0), ..params.clone() }, request),
        (SamplingParams { precision: Precision::Bf16, ..params.clone() }, request),
        (SamplingParams { sampler_options: vec![("solver_type".into(), json!("heun"))], ..params.clone() }, request),
    ] {
        let message = refused(&params, request, &state);
        assert!(message.starts_with("saved state: it belongs to another clip"), "{message}");
    }
    // Explicit values equal to the defaults are the same settings.
    let said = SamplingParams { frames: Some(2), size: Some([4, 4]), guidance: Some(4.0), ..params.clone() };
    assert_eq!(refused(&said, request, &state), "");

    let mut forgetful = state.clone();
    forgetful.sampling.solver.tensors.remove("memory.0");
    assert!(refused(&params, request, &forgetful).contains("`memory.0` is missing"));
    let mut late = state;
    late.sampling.num_steps = 7;
    assert!(refused(&params, request, &late).contains("a run of 7"));

    let path = folder.path().join("state.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert!(GenerationState::load(&path).is_err());
    let weights = folder.path().join("weights.safetensors");
    let tensors =
        std::iter::once(("x".to_string(), Tensor::zeros(2, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap()));
    latte_model::weights::save(&weights, &tensors.collect(), Some(&json!({"kind": "model"}))).unwrap();
    let message = GenerationState::load(&weights).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("is not the saved state of a clip"), "{message}");
}

fn text_to_video() -> (TextToVideoParts, TextSettings, PromptPair) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v");
    let pipeline = TextToVideoParts::open(&folder).unwrap();
    let settings = TextSettings {
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
    let encoded =
        pipeline.encode_texts(&["a lighthouse", "rain"], true, None, &mut NoProgress, &CancelToken::new()).unwrap().texts;
    let texts = PromptPair::new(&encoded[0], &encoded[1], false).unwrap();
    (pipeline, settings, texts)
}

fn denoise(
    transformer: &Transformer,
    settings: &TextSettings,
    texts: &PromptPair,
    state: Option<&GenerationState>,
    progress: &mut CancelAfter,
) -> latte::Result<Resumable<Tensor>> {
    let cancel = progress.cancel.clone();
    transformer.denoise(settings, texts, Precision::F32, state, progress, &cancel)
}

fn bits(latents: &Tensor) -> Vec<u32> {
    latents.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn text_to_video_is_resumed_after_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, settings, texts) = text_to_video();
    let stopped = |transformer: &Transformer, settings: &TextSettings, state: Option<&GenerationState>, k: usize| {
        denoise(transformer, settings, &texts, state, &mut CancelAfter::new(k)).unwrap()
    };
    for sampler in Sampler::ALL {
        let eta = if sampler == Sampler::Ddim { 0.5 } else { 0.0 };
        let settings = TextSettings { sampler: Some(sampler.name().into()), eta, ..settings.clone() };
        let (first, second) = (pipeline.load_transformer().unwrap(), pipeline.load_transformer().unwrap());
        let mut progress = CancelAfter::new(0);
        let whole = finished(denoise(&first, &settings, &texts, None, &mut progress).unwrap());
        for k in 1..=progress.num_steps {
            let state = through_a_file(stopped(&first, &settings, None, k), folder.path());
            let rest = finished(stopped(&second, &settings, Some(&state), 0));
            assert_eq!(bits(&rest), bits(&whole), "{sampler} after {k}");
        }
    }
    // Decoding settings are not part of the latents; the prompt is.
    let transformer = pipeline.load_transformer().unwrap();
    let state = through_a_file(stopped(&transformer, &settings, None, 2), folder.path());
    let decoded_otherwise = TextSettings { fps: 25.0, ..settings.clone() };
    assert!(matches!(stopped(&transformer, &decoded_otherwise, Some(&state), 0), Resumable::Finished(_)));
    for other in [TextSettings { seed: 6, ..settings.clone() }, TextSettings { prompt: "a boat".into(), ..settings }] {
        let result = denoise(&transformer, &other, &texts, Some(&state), &mut CancelAfter::new(0));
        let message = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with("saved state: it belongs to another clip"), "{message}");
    }
}

/// The environment variable with the folder of states that the second process resumes.
const STATES: &str = "LATTE_TEST_STATES";

/// This process stops clips after their second prediction and saves them; a second process, which runs this same test, resumes
/// them.
#[test]
fn another_process_resumes_what_this_one_stopped() {
    let model = || class_model(PredictionType::Epsilon, VarianceType::LearnedRange, true);
    let request = Request { class: Some(2), seed: 11 };
    let params = |sampler| SamplingParams { sampler, steps: 4, ..SamplingParams::default() };
    let (pipeline, settings, texts) = text_to_video();
    let settings = |sampler: Sampler| TextSettings { sampler: Some(sampler.name().into()), ..settings.clone() };
    let place = |folder: &Path, sampler: Sampler, what: &str| folder.join(format!("{}-{what}", sampler.name()));
    let write = |folder: &Path, sampler, what: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(place(folder, sampler, what), bytes).unwrap();
    };
    let transformer = pipeline.load_transformer().unwrap();
    let flat = |latents: Tensor| latents.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let states = std::env::var_os(STATES);
    if let Some(folder) = states.as_deref().map(Path::new) {
        for sampler in Sampler::ALL {
            let state = |what| GenerationState::load(&place(folder, sampler, what)).unwrap();
            let clip = finished(generate(&model(), &params(sampler), request, Some(&state("class")), 0).unwrap());
            write(folder, sampler, "class-finished", &clip.values);
            let text = state("text");
            let latents = denoise(&transformer, &settings(sampler), &texts, Some(&text), &mut CancelAfter::new(0)).unwrap();
            write(folder, sampler, "text-finished", &flat(finished(latents)));
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stop = |sampler, what: &str, state: GenerationState| state.save(&place(folder.path(), sampler, what)).unwrap();
    for sampler in Sampler::ALL {
        let Resumable::Stopped(state) = generate(&model(), &params(sampler), request, None, 2).unwrap() else {
            panic!("it was not stopped")
        };
        stop(sampler, "class", *state);
        let stopped = denoise(&transformer, &settings(sampler), &texts, None, &mut CancelAfter::new(2)).unwrap();
        let Resumable::Stopped(state) = stopped else { panic!("it was not stopped") };
        stop(sampler, "text", *state);
    }
    let ours = std::env::current_exe().unwrap();
    let name = "resumed::another_process_resumes_what_this_one_stopped";
    let status = Command::new(ours).args(["--exact", name]).env(STATES, folder.path()).status().unwrap();
    assert!(status.success());
    for sampler in Sampler::ALL {
        let clip = finished(generate(&model(), &params(sampler), request, None, 0).unwrap());
        write(folder.path(), sampler, "class-whole", &clip.values);
        let latents = denoise(&transformer, &settings(sampler), &texts, None, &mut CancelAfter::new(0)).unwrap();
        write(folder.path(), sampler, "text-whole", &flat(finished(latents)));
        for what in ["class", "text"] {
            let bytes = |end: &str| std::fs::read(place(folder.path(), sampler, &format!("{what}-{end}"))).unwrap();
            assert!(!bytes("whole").is_empty() && bytes("finished") == bytes("whole"), "{sampler} {what}");
        }
    }
}
