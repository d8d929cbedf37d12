//! The original's YAML files as configurations of this program.

use std::path::Path;

use latte_model::diffusion::VarianceType;
use latte_model::vae::AutoencoderKind;
use latte_ops::Precision;
use latte_train::{ActivationCheckpointing, ConditionKind, TrainConfig, Translation};

/// The differences between the original's training files: data set, list of images and their folder, images per clip, model, clips,
/// steps before clipping, classes, and the key for the authors' storage.
struct Official {
    dataset: &'static str,
    images: &'static [&'static str],
    use_image_num: Option<usize>,
    model: &'static str,
    local_batch_size: usize,
    start_clip_iter: u64,
    classes: Option<usize>,
    storage: &'static str,
}

const VIDEO: Official = Official {
    dataset: "ffs",
    images: &[],
    use_image_num: None,
    model: "Latte-XL/2",
    local_batch_size: 5,
    start_clip_iter: 20_000,
    classes: None,
    storage: "save_ceph: True",
};
const JOINT: Official = Official { use_image_num: Some(8), model: "LatteIMG-XL/2", local_batch_size: 4, ..VIDEO };

fn all() -> [Official; 8] {
    let list_and_folder = &["frame_data_path: \"data/images/\"", "frame_data_txt: \"data/train_list.txt\""];
    let list = &["frame_data_txt: \"data/train_256_list.txt\""];
    [
        VIDEO,
        Official { dataset: "ffs_img", images: list_and_folder, start_clip_iter: 500_000, ..JOINT },
        Official { dataset: "sky", ..VIDEO },
        Official { dataset: "sky_img", ..JOINT },
        Official { dataset: "ucf101", start_clip_iter: 100_000, classes: Some(101), ..VIDEO },
        Official { dataset: "ucf101_img", images: list, start_clip_iter: 100_000, classes: Some(101), ..JOINT },
        Official { dataset: "taichi", start_clip_iter: 500_000, storage: "load_from_ceph: False", ..VIDEO },
        Official { dataset: "taichi_img", start_clip_iter: 500_000, storage: "load_from_ceph: False", ..JOINT },
    ]
}

impl Official {
    /// A file with the original's keys in the original's order.
    fn text(&self) -> String {
        let mut lines = vec![
            "# dataset".to_string(),
            format!("dataset: \"{}\"", self.dataset),
            "data_path: \"/path/to/videos/\" # a comment".into(),
        ];
        lines.extend(self.images.iter().map(ToString::to_string));
        let root = if self.use_image_num.is_some() { "./results_img" } else { "./results" };
        lines.push("pretrained_model_path: \"/path/to/pretrained/Latte/\"".into());
        lines.push(format!("results_dir: \"{root}\"\npretrained:\n\nmodel: {}", self.model));
        lines.push("num_frames: 16\nimage_size: 256 # choices=[256, 512]\nnum_sampling_steps: 250\nframe_interval: 3".into());
        lines.push("fixed_spatial: False\nattention_bias: True\nlearn_sigma: True # important".into());
        lines.push(format!("extras: {}\n{}", 1 + usize::from(self.classes.is_some()), self.storage));
        lines.extend(self.use_image_num.map(|n| format!("use_image_num: {n}")));
        lines.push("learning_rate: 1e-4\nckpt_every: 10000\nclip_max_norm: 0.1".into());
        lines.push(format!("start_clip_iter: {}\nlocal_batch_size: {}", self.start_clip_iter, self.local_batch_size));
        lines.push("max_train_steps: 1000000\nglobal_seed: 3407\nnum_workers: 8\nlog_every: 100\nlr_warmup_steps: 0".into());
        lines.push("resume_from_checkpoint:\ngradient_accumulation_steps: 1 # TODO".into());
        lines.push(format!("num_classes: {}", self.classes.map_or_else(String::new, |n| n.to_string())));
        lines.push("use_compile: False\nmixed_precision: False".into());
        lines.push("enable_xformers_memory_efficient_attention: False\ngradient_checkpointing: False\n".into());
        lines.join("\n")
    }
}

fn read(text: &str, overrides: &[&str]) -> latte_train::Result<(TrainConfig, Translation)> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::from_official(text, "x.yaml", &overrides)
}

/// A list of images needs its folder, which the original's file for UCF101 lacks.
fn overrides(official: &Official) -> &'static [&'static str] {
    if official.images.len() == 1 { &["data.image_path=data/images"] } else { &[] }
}

#[test]
fn all_training_files_of_the_original_mean_what_they_say() {
    for official in all() {
        let (config, translation) = read(&official.text(), overrides(&official)).unwrap();
        let joint = official.use_image_num.is_some();
        let name = official.dataset;
        let data = &config.data;
        assert_eq!((data.path.to_str(), data.num_frames, data.frame_interval), (Some("/path/to/videos/"), 16, 3), "{name}");
        assert_eq!((data.size.height_width(), data.joint_images), ([256, 256], official.use_image_num.unwrap_or(0)), "{name}");
        let layout = match name.trim_end_matches("_img") {
            "ffs" => "faceforensics",
            "sky" => "skytimelapse",
            "taichi" => "taichi_hd",
            other => other,
        };
        assert_eq!(data.layout.to_string(), layout);
        // Flips are decided by the layout.
        assert_eq!(data.flip, !name.starts_with("sky"), "{name}");
        assert_eq!(data.image_list.is_some(), !official.images.is_empty(), "{name}");
        assert_eq!((config.model.preset.as_deref(), config.model.class_dropout), (Some("Latte-XL/2"), 0.1), "{name}");
        let condition = if official.classes.is_some() { ConditionKind::Class } else { ConditionKind::None };
        assert_eq!((config.model.condition, config.model.num_classes), (condition, official.classes), "{name}");
        let o = &config.optimizer;
        assert_eq!((o.learning_rate, o.warmup_steps, o.max_grad_norm, o.ema_decay), (1e-4, 0, 0.1, 0.9999), "{name}");
        assert_eq!(o.start_clip_iter, official.start_clip_iter, "{name}");
        let train = &config.train;
        assert_eq!(
            (train.batch_size, train.gradient_accumulation_steps, train.seed),
            (official.local_batch_size, 1, 3407),
            "{name}"
        );
        assert_eq!((train.max_steps, config.output.checkpoint_every), (1_000_000, 10_000), "{name}");
        assert_eq!((train.precision, train.activation_checkpointing), (Precision::F32, ActivationCheckpointing::None), "{name}");
        assert_eq!(config.diffusion.variance, VarianceType::LearnedRange, "{name}");
        let vae = if joint { "/path/to/pretrained/Latte/sd-vae-ft-mse" } else { "/path/to/pretrained/Latte/vae" };
        assert_eq!((config.autoencoder.kind, config.autoencoder.path.as_deref()), (AutoencoderKind::Kl, Some(Path::new(vae))));
        let run = format!("{}/Latte-XL-2-F16S3-{name}", if joint { "./results_img" } else { "./results" });
        assert_eq!(config.output.run.to_str(), Some(run.as_str()));

        // The report has every key of the file once.
        let mut keys: Vec<&str> = translation.honoured.iter().chain(&translation.idle).map(|k| k.key.as_str()).collect();
        keys.sort_unstable();
        let text = official.text();
        let mut written: Vec<&str> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.split_once(':')?.0)).collect();
        written.sort_unstable();
        assert_eq!(keys, written, "{name}");
        let idle: Vec<&str> = translation.idle.iter().map(|k| k.key.as_str()).collect();
        for key in ["num_sampling_steps", "attention_bias", "fixed_spatial", "log_every", "resume_from_checkpoint", "use_compile"]
        {
            assert!(idle.contains(&key), "{key}");
        }
    }
}

#[test]
fn the_report_says_what_each_key_means() {
    let (_, translation) = read(&VIDEO.text(), &[]).unwrap();
    let lines = translation.lines();
    let of = |key: &str| lines.iter().find(|l| l.trim_start().starts_with(key)).unwrap().clone();
    assert!(of("dataset").contains("data.layout = \"faceforensics\""), "{}", of("dataset"));
    assert!(of("learning_rate: 1e-4").contains("optimizer.learning_rate = 1e-4  (the original always took 1e-4)"));
    assert!(
        of("local_batch_size: 5").contains("train.batch_size = 5")
            && of("local_batch_size").contains("gradient_accumulation_steps = 8")
    );
    assert!(of("attention_bias").contains("never read"));
    let (honoured, idle) = (
        lines.iter().position(|l| l == "honoured:").unwrap(),
        lines.iter().position(|l| l.starts_with("without effect")).unwrap(),
    );
    assert!(honoured < idle && lines.iter().all(|l| !l.contains('\n')));
}

#[test]
fn options_that_the_original_ignored_are_honoured() {
    let text = VIDEO
        .text()
        .replace("learning_rate: 1e-4", "learning_rate: 3e-4")
        .replace("lr_warmup_steps: 0", "lr_warmup_steps: 500")
        .replace("mixed_precision: False", "mixed_precision: True")
        .replace("gradient_checkpointing: False", "gradient_checkpointing: True")
        .replace("learn_sigma: True", "learn_sigma: False")
        .replace("pretrained:\n", "pretrained: ./0040000.pt\n")
        .replace("gradient_accumulation_steps: 1", "gradient_accumulation_steps: 8");
    let (config, _) = read(&text, &["train.min_snr_gamma=5", "data.path=mine"]).unwrap();
    assert_eq!((config.optimizer.learning_rate, config.optimizer.warmup_steps), (3e-4, 500));
    assert_eq!(
        (config.train.precision, config.train.activation_checkpointing),
        (Precision::Bf16, ActivationCheckpointing::Block)
    );
    assert_eq!(config.diffusion.variance, VarianceType::FixedLarge);
    assert_eq!(config.init.as_ref().unwrap().path.to_str(), Some("./0040000.pt"));
    // The original counts passes.
    assert_eq!((config.train.gradient_accumulation_steps, config.train.max_steps), (8, 125_000));
    assert_eq!((config.optimizer.start_clip_iter, config.output.checkpoint_every), (2500, 1250));
    assert_eq!((config.train.min_snr_gamma, config.data.path.to_str()), (Some(5.0), Some("mine")));
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let change = |from: &str, to: &str| {
        let text = VIDEO.text();
        assert!(text.contains(from), "{from}");
        read(&text.replace(from, to), &[]).unwrap_err().to_string()
    };
    let cases = [
        (change("fixed_spatial: False", "fixed_spatial: True"), "x.yaml: fixed_spatial: refused: "),
        (change("extras: 1", "extras: 78"), "x.yaml: extras: refused: "),
        (change("extras: 1", "extras: three"), "x.yaml: extras: refused: expected 1"),
        (change("resume_from_checkpoint:", "resume_from_checkpoint: 0010000.pt"), "x.yaml: resume_from_checkpoint: refused: "),
        (change("model: Latte-XL/2", "model: LatteT2V"), "x.yaml: model: "),
        (change("model: Latte-XL/2", "model: Latte-XXL/2"), "x.yaml: model: there is no `Latte-XXL/2`"),
        (change("dataset: \"ffs\"", "dataset: \"webvid\""), "x.yaml: dataset: `webvid` is no data set"),
        (change("dataset: \"ffs\"", "dataset: \"ffs_img\""), "x.yaml: use_image_num: missing"),
        (change("ckpt_every:", "ckpt_evry:"), "x.yaml: ckpt_evry: unknown key; did you mean `ckpt_every`?"),
        (change("log_every: 100", "min_snr_gamma: 5"), "x.yaml: min_snr_gamma: unknown key; "),
        (change("log_every: 100", "cfg_scale: 7.0"), "x.yaml: cfg_scale: a key of the original's sampling files"),
        (change("log_every: 100", "sample_names: [0, 1]"), "x.yaml: sample_names: a key of the original's sampling files"),
        (change("max_train_steps: 1000000\n", ""), "x.yaml: max_train_steps: missing"),
        (change("data_path: \"/path/to/videos/\"", "data_path:"), "x.yaml: data_path: missing"),
        (change("image_size: 256", "image_size: big"), "x.yaml: image_size: expected a whole number of at least 0, got \"big\""),
        (change("learn_sigma: True", "learn_sigma: 1"), "x.yaml: learn_sigma: expected True or False, got 1"),
    ];
    for (message, expected) in cases {
        assert!(message.starts_with(expected) && !message.contains('\n'), "{expected}: {message}");
    }
    let two = VIDEO.text().replace("fixed_spatial: False", "fixed_spatial: True").replace("extras: 1", "extras: 78");
    let message = read(&two, &[]).unwrap_err().to_string();
    assert!(message.contains("fixed_spatial: refused") && message.contains("refused too: extras: "), "{message}");
}

#[test]
fn keys_that_only_joint_training_reads_say_nothing_elsewhere() {
    let text = format!("{}use_image_num: 8\nframe_data_txt: list.txt\n", VIDEO.text());
    let (config, translation) = read(&text, &[]).unwrap();
    assert_eq!((config.data.joint_images, config.data.image_list), (0, None));
    assert!(translation.idle.iter().filter(|k| k.meaning.contains("_img")).count() == 2);
    let sky = Official { dataset: "sky_img", images: &["frame_data_txt: list.txt"], ..JOINT };
    let (config, _) = read(&sky.text(), &[]).unwrap();
    assert_eq!((config.data.joint_images, config.data.image_list), (8, None));
}

#[test]
fn the_shipped_configurations_are_the_originals() {
    for official in all() {
        let joint = official.use_image_num.is_some();
        let name = official.dataset.trim_end_matches("_img");
        let file = format!("{}/../../configs/{name}_{}.toml", env!("CARGO_MANIFEST_DIR"), if joint { "joint" } else { "train" });
        let shipped = TrainConfig::load(Path::new(&file), &[]).unwrap();
        // Without the list of images, which the user has to write first.
        let text = official.images.iter().fold(official.text(), |text, line| text.replace(line, ""));
        let (mut translated, _) = read(&text, &[]).unwrap();
        // Values that depend on a place or a machine, and the paper's eight GPUs.
        translated.data.path.clone_from(&shipped.data.path);
        translated.output.run.clone_from(&shipped.output.run);
        translated.autoencoder.path.clone_from(&shipped.autoencoder.path);
        assert_eq!((shipped.train.gradient_accumulation_steps, translated.train.gradient_accumulation_steps), (8, 1));
        translated.train.gradient_accumulation_steps = 8;
        assert_eq!(shipped, translated, "{file}");
    }
}

#[test]
fn a_file_of_windows_means_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.yaml");
    for official in all().into_iter().take(1) {
        let (text, overrides) = (official.text(), overrides(&official));
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        std::fs::write(&path, &text).unwrap();
        let plain = TrainConfig::load_official(&path, &overrides).unwrap().0;
        std::fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
        assert_eq!(TrainConfig::load_official(&path, &overrides).unwrap().0, plain);
        std::fs::write(&path, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let said = TrainConfig::load_official(&path, &overrides).unwrap_err().to_string();
        assert!(said.ends_with("x.yaml: it is UTF-16; save it as UTF-8"), "{said}");
    }
}
