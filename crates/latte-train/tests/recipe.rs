//! The initial weights of a run, and the options of its loss.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod run;

use std::collections::BTreeMap;
use std::path::Path;

use latte_model::noise::TorchRng;
use latte_model::weights::{FileKind, RawTensor, StoredDtype, write_weights};
use latte_ops::{CancelToken, Parameters, Value};
use latte_train::tasks::class;
use latte_train::{NoProgress, Progress, Start, StepRecord, TrainConfig, Trainer, TrainingProgress, read_metrics};

fn with_videos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    dir
}

fn config(dir: &Path, name: &str, overrides: &[&str]) -> TrainConfig {
    run::config(&dir.join("data"), &dir.join(name), overrides)
}

fn records(dir: &Path, name: &str, overrides: &[&str]) -> Vec<StepRecord> {
    let mut trainer = Trainer::open(class(config(dir, name, overrides)).unwrap(), Start::Fresh).unwrap();
    trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
    read_metrics(&dir.join(name).join("metrics.jsonl")).unwrap()
}

#[test]
fn the_options_of_the_loss_change_what_they_should_and_nothing_when_off() {
    let dir = with_videos();
    // The first step starts from the same weights, clips, times and noise for every loss.
    let first = |name: &str, options: &[&str]| {
        let one = ["train.max_steps=1", "optimizer.warmup_steps=0"];
        records(dir.path(), name, &[&one, options].concat())[0].clone()
    };
    let plain = first("plain", &[]);
    let (mse, vb) = (plain.parts.get("mse").unwrap(), plain.parts.get("vb").unwrap());
    assert!((plain.loss - mse - vb).abs() < 1e-6 * plain.loss);
    let off = first("off", &["train.offset_noise=0"]);
    assert_eq!((off.loss, off.grad_norm), (plain.loss, plain.grad_norm));

    let weighted = first("weighted", &["train.min_snr_gamma=5"]);
    assert_eq!(
        (weighted.parts.get("mse"), weighted.parts.get("vb")),
        (plain.parts.get("mse"), plain.parts.get("vb")),
        "the parts are recorded without weights"
    );
    // Some of the 4 drawn times are early ones, with weights far below 1.
    assert!(weighted.loss < plain.loss - 1e-3 * mse && weighted.loss > vb, "{} {}", weighted.loss, plain.loss);
    assert_ne!(weighted.grad_norm, plain.grad_norm);
    let heavy = first("heavy", &["train.min_snr_gamma=1e9"]);
    assert_eq!(heavy.loss, plain.loss, "min(SNR, γ) / SNR is 1 below γ");

    let shifted = first("shifted", &["train.offset_noise=0.3"]);
    // A fresh network predicts 0, so the squared error is that of the noise: 1, plus 0.3².
    let gained = shifted.parts.get("mse").unwrap() - mse;
    assert!((0.02..0.25).contains(&gained), "{gained}");
}

/// Collects the notes of a run.
#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        self.0.push(message.to_string());
    }
}
impl TrainingProgress for Notes {}

/// The tensors of an image DiT with the blocks of the test's model: 4 channels, 1000 classes, no temporal positions.
fn dit(d: usize) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut put = |name: &str, shape: &[usize]| shapes.insert(name.to_string(), shape.to_vec());
    put("pos_embed", &[1, 16, d]);
    put("x_embedder.proj.weight", &[d, 4, 4, 4]); // the model has 3 channels
    put("y_embedder.embedding_table.weight", &[1001, d]);
    let linears = [
        ("x_embedder.proj", [d, 0]),
        ("t_embedder.mlp.0", [d, 256]),
        ("t_embedder.mlp.2", [d, d]),
        ("final_layer.linear", [4 * 4 * 2 * 4, d]), // the model's has 3 channels
        ("final_layer.adaLN_modulation.1", [2 * d, d]),
    ];
    let of_blocks = [
        ("attn.qkv", [3 * d, d]),
        ("attn.proj", [d, d]),
        ("mlp.fc1", [4 * d, d]),
        ("mlp.fc2", [d, 4 * d]),
        ("adaLN_modulation.1", [6 * d, d]),
    ];
    // One block more than the model has.
    let blocks = (0..3).flat_map(|i| of_blocks.map(|(name, shape)| (format!("blocks.{i}.{name}"), shape)));
    for (name, [out, input]) in linears.map(|(name, shape)| (name.to_string(), shape)).into_iter().chain(blocks) {
        if input > 0 {
            put(&format!("{name}.weight"), &[out, input]);
        }
        put(&format!("{name}.bias"), &[out]);
    }
    shapes
}

#[test]
fn a_fine_tune_starts_from_exactly_the_tensors_that_its_report_says() {
    let dir = with_videos();
    let shapes = dit(16);
    let mut rng = TorchRng::new(99);
    let values: BTreeMap<&str, Vec<f32>> =
        shapes.iter().map(|(name, shape)| (name.as_str(), rng.rand_f32(shape.iter().product()))).collect();
    let names: Vec<&str> = shapes.keys().map(String::as_str).collect();
    let read = |name: &str| {
        let bytes: Vec<u8> = values[name].iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(RawTensor { dtype: StoredDtype::F32, shape: shapes[name].clone(), bytes: bytes.into() })
    };
    let path = dir.path().join("DiT-XL-2-256x256.pt");
    write_weights(&path, &FileKind::Torch { part: None }, &names, &read).unwrap();

    let init = format!("init.path={}", path.display());
    let fresh = Trainer::open(class(config(dir.path(), "fresh", &[])).unwrap(), Start::Fresh).unwrap();
    let tuned = config(dir.path(), "tuned", &["init.from=dit", &init, "train.max_steps=1", "optimizer.learning_rate=0"]);
    let mut tuned = Trainer::open(class(tuned).unwrap(), Start::Fresh).unwrap();

    let flat = |t: &Value| t.to_host().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of = |set: &Parameters, name: &str| flat(set.get(name).unwrap());
    // Before any step every weight is that of the file or the random one, and the average is the same.
    let (mut inherited, mut kept) = (Vec::new(), Vec::new());
    for (name, tensor) in tuned.state().weights.iter() {
        assert_eq!(flat(tensor), of(&tuned.state().ema, name), "{name}");
        if values.get(name).is_some_and(|file| *file == flat(tensor)) {
            inherited.push(name.to_string());
        } else {
            assert_eq!(flat(tensor), of(&fresh.state().weights, name), "{name}");
            kept.push(name.to_string());
        }
    }
    kept.sort();
    let left_out = [
        "final_layer.linear.bias",
        "final_layer.linear.weight",
        "temp_embed",
        "x_embedder.proj.weight",
        "y_embedder.embedding_table.weight",
    ];
    assert_eq!(kept, left_out);
    assert!(inherited.iter().any(|name| name == "pos_embed") && inherited.iter().any(|name| name == "blocks.1.attn.qkv.weight"));

    // And the report lists exactly these.
    let mut notes = Notes::default();
    tuned.run(&CancelToken::new(), &mut notes).unwrap();
    let said = |what: &str| {
        let found: Vec<&String> = notes.0.iter().filter(|line| line.contains(what)).collect();
        assert_eq!(found.len(), 1, "{what}: {:?}", notes.0);
        found[0].clone()
    };
    said(&format!("{} tensors used", inherited.len()));
    let quoted = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    let mut wrong = quoted(&said("3 of another shape: "));
    wrong.sort();
    assert_eq!(wrong, ["final_layer.linear.bias", "final_layer.linear.weight", "x_embedder.proj.weight"]);
    assert_eq!(quoted(&said("1 missing: ")), ["y_embedder.embedding_table.weight"]);
    // The label table, and the ten tensors of the additional block.
    let ignored = said("11 ignored: ");
    assert!(ignored.contains("`blocks.2.adaLN_modulation.1.bias`"), "{ignored}");
}
