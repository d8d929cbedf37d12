//! Training on manifests and on WebDataset shards: two steps each, and the same clips as from a folder.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use latte_model::noise::TorchRng;
use latte_ops::CancelToken;
use latte_train::tasks::class;
use latte_train::{LoadedClip, NoProgress, Start, TrainConfig, Trainer, list_data, open_data, read_metrics};
use latte_video::dataset::{Layout, ScanOptions, update_index};
use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder};

/// Class folder, name, and grey level of the first frame.
const VIDEOS: [(&str, &str, u8); 4] = [("run", "1", 20), ("run", "2", 60), ("walk", "1", 100), ("walk", "2", 140)];

/// The same four videos three times: as a folder, as a manifest of that folder, and in two shards.
struct Miniature {
    dir: tempfile::TempDir,
}

impl Miniature {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let mut csv = "clip,what,verb\n".to_string();
        let mut shards: Vec<tar::Builder<fs::File>> =
            [0, 1].iter().map(|n| tar::Builder::new(fs::File::create(this.path(&format!("{n:05}.tar"))).unwrap())).collect();
        for (number, (class, name, level)) in VIDEOS.into_iter().enumerate() {
            let path = this.path(&format!("videos/{class}/{name}.mp4"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let pixels = (0..12).flat_map(|f| vec![level + 3 * f; 20 * 28 * 3]).collect();
            encode::write_mp4(&path, &Clip::new(pixels, [12, 20, 28, 3], 25.0).unwrap(), &Mp4Options::default()).unwrap();
            writeln!(csv, "{class}/{name}.mp4,\"They {class}, {number}\",{class}").unwrap();
            let shard = &mut shards[number / 2];
            for (ending, contents) in [
                ("mp4", fs::read(&path).unwrap()),
                ("txt", format!("They {class}, {number}").into_bytes()),
                ("json", format!(r#"{{"label": "{class}", "url": null}}"#).into_bytes()),
            ] {
                let mut header = tar::Header::new_ustar();
                header.set_size(contents.len() as u64);
                header.set_mode(0o644);
                shard.append_data(&mut header, format!("{number:09}.{ending}"), contents.as_slice()).unwrap();
            }
        }
        for mut shard in shards {
            shard.finish().unwrap();
        }
        fs::write(this.path("list.csv"), csv + ",no path,walk\n").unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A tiny model of two classes on one of the three forms.
    fn config(&self, layout: Layout, overrides: &[&str]) -> TrainConfig {
        let path = match layout {
            Layout::Manifest => self.path("list.csv"),
            Layout::Shards => self.path("{00000..00001}.tar"),
            _ => self.path("videos"),
        };
        let columns = match layout {
            Layout::Manifest => format!(
                "path_column = \"clip\"\ncaption_column = \"what\"\nlabel_column = \"verb\"\nvideo_path = '{}'\n",
                self.path("videos").display()
            ),
            _ => String::new(),
        };
        let text = format!(
            "[model]\npatch_size = 4\nhidden_size = 16\ndepth = 2\nnum_heads = 2\ncondition = \"class\"\n\
             [data]\nlayout = \"{layout}\"\npath = '{}'\n{columns}size = 16\nnum_frames = 4\nframe_interval = 2\n\
             decoder = \"built_in\"\n\
             [train]\nmax_steps = 2\nbatch_size = 2\n\
             [output]\nrun = '{}'\n",
            path.display(),
            self.path(&format!("run of {layout}")).display()
        );
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        TrainConfig::from_toml(&text, "test.toml", &overrides).unwrap()
    }
}

#[test]
fn manifests_and_shards_train_with_classes_and_joint_images() {
    let data = Miniature::new();
    for layout in [Layout::Manifest, Layout::Shards] {
        for overrides in [vec![], vec!["data.joint_images=3"]] {
            let config = data.config(layout, &overrides);
            let run = config.output.run.clone();
            let _ = fs::remove_dir_all(&run);
            let mut trainer = Trainer::open(class(config).unwrap(), Start::Fresh).unwrap();
            assert_eq!(trainer.num_videos(), 4, "{layout}");
            assert_eq!(trainer.task().metadata().classes, ["run", "walk"], "{layout}");
            assert!((trainer.task().metadata().fps - 12.5).abs() < 0.01);
            trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
            let losses: Vec<f64> = read_metrics(&run.join("metrics.jsonl")).unwrap().iter().map(|r| r.loss).collect();
            assert!(losses.len() == 2 && losses.iter().all(|l| l.is_finite()), "{layout}: {losses:?}");
            // The saved configuration can start another run.
            let saved = TrainConfig::load(&run.join("checkpoints/0000002/config.toml"), &[]).unwrap();
            assert_eq!(&saved, trainer.config());
        }
    }
}

const CAPTIONS: [&str; 4] = ["They run, 0", "They run, 1", "They walk, 2", "They walk, 3"];

fn clips(config: &TrainConfig) -> Vec<LoadedClip> {
    let source = open_data(config).unwrap().source;
    (0..4).map(|video| source.load(video, &mut TorchRng::new(7)).unwrap()).collect()
}

/// The clips of a folder, with the captions that the other forms have.
fn captioned(folder: Vec<LoadedClip>) -> Vec<LoadedClip> {
    folder.into_iter().zip(CAPTIONS).map(|(clip, caption)| LoadedClip { caption: Some(caption.into()), ..clip }).collect()
}

#[test]
fn the_same_videos_give_the_same_clips() {
    let data = Miniature::new();
    let folder = clips(&data.config(Layout::Folder, &[]));
    assert!(folder.iter().all(|clip| clip.caption.is_none()));
    assert_eq!(folder.iter().map(|clip| clip.label).collect::<Vec<_>>(), [Some(0), Some(0), Some(1), Some(1)]);
    for layout in [Layout::Manifest, Layout::Shards] {
        assert_eq!(clips(&data.config(layout, &[])), captioned(folder.clone()), "{layout}");
        let listed = list_data(&data.config(layout, &[])).unwrap();
        let notes = listed.notes.join("\n");
        assert_eq!(layout == Layout::Manifest, notes.contains("list.csv, line 6, column `clip`: empty"), "{notes}");
    }
}

#[test]
fn an_index_says_the_same_without_the_manifest_and_notices_changes() {
    let data = Miniature::new();
    let options = ScanOptions { decoder: Decoder::BuiltIn, hash: true, last_frame: true, threads: 2 };
    for (layout, part) in [(Layout::Manifest, "videos/walk/1.mp4"), (Layout::Shards, "00001.tar")] {
        let plain = data.config(layout, &[]);
        let file = data.path(&format!("{layout}.index.jsonl"));
        let scan = update_index(&plain.data.location(), &file, options, &mut NoProgress).unwrap();
        assert_eq!((scan.opened, scan.skipped.count), (4, usize::from(layout == Layout::Manifest)), "{layout}");
        // Each video has its own hash, also within one archive.
        let hashes: std::collections::BTreeSet<_> = scan.index.entries.iter().map(|entry| entry.hash.clone().unwrap()).collect();
        assert_eq!(hashes.len(), 4, "{layout}");
        assert!(!fs::read_to_string(&file).unwrap().lines().skip(1).any(|line| line.contains(data.dir.path().to_str().unwrap())));
        let config = data.config(layout, &[&format!("data.index={}", file.display())]);
        // Neither the columns nor the manifest itself are needed any more.
        if layout == Layout::Manifest {
            fs::write(data.path("list.csv"), "nothing").unwrap();
        }
        assert_eq!(clips(&config), captioned(clips(&data.config(Layout::Folder, &[]))), "{layout}");
        let listed = list_data(&config).unwrap().dataset;
        assert!(listed.items.iter().all(|item| item.info.as_ref().is_some_and(|info| info.num_frames == 12)));
        assert_eq!(listed.items[2].caption.as_deref(), Some("They walk, 2"));
        if layout == Layout::Shards {
            assert_eq!(update_index(&plain.data.location(), &file, options, &mut NoProgress).unwrap().opened, 0);
        }
        // Another size: an error that names the file and what to do, and only the videos in that file are opened again.
        let mut bytes = fs::read(data.path(part)).unwrap();
        bytes.extend_from_slice(&[0; 512]);
        fs::write(data.path(part), bytes).unwrap();
        let source = open_data(&config).unwrap().source;
        assert!(source.load(0, &mut TorchRng::new(7)).is_ok());
        let said = source.load(2, &mut TorchRng::new(7)).unwrap_err();
        assert!(said.contains(part) && said.contains("latte data index"), "{said}");
        if layout == Layout::Shards {
            assert_eq!(update_index(&plain.data.location(), &file, options, &mut NoProgress).unwrap().opened, 2);
        }
    }
}

#[test]
fn what_does_not_fit_is_reported() {
    let data = Miniature::new();
    let no_labels = |layout: Layout| {
        fs::write(data.path("list.csv"), "clip,what,verb\nrun/1.mp4,x,\n").unwrap();
        open_data(&data.config(layout, &[])).unwrap_err().to_string()
    };
    let said = no_labels(Layout::Manifest);
    assert!(said.contains("list.csv") && said.contains("data.label_column"), "{said}");
    fs::write(data.path("list.csv"), "clip,what,verb\nrun/1.mp4,x,run\nrun/2.mp4,x,\n").unwrap();
    let notes = list_data(&data.config(Layout::Manifest, &[])).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("1 videos have no class"), "{notes:?}");
    let wrong = TrainConfig::from_toml(
        &data.config(Layout::Folder, &[]).to_toml().unwrap(),
        "x.toml",
        &["data.caption_column=text".to_string()],
    );
    let said = wrong.unwrap_err().to_string();
    assert!(said.contains("x.toml: data.caption_column: only for manifests") && said.contains("`folder`"), "{said}");
    // Archives with another kind of sample.
    fs::remove_file(data.path("00001.tar")).unwrap();
    let said = open_data(&data.config(Layout::Shards, &[])).unwrap_err().to_string();
    assert!(said.contains("1 of the 2 files that this pattern means are missing"), "{said}");
    assert!(Path::new(&data.path("00000.tar")).is_file());
}
