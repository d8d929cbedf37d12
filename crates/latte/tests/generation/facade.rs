//! What users of the crate use: models opened from disk, requests, progress, and work that is stopped.

use std::path::{Path, PathBuf};

use latte::{
    Cache, CancelToken, ClassRequest, Error, GenerationProgress, Generator, NoProgress, Precision, Progress, Residency, Sampler,
    Stage, TextOf, TextRequest, TextToVideo, contact_sheet_of,
};
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::diffusion::{DiffusionConfig, PredictionType, VarianceType};
use latte_model::vae::AutoencoderConfig;

use super::class_model;

/// A run folder with one checkpoint of a tiny class model.
fn saved_model(folder: &Path) -> PathBuf {
    let model = class_model(PredictionType::X0, VarianceType::FixedLarge, true);
    let metadata = CheckpointMetadata {
        format: latte_model::checkpoint::FORMAT,
        model: model.config().network.clone(),
        diffusion: DiffusionConfig { prediction: PredictionType::X0, variance: VarianceType::FixedLarge, ..Default::default() },
        autoencoder: AutoencoderConfig::default(),
        vae: None,
        classes: vec!["cat".into(), "dog".into(), "a/b".into()],
        frame_size: [4, 4],
        num_frames: 2,
        fps: 8.0,
        step: 3,
        ema: true,
    };
    let path = folder.join("ema.safetensors");
    latte_model::weights::save(&path, model.weights(), Some(&serde_json::to_value(&metadata).unwrap())).unwrap();
    folder.to_path_buf()
}

fn latte_t2v() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v")
}

fn text_to_video(residency: Residency, cache: Cache) -> TextToVideo {
    TextToVideo::open(latte_t2v()).unwrap().residency(residency).cache(cache).load().unwrap()
}

fn request() -> TextRequest {
    TextRequest::new("a lighthouse").steps(3).frames(2).seed(4).sampler(Sampler::DpmMultistep)
}

/// The reports that were received, as text.
#[derive(Default)]
struct Diary {
    stages: Vec<(Stage, u64, u64)>,
    said: Vec<String>,
    cancel_at: Option<(Stage, u64)>,
    cancel: CancelToken,
}

impl Progress for Diary {
    fn stage(&mut self, stage: Stage, done: u64, total: u64) {
        self.stages.push((stage, done, total));
        if self.cancel_at == Some((stage, done)) {
            self.cancel.cancel();
        }
    }

    fn note(&mut self, message: &str) {
        self.said.push(message.into());
    }

    fn warning(&mut self, message: &str) {
        self.said.push(format!("warning: {message}"));
    }
}

impl GenerationProgress for Diary {}

#[test]
fn a_generator_opens_makes_and_saves() {
    let folder = tempfile::tempdir().unwrap();
    let model = Generator::open(saved_model(folder.path())).unwrap().load().unwrap();
    assert_eq!(model.weights().unwrap(), folder.path().join("ema.safetensors"));
    let request = ClassRequest::class("dog").seed(7).steps(2);
    let clip = model.generate(&request).unwrap();
    assert_eq!((clip.name.as_str(), clip.label.as_str(), clip.class), ("dog_seed7", "dog, seed 7", Some(1)));
    assert_eq!(clip.clip.shape(), [2, 4, 4, 3]);
    let by_number = model.generate(&ClassRequest::class(1).seed(7).steps(2)).unwrap();
    assert_eq!(by_number.clip, clip.clip);
    let enlarged = model.generate(&request.clone().enlarge(4)).unwrap();
    assert_eq!(enlarged.clip.shape(), [2, 16, 16, 3]);
    // No file name contains a separator.
    assert_eq!(model.generate(&ClassRequest::class("a/b").steps(1)).unwrap().name, "a_b_seed0");
    let path = |name: &str| folder.path().join(name);
    enlarged.save_mp4(path("a.mp4")).unwrap();
    enlarged.save_gif(path("a.gif")).unwrap();
    enlarged.save_png_frames(path("frames")).unwrap();
    assert!(path("a.mp4").is_file() && path("a.gif").is_file() && path("frames").is_dir());
    assert!(contact_sheet_of([&clip, &enlarged]).is_ok());
    assert!(contact_sheet_of(&[]).is_err());
}

#[test]
fn requests_that_do_not_fit_name_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let model = Generator::open(saved_model(folder.path())).unwrap().load().unwrap();
    let key = |request: &ClassRequest| match model.generate(request) {
        Err(Error::Config { key, problem }) => {
            assert!(!problem.is_empty());
            key
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(key(&ClassRequest::unconditional()), "class");
    assert_eq!(key(&ClassRequest::class("bird")), "class");
    assert_eq!(key(&ClassRequest::class(3)), "class");
    assert_eq!(key(&ClassRequest::class(0).steps(0)), "steps");
    assert_eq!(key(&ClassRequest::class(0).size([5, 4])), "size");
    assert_eq!(key(&ClassRequest::class(0).frames(0)), "frames");
    assert_eq!(key(&ClassRequest::class(0).guidance(f64::NAN)), "guidance");
    assert_eq!(key(&ClassRequest::class(0).enlarge(0)), "enlarge");
    assert_eq!(key(&ClassRequest::class(0).sampler_option("nonsense", 1)), "nonsense");
    assert!(matches!(Generator::open(folder.path().join("none")), Err(Error::Model(_))));
    let vae = Generator::open(folder.path()).unwrap().autoencoder("vae").load();
    assert!(matches!(vae, Err(Error::Config { key, .. }) if key == "autoencoder"));
}

#[test]
fn a_generator_stops_when_it_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let model = Generator::open(saved_model(folder.path())).unwrap().load().unwrap();
    let request = ClassRequest::class(0).steps(3);
    let mut diary = Diary { cancel_at: Some((Stage::Denoising, 2)), ..Diary::default() };
    let cancel = diary.cancel.clone();
    assert!(matches!(model.generate_with(&request, &mut diary, &cancel), Err(Error::Cancelled)));
    assert_eq!(diary.stages, [(Stage::Denoising, 1, 3), (Stage::Denoising, 2, 3)]);
    // Before the first prediction: the state is the initial noise, and the clip is the same.
    let stopped = model.generate_resumable(&request, None, &mut NoProgress, &cancel).unwrap();
    let latte::Resumable::Stopped(state) = stopped else { panic!("it was not stopped") };
    assert_eq!(state.sampling.done, 0);
    let resumed = model.generate_resumable(&request, Some(&state), &mut NoProgress, &CancelToken::new()).unwrap();
    assert_eq!(resumed.finished().unwrap().clip, model.generate(&request).unwrap().clip);
}

#[test]
fn several_clips_of_a_generator_are_those_made_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = Generator::open(saved_model(folder.path())).unwrap().load().unwrap();
    let requests = [ClassRequest::class(0).steps(2), ClassRequest::class("dog").seed(3).steps(2)];
    let (mut diary, mut made) = (Diary::default(), Vec::new());
    let all = model.generate_all(&requests, &mut diary, &CancelToken::new(), &mut |index, clip| {
        made.push((index, clip.clip));
        Ok(())
    });
    assert!(all.is_ok());
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(made[index], (index, model.generate(request).unwrap().clip));
    }
    let denoising: Vec<_> = diary.stages.iter().filter(|(stage, ..)| *stage == Stage::Denoising).collect();
    assert_eq!(denoising.iter().map(|(_, done, total)| (*done, *total)).collect::<Vec<_>>(), [(1, 4), (2, 4), (3, 4), (4, 4)]);
    let refused = model.generate_all(&requests, &mut NoProgress, &CancelToken::new(), &mut |_, _| Err(Error::Cancelled));
    assert!(matches!(refused, Err(Error::Cancelled)));
}

#[test]
fn raw_weights_are_those_of_a_checkpoint_and_not_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = saved_model(folder.path()).join("ema.safetensors");
    let raw = |path: &Path| Generator::open(path).unwrap().raw_weights().weights().to_path_buf();
    assert_eq!(raw(folder.path()), folder.path().join("model.safetensors"));
    assert_eq!(raw(&file), file);
}

/// A server shares one model among threads.
#[test]
fn models_can_be_shared_among_threads() {
    fn shared<T: Send + Sync>() -> &'static str {
        std::any::type_name::<T>()
    }
    assert!(shared::<Generator>().ends_with("Generator") && shared::<TextToVideo>().ends_with("TextToVideo"));
}

#[test]
fn text_becomes_the_same_clip_however_the_model_is_kept() {
    let staged = text_to_video(Residency::Staged, Cache::none());
    let resident = text_to_video(Residency::Resident, Cache::none());
    let clip = staged.generate(&request()).unwrap();
    assert!(clip.name.starts_with("a_lighthouse") && clip.name.ends_with("_seed4"), "{}", clip.name);
    assert_eq!(clip.clip.num_frames(), 2);
    for precision in [Precision::F32, Precision::Bf16, Precision::F32] {
        let request = request().precision(precision);
        let [ours, theirs] = [&resident, &staged].map(|model| model.generate(&request).unwrap().clip);
        assert_eq!(ours, theirs, "{precision}");
    }
    // Other settings need another decoder.
    let image = request().frames(1);
    assert_eq!(resident.generate(&image).unwrap().clip, staged.generate(&image).unwrap().clip);
}

#[test]
fn several_clips_share_stages_and_are_those_made_one_by_one() {
    let model = text_to_video(Residency::Staged, Cache::none());
    let requests = [request(), request().seed(5), TextRequest { prompt: "a boat".into(), ..request() }];
    let clips = requests.each_ref().map(|request| model.resolve(request).unwrap());
    let mut made = Vec::new();
    let mut diary = Diary::default();
    model
        .generate_all(&clips, &mut diary, &CancelToken::new(), &mut |index, clip| {
            made.push((index, clip.clip));
            Ok(())
        })
        .unwrap();
    for (index, request) in requests.iter().enumerate() {
        assert_eq!(made[index], (index, model.generate(request).unwrap().clip));
    }
    let last = |stage| diary.stages.iter().rfind(|(of, ..)| *of == stage).map(|(_, done, total)| (*done, *total));
    assert_eq!((last(Stage::Denoising), last(Stage::Decoding)), (Some((9, 9)), Some((6, 6))));
    let order: Vec<Stage> = diary.stages.iter().map(|(stage, ..)| *stage).collect();
    assert!(
        order.is_sorted_by_key(|stage| [Stage::EncodingText, Stage::Denoising, Stage::Decoding].iter().position(|s| s == stage))
    );

    let mixed = [clips[0].clone(), model.resolve(&request().precision(Precision::Bf16)).unwrap()];
    let refused = model.generate_all(&mixed, &mut NoProgress, &CancelToken::new(), &mut |_, _| Ok(()));
    assert!(matches!(refused, Err(Error::Config { key, .. }) if key == "clips"));
}

#[test]
fn work_on_text_stops_in_every_stage_and_finished_latents_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let requests = [request(), request().seed(5)];
    for (stage, done) in [(Stage::EncodingText, 1), (Stage::Denoising, 4), (Stage::Decoding, 2)] {
        let model = text_to_video(Residency::Staged, Cache::at(folder.path()));
        let clips = requests.each_ref().map(|request| model.resolve(request).unwrap());
        let mut diary = Diary { cancel_at: Some((stage, done)), ..Diary::default() };
        let cancel = diary.cancel.clone();
        let stopped = model.generate_all(&clips, &mut diary, &cancel, &mut |_, _| Ok(()));
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stage:?}");
        assert_eq!(diary.stages.last().map(|(of, done, _)| (*of, *done)), Some((stage, done)));
    }
    // The latents of both clips were finished; only decoding remains.
    let model = text_to_video(Residency::Staged, Cache::at(folder.path()));
    let clips = requests.each_ref().map(|request| model.resolve(request).unwrap());
    let (mut diary, mut made) = (Diary::default(), Vec::new());
    model
        .generate_all(&clips, &mut diary, &CancelToken::new(), &mut |_, clip| {
            made.push(clip.clip);
            Ok(())
        })
        .unwrap();
    assert_eq!(diary.stages.iter().filter(|(stage, ..)| *stage == Stage::Denoising).count(), 1);
    assert_eq!(made, requests.map(|request| text_to_video(Residency::Staged, Cache::none()).generate(&request).unwrap().clip));
    assert_eq!(std::fs::read_dir(folder.path().join("latents")).unwrap().count(), 0);
}

#[test]
fn what_is_not_read_of_a_text_is_a_warning() {
    let model = text_to_video(Residency::Staged, Cache::none());
    let long = "a lighthouse ".repeat(200);
    let clips = [request(), TextRequest { prompt: long, ..request() }.negative_prompt("rain").guidance(1.0)];
    let clips = clips.each_ref().map(|request| model.resolve(request).unwrap());
    let mut diary = Diary { cancel_at: Some((Stage::Denoising, 0)), ..Diary::default() };
    let cancel = diary.cancel.clone();
    assert!(matches!(model.generate_all(&clips, &mut diary, &cancel, &mut |_, _| Ok(())), Err(Error::Cancelled)));
    assert_eq!(diary.said.len(), 2, "{:?}", diary.said);
    assert!(diary.said[0].starts_with("warning: prompt of clip 2: "), "{:?}", diary.said);
    assert!(diary.said[1].starts_with("warning: negative prompt of clip 2: is not read"), "{:?}", diary.said);

    struct Texts(Vec<(usize, TextOf)>);
    impl Progress for Texts {}
    impl GenerationProgress for Texts {
        fn text_left_out(&mut self, clip: usize, text: TextOf, _: &str) {
            self.0.push((clip, text));
        }
    }
    let mut texts = Texts(Vec::new());
    assert!(model.generate_all(&clips, &mut texts, &cancel, &mut |_, _| Ok(())).is_err());
    assert!(texts.0.is_empty(), "cancelled before anything was read");
}
