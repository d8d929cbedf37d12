//! The paper's four data sets in miniature, with their official file names: the frames of a clip, the images of joint training, and
//! two training steps for each.
//!
//! Each frame has one grey level, which encodes the video and the frame, so the pixels show which rule was used.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use latte_model::noise::TorchRng;
use latte_ops::CancelToken;
use latte_train::tasks::{ClassTask, class};
use latte_train::{
    ClipFrames, ClipSource, LoadedClip, Loader, NoProgress, Position, Start, TrainConfig, Trainer, open_data, read_metrics,
};
use latte_video::dataset::{Layout, Location, ScanOptions, update_index};
use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder, transform};

/// The training size.
const SIZE: usize = 16;

/// Frames of the grey levels `first`, `first + step`, ….
fn grey(frames: usize, first: usize, step: usize, [height, width]: [usize; 2]) -> Clip {
    let pixels = (0..frames).flat_map(|f| vec![(first + step * f) as u8; height * width * 3]).collect();
    Clip::new(pixels, [frames, height, width, 3], 25.0).unwrap()
}

/// As `grey`, but brighter to the right.
fn slope(frames: usize, first: usize, [height, width]: [usize; 2]) -> Clip {
    let pixel = |f: usize, x: usize| (first + f + 6 * x) as u8;
    let pixels = (0..frames).flat_map(|f| (0..height * width).flat_map(move |i| [pixel(f, i % width); 3])).collect();
    Clip::new(pixels, [frames, height, width, 3], 25.0).unwrap()
}

fn mp4(path: &Path, clip: &Clip) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    encode::write_mp4(path, clip, &Mp4Options::default()).unwrap();
}

/// Frames as jpeg files with the names of SkyTimelapse: without leading zeros, so that alphabetical and numerical order differ.
fn frames(folder: &Path, clip: &Clip) {
    fs::create_dir_all(folder).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy();
    for i in 0..clip.num_frames() {
        let path = folder.join(format!("{name}_frames_{}.jpg", i + 1));
        encode::write_jpeg(path, clip.frame(i), clip.width(), clip.height(), 100).unwrap();
    }
}

/// The number of frames of each miniature video.
const LENGTHS: [usize; 3] = [52, 49, 50];

/// The grey level of the first frame of a video of frame folders; it rises by one per frame.
fn first_level(video: usize) -> usize {
    LENGTHS[..video].iter().sum::<usize>() + 20
}

fn write(layout: Layout, root: &Path) {
    match layout {
        Layout::FaceForensics => {
            mp4(&root.join("videos/id0_id1_0000.mp4"), &grey(52, 20, 4, [20, 28]));
            mp4(&root.join("videos/more/id2_id3_0001.mp4"), &grey(49, 20, 4, [24, 24]));
            // Shorter than the window of 48, so it is sampled more densely.
            mp4(&root.join("videos/more/id4_id5_0002.mp4"), &grey(30, 20, 4, [20, 28]));
        }
        Layout::Ucf101 => {
            for (class, groups) in [("ApplyEyeMakeup", 2), ("Basketball", 1), ("YoYo", 1)] {
                for group in 1..=groups {
                    mp4(&root.join(format!("{class}/v_{class}_g{group:02}_c01.mp4")), &grey(52, 20, 4, [24, 32]));
                }
            }
        }
        Layout::SkyTimelapse => {
            for (video, name) in
                ["-1CfQ0pFa4E/-1CfQ0pFa4E_1", "07Tc0QCiIHc/07Tc0QCiIHc_1", "07Tc0QCiIHc/07Tc0QCiIHc_2"].iter().enumerate()
            {
                frames(&root.join("sky_train").join(name), &grey(LENGTHS[video], first_level(video), 1, [24, 32]));
            }
            // Not more frames than the window covers.
            frames(&root.join("sky_train/0kQr0fEGXbs/0kQr0fEGXbs_1"), &grey(48, 20, 1, [24, 32]));
        }
        Layout::TaichiHd => {
            for (video, name) in ["1-0ToIYmpd8#000002#000118.mp4", "2d7-Aapzz7A#1.mp4", "3#2.mp4"].iter().enumerate() {
                frames(&root.join(name), &grey(LENGTHS[video], first_level(video), 1, [SIZE, SIZE]));
            }
        }
        Layout::Folder | Layout::Manifest | Layout::Shards => unreachable!("no layout of the paper"),
    }
}

/// The official configuration of a data set, with a tiny model.
fn config(layout: Layout, root: &Path, run: &Path, overrides: &[&str]) -> TrainConfig {
    let (condition, start_clip_iter) = match layout {
        Layout::Ucf101 => ("class", 100_000),
        Layout::TaichiHd => ("none", 500_000),
        _ => ("none", 20_000),
    };
    let text = format!(
        "[model]\npatch_size = 4\nhidden_size = 16\ndepth = 2\nnum_heads = 2\ncondition = \"{condition}\"\nclass_dropout = 0.1\n\
         [data]\nlayout = \"{layout}\"\npath = '{}'\nsize = {SIZE}\nnum_frames = 16\nframe_interval = 3\ndecoder = \"built_in\"\n\
         [optimizer]\nlearning_rate = 1e-4\nclip_norm = 0.1\nstart_clip_iter = {start_clip_iter}\nema_decay = 0.9999\n\
         [train]\nmax_steps = 2\nbatch_size = 2\nseed = 3407\n\
         [output]\nrun = '{}'\n",
        root.display(),
        run.display()
    );
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::from_toml(&text, "test.toml", &overrides).unwrap()
}

const OFFICIAL: [Layout; 4] = [Layout::FaceForensics, Layout::SkyTimelapse, Layout::Ucf101, Layout::TaichiHd];

fn train(config: TrainConfig) -> Trainer<ClassTask> {
    let mut trainer = Trainer::open(class(config).unwrap(), Start::Fresh).unwrap();
    trainer.run(&CancelToken::new(), &mut NoProgress).unwrap();
    trainer
}

#[test]
fn every_layout_trains_with_and_without_images() {
    for layout in OFFICIAL {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        write(layout, &root);
        for (name, overrides) in [("video", vec![]), ("joint", vec!["data.joint_images=8", "train.batch_size=1"])] {
            let run = dir.path().join(name);
            let trainer = train(config(layout, &root, &run, &overrides));
            let losses: Vec<f64> = read_metrics(&run.join("metrics.jsonl")).unwrap().iter().map(|r| r.loss).collect();
            assert!(losses.len() == 2 && losses.iter().all(|l| l.is_finite()), "{layout} {name}: {losses:?}");
            assert_eq!(trainer.num_videos(), if layout == Layout::Ucf101 { 4 } else { 3 }, "{layout}");
            let classes: &[&str] = if layout == Layout::Ucf101 { &["ApplyEyeMakeup", "Basketball", "YoYo"] } else { &[] };
            assert_eq!(trainer.task().metadata().classes, classes, "{layout}");
            // Files have 25 frames per second; folders of frames have no rate, so 8 is assumed.
            let fps = if matches!(layout, Layout::SkyTimelapse | Layout::TaichiHd) { 8.0 } else { 25.0 };
            assert!((trainer.task().metadata().fps - fps / 3.0).abs() < 0.01, "{layout}: {}", trainer.task().metadata().fps);
            // The model has no images: sampling after joint training needs none.
            assert_eq!(trainer.task().metadata().num_frames, 16);
            let saved = TrainConfig::load(&run.join("checkpoints/0000002/config.toml"), &[]).unwrap();
            assert_eq!(&saved, trainer.config());
        }
    }
}

fn pixels(clip: &LoadedClip) -> &[f32] {
    let ClipFrames::Pixels(pixels) = &clip.frames else { panic!("moments") };
    pixels
}

/// The grey level of every frame, the same for all its pixels.
fn levels(clip: &LoadedClip) -> Vec<usize> {
    let level = |v: f32| ((v * 0.5 + 0.5) * 255.0).round() as usize;
    pixels(clip)
        .chunks(3 * SIZE * SIZE)
        .map(|frame| {
            let (low, high) = frame.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            assert!(level(high) - level(low) <= 2, "{low} {high}");
            level(frame[3 * SIZE * SIZE / 2])
        })
        .collect()
}

/// The starts of `draws` clips of a video, and the frames of each relative to its start.
fn windows(source: &dyn ClipSource, file: usize, frame_of: impl Fn(usize) -> usize) -> (BTreeSet<usize>, BTreeSet<Vec<usize>>) {
    let (mut starts, mut shapes) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..40 {
        let clip = source.load(file, &mut TorchRng::new(seed)).unwrap();
        let indices: Vec<usize> = levels(&clip).into_iter().map(&frame_of).collect();
        starts.insert(indices[0]);
        shapes.insert(indices.iter().map(|i| i - indices[0]).collect());
    }
    (starts, shapes)
}

#[test]
fn clips_have_the_frames_of_the_official_rules() {
    let mixed = BTreeSet::from([vec![0, 3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37, 40, 43, 47]]);
    let strided = BTreeSet::from([(0..16).map(|i| 3 * i).collect::<Vec<usize>>()]);
    let dense = BTreeSet::from([vec![0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29]]);
    for layout in OFFICIAL {
        let dir = tempfile::tempdir().unwrap();
        write(layout, dir.path());
        let source = open_data(&config(layout, dir.path(), Path::new("run"), &[])).unwrap().source;
        match layout {
            Layout::FaceForensics | Layout::Ucf101 => {
                let frame = |level: usize| (level - 18) / 4;
                // 52 frames allow starts 0 to 52 − 48 − 1; the official rule never draws start 4.
                assert_eq!(windows(&*source, 0, frame), ((0..4).collect(), mixed.clone()), "{layout}");
                if layout == Layout::FaceForensics {
                    assert_eq!(windows(&*source, 1, frame), (BTreeSet::from([0]), mixed.clone()));
                    assert_eq!(windows(&*source, 2, frame), (BTreeSet::from([0]), dense.clone()));
                }
            }
            _ => {
                for (video, length) in LENGTHS.iter().enumerate() {
                    let frame = |level: usize| level - first_level(video);
                    assert_eq!(
                        windows(&*source, video, frame),
                        ((0..(length - 48).max(1)).collect(), strided.clone()),
                        "{layout}"
                    );
                }
            }
        }
    }
}

/// SkyTimelapse's frames lie three folders deep, with names whose alphabetical and numerical order differ.
#[test]
fn sky_frames_are_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    write(Layout::SkyTimelapse, dir.path());
    let source = open_data(&config(Layout::SkyTimelapse, dir.path(), Path::new("run"), &[])).unwrap().source;
    assert!(dir.path().join("sky_train/-1CfQ0pFa4E/-1CfQ0pFa4E_1/-1CfQ0pFa4E_1_frames_10.jpg").is_file());
    for video in 0..3 {
        assert!(levels(&source.load(video, &mut TorchRng::new(0)).unwrap()).is_sorted());
    }
}

/// A slope gives 0 if it is as on disk, and 1 if it was mirrored first; then the layout's transform is applied.
#[test]
fn flips_and_transforms_are_the_layouts() {
    for layout in OFFICIAL {
        let dir = tempfile::tempdir().unwrap();
        let size = if layout == Layout::TaichiHd { [SIZE, SIZE] } else { [20, 29] };
        let clip = slope(9, 40, size);
        frames(&dir.path().join("A/v"), &clip);
        let small = ["data.num_frames=4", "data.frame_interval=2"];
        let source = open_data(&config(layout, dir.path(), Path::new("run"), &small)).unwrap().source;
        let stored = latte_video::Video::open(dir.path().join("A/v"), Decoder::BuiltIn).unwrap().all().unwrap();
        let transformed = |clip: &Clip| {
            let mut out = match layout {
                Layout::SkyTimelapse => transform::center_crop_resize(clip, [SIZE, SIZE]),
                Layout::TaichiHd => transform::to_float(clip),
                _ => transform::short_side_resize_center_crop(clip, [SIZE, SIZE]),
            };
            transform::normalize(&mut out);
            out
        };
        let (plain, mirrored) = (transformed(&stored), transformed(&stored.mirrored()));
        let mut flipped = 0;
        for seed in 0..40 {
            let clip = source.load(0, &mut TorchRng::new(seed)).unwrap();
            // Start 0 only: the window covers 8 of 9 frames.
            let wanted = |all: &[f32]| {
                let frame = |i: usize| all[i * 3 * SIZE * SIZE..][..3 * SIZE * SIZE].to_vec();
                let rule = if matches!(layout, Layout::SkyTimelapse | Layout::TaichiHd) { [0, 2, 4, 6] } else { [0, 2, 4, 7] };
                rule.map(frame).concat()
            };
            assert!(pixels(&clip) == wanted(&plain) || pixels(&clip) == wanted(&mirrored), "{layout}");
            flipped += usize::from(pixels(&clip) == wanted(&mirrored));
        }
        let expected = if layout == Layout::SkyTimelapse { 0..=0 } else { 8..=32 };
        assert!(expected.contains(&flipped), "{layout}: {flipped} of 40");
    }
}

#[test]
fn frames_of_another_size_are_refused_where_there_is_no_transform() {
    let dir = tempfile::tempdir().unwrap();
    frames(&dir.path().join("v"), &grey(50, 20, 1, [24, 32]));
    let said = open_data(&config(Layout::TaichiHd, dir.path(), Path::new("run"), &[])).unwrap_err().to_string();
    assert!(said.contains("24 × 32") && said.contains("16 × 16") && said.contains("data.transform"), "{said}");
    let crop = config(Layout::TaichiHd, dir.path(), Path::new("run"), &["data.transform=crop_resize"]);
    assert!(open_data(&crop).is_ok());
}

/// Videos of 9 to 13 frames in two classes as folders of frames; each frame has its own level.
struct Numbered {
    dir: tempfile::TempDir,
    /// The first level of each video; the last entry is the end.
    starts: Vec<usize>,
}

const NUMBERED: [(&str, usize); 5] = [("A/v1", 9), ("A/v2", 11), ("B/v3", 13), ("B/v4", 10), ("C/v5", 12)];
/// The number of frames of all videos.
const ALL: usize = 9 + 11 + 13 + 10 + 12;

impl Numbered {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = vec![0];
        for (name, count) in NUMBERED {
            let first = starts[starts.len() - 1];
            // Three levels apart, so that rounding cannot confuse two frames.
            frames(&dir.path().join(name), &grey(count, 3 * first, 3, [SIZE, SIZE]));
            starts.push(first + count);
        }
        Self { dir, starts }
    }

    fn config(&self, layout: Layout, images: usize, overrides: &[&str]) -> TrainConfig {
        let images = format!("data.joint_images={images}");
        let mut all = vec!["data.num_frames=4", "data.frame_interval=2", images.as_str(), "data.cache_mib=0"];
        all.extend(overrides);
        config(layout, self.dir.path(), Path::new("run"), &all)
    }

    fn loader(&self, layout: Layout, images: usize, position: Position, threads: usize) -> Loader {
        let source = open_data(&self.config(layout, images, &[])).unwrap().source;
        Loader::new(source, 3407, position, threads, 7).unwrap()
    }

    /// For every clip: the indices of its frames and of its images in the list of all frames.
    fn numbers(clips: &[LoadedClip]) -> Vec<(Vec<usize>, Vec<usize>)> {
        let split = |clip: &LoadedClip| {
            let all: Vec<usize> = levels(clip).into_iter().map(|level| (level + 1) / 3).collect();
            (all[..4].to_vec(), all[4..].to_vec())
        };
        clips.iter().map(split).collect()
    }

    fn label(&self, number: usize) -> u32 {
        let video = self.starts.iter().rposition(|&start| start <= number).unwrap();
        [0, 0, 1, 1, 2][video]
    }
}

fn take(loader: &mut Loader, count: usize) -> Vec<LoadedClip> {
    loader.next_clips(count, &mut |warning| panic!("{warning}")).unwrap()
}

fn images(clips: &[LoadedClip]) -> Vec<usize> {
    Numbered::numbers(clips).into_iter().flat_map(|(_, images)| images).collect()
}

#[test]
fn the_images_of_an_epoch_are_consecutive_entries_of_one_shuffled_list_of_all_frames() {
    let data = Numbered::new();
    for layout in [Layout::FaceForensics, Layout::SkyTimelapse, Layout::Ucf101, Layout::TaichiHd] {
        // 5 clips of 20 images: the list of 55 starts over after its end.
        let mut loader = data.loader(layout, 20, Position::default(), 2);
        let epochs: Vec<Vec<usize>> = (0..2).map(|_| images(&take(&mut loader, 5))).collect();
        for entries in &epochs {
            let list = &entries[..ALL];
            assert_eq!(list.iter().copied().collect::<BTreeSet<_>>(), (0..ALL).collect(), "{layout}");
            assert_eq!(entries[ALL..], list[..100 - ALL], "{layout}");
            assert!(!list.is_sorted());
        }
        assert_ne!(epochs[0], epochs[1], "{layout}");
        // Clip number i uses entries i · n to i · n + n − 1 of the same list, for any n.
        let few = images(&take(&mut data.loader(layout, 3, Position::default(), 1), 5));
        assert_eq!(few, epochs[0][..15], "{layout}");
    }
}

#[test]
fn images_change_no_clip_and_a_position_is_enough_to_resume() {
    let data = Numbered::new();
    let clips = |images: usize, position: Position, threads: usize, count: usize| {
        Numbered::numbers(&take(&mut data.loader(Layout::Ucf101, images, position, threads), count))
    };
    let joint = clips(8, Position::default(), 1, 12);
    let plain = clips(0, Position::default(), 1, 12);
    assert!(joint.iter().zip(&plain).all(|(a, b)| a.0 == b.0 && b.1.is_empty()));
    assert_eq!(clips(8, Position::default(), 3, 12), joint);
    assert_eq!(clips(8, Position { epoch: 1, index: 2 }, 2, 5), joint[7..]);
}

#[test]
fn every_image_has_the_class_of_its_video() {
    let data = Numbered::new();
    let clips = take(&mut data.loader(Layout::Ucf101, 8, Position::default(), 2), 10);
    let numbers = Numbered::numbers(&clips);
    let mut seen = BTreeSet::new();
    for (clip, (frames, images)) in clips.iter().zip(numbers) {
        assert_eq!(clip.label, Some(data.label(frames[0])));
        let labels: Vec<u32> = images.iter().map(|&number| data.label(number)).collect();
        assert_eq!(clip.image_labels, labels);
        seen.extend(labels);
    }
    assert_eq!(seen, (0..3).collect());
    // Without classes there are no labels.
    let sky = take(&mut data.loader(Layout::SkyTimelapse, 8, Position::default(), 1), 5);
    assert!(sky.iter().all(|clip| clip.label.is_none() && clip.image_labels.is_empty()));
}

#[test]
fn an_image_that_cannot_be_read_is_replaced_by_another() {
    let data = Numbered::new();
    let whole = images(&take(&mut data.loader(Layout::Ucf101, 20, Position::default(), 1), 5));
    // The last frame of the third video, which no clip can contain.
    let bad = data.starts[2] + 12;
    fs::write(data.dir.path().join("B/v3/v3_frames_13.jpg"), "broken").unwrap();
    let mut loader = data.loader(Layout::Ucf101, 20, Position::default(), 2);
    let mut warnings = Vec::new();
    let clips = loader.next_clips(5, &mut |warning| warnings.push(warning.to_string())).unwrap();
    let found = images(&clips);
    assert_eq!(found.len(), whole.len());
    assert!(whole.contains(&bad) && !found.contains(&bad));
    for (now, before) in found.iter().zip(&whole) {
        assert!(now == before || *before == bad);
    }
    // The label is that of the replacement.
    let labels: Vec<u32> = clips.iter().flat_map(|clip| clip.image_labels.iter().copied()).collect();
    assert_eq!(labels, found.iter().map(|&number| data.label(number)).collect::<Vec<_>>());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("v3_frames_13.jpg"), "{warnings:?}");
}

/// An official list of images has its own files, which are used without a transform.
#[test]
fn images_of_a_list_are_taken_as_they_are() {
    let data = Numbered::new();
    let (list, folder) = (data.dir.path().join("list.txt"), tempfile::tempdir().unwrap());
    // Classes A, B and C; slopes, so that mirroring would show.
    let names = ["v_C_g01_c01_0001.jpg", "v_A_g01_c01_0001.jpg", "v_B_g01_c02_0031.jpg", "v_A_g02_c01_0007.jpg"];
    let stored = slope(4, 50, [SIZE, SIZE]);
    for (i, name) in names.iter().enumerate() {
        encode::write_jpeg(folder.path().join(name), stored.frame(i), SIZE, SIZE, 100).unwrap();
    }
    fs::write(&list, names.join("\n")).unwrap();
    let (list, path) = (format!("data.image_list={}", list.display()), format!("data.image_path={}", folder.path().display()));
    let config = data.config(Layout::Ucf101, 3, &[&list, &path]);
    assert!(config.data.flip);
    let mut loader = Loader::new(open_data(&config).unwrap().source, 3407, Position::default(), 2, 7).unwrap();
    let clips = take(&mut loader, 5);
    let frame_len = 3 * SIZE * SIZE;
    let expected: Vec<Vec<f32>> = (0..4)
        .map(|i| {
            let image = latte_video::read_image(folder.path().join(names[i])).unwrap();
            let mut pixels = transform::to_float(&image);
            transform::normalize(&mut pixels);
            pixels
        })
        .collect();
    let mut order = Vec::new();
    for clip in &clips {
        let found = pixels(clip)[4 * frame_len..].chunks(frame_len);
        let numbers: Vec<usize> = found.map(|image| expected.iter().position(|e| e == image).unwrap()).collect();
        assert_eq!(clip.image_labels, numbers.iter().map(|&i| [2, 0, 1, 0][i]).collect::<Vec<u32>>());
        order.extend(numbers);
    }
    // 15 images from a list of 4.
    assert_eq!(order[..4].iter().copied().collect::<BTreeSet<_>>(), (0..4).collect());
    assert!(order.iter().zip(&order[4..]).all(|(a, b)| a == b));

    let trainer = train(TrainConfig {
        output: latte_train::OutputConfig { run: folder.path().join("run"), ..config.output },
        ..config.clone()
    });
    assert_eq!(trainer.state().step, 2);
    // Another size is refused immediately, and so is a list without any class of the data.
    let refused = |overrides: &[&str]| open_data(&data.config(Layout::Ucf101, 3, overrides)).unwrap_err().to_string();
    let said = refused(&[&list, &path, "data.size=8"]);
    assert!(said.contains("v_C_g01_c01_0001.jpg") && said.contains("16 × 16") && said.contains("8 × 8"), "{said}");
    fs::write(data.dir.path().join("list.txt"), "v_Dancing_g01_c01_0001.jpg").unwrap();
    let said = refused(&[&list, &path]);
    assert!(said.contains("list.txt: line 1") && said.contains("v_Dancing_g01_c01_0001.jpg"), "{said}");
}

/// Taichi-HD's images are frames with the transform of videos, which mirrors with probability 1/2.
#[test]
fn images_that_are_frames_are_mirrored_as_clips_are() {
    let dir = tempfile::tempdir().unwrap();
    for video in 0..4 {
        frames(&dir.path().join(format!("v{video}")), &slope(9, 30 + video, [SIZE, SIZE]));
    }
    let overrides = ["data.num_frames=4", "data.frame_interval=2", "data.joint_images=8"];
    let mirrored_of = |layout| {
        let source = open_data(&config(layout, dir.path(), Path::new("run"), &overrides)).unwrap().source;
        let clips = take(&mut Loader::new(source, 1, Position::default(), 2, 7).unwrap(), 8);
        let images: Vec<f32> = clips.iter().flat_map(|clip| pixels(clip)[4 * 3 * SIZE * SIZE..].to_vec()).collect();
        images.chunks(3 * SIZE * SIZE).filter(|image| image[0] > image[SIZE - 1]).count()
    };
    assert!((16..=48).contains(&mirrored_of(Layout::TaichiHd)));
    assert_eq!(mirrored_of(Layout::SkyTimelapse), 0);
}

#[test]
fn training_from_an_index_is_the_same_and_says_what_is_stale() {
    let data = Numbered::new();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ucf.jsonl");
    let options = ScanOptions { decoder: Decoder::BuiltIn, hash: false, last_frame: false, threads: 2 };
    // Before the index is written: an unreadable video, which the index lists and training skips.
    fs::create_dir(data.dir.path().join("C/bad")).unwrap();
    fs::write(data.dir.path().join("C/bad/0.jpg"), "x").unwrap();
    update_index(&Location::new(Layout::Ucf101, data.dir.path()), &file, options, &mut NoProgress).unwrap();
    fs::remove_dir_all(data.dir.path().join("C/bad")).unwrap();
    let index = format!("data.index={}", file.display());
    let open = |overrides: &[&str]| open_data(&data.config(Layout::Ucf101, 8, overrides)).unwrap();
    let (with, without) = (open(&[&index]), open(&[]));
    assert_eq!((&with.mark, with.fps, &with.classes), (&without.mark, without.fps, &without.classes));
    assert!(with.notes.len() == 1 && with.notes[0].contains("1 of 6 videos cannot be read"), "{:?}", with.notes);
    let clips = |source: Box<dyn ClipSource>| take(&mut Loader::new(source, 1, Position::default(), 2, 7).unwrap(), 10);
    assert_eq!(clips(with.source), clips(without.source));

    // With an index, new videos are not found, and a missing or changed one is an error when it is read.
    frames(&data.dir.path().join("A/new"), &grey(12, 0, 1, [SIZE, SIZE]));
    fs::remove_dir_all(data.dir.path().join("A/v1")).unwrap();
    fs::remove_file(data.dir.path().join("B/v4/v4_frames_10.jpg")).unwrap();
    let opened = open_data(&data.config(Layout::Ucf101, 0, &[&index])).unwrap();
    assert_eq!(opened.mark.num_videos, 5);
    let mut loader = Loader::new(opened.source, 1, Position::default(), 1, 7).unwrap();
    let mut warnings = Vec::new();
    loader.next_clips(10, &mut |warning| warnings.push(warning.to_string())).unwrap();
    warnings.sort();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("A/v1") && warnings[0].contains("gone"), "{warnings:?}");
    assert!(warnings[1].contains("B/v4") && warnings[1].contains("9 frames") && warnings[1].contains("10"), "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("latte data index")), "{warnings:?}");
    let wrong = data.config(Layout::Ucf101, 0, &[&index, "data.layout=faceforensics", "model.condition=none"]);
    let said = open_data(&wrong).unwrap_err().to_string();
    assert!(said.contains("of the layout `ucf101`, but `data.layout` is `faceforensics`"), "{said}");
}

/// Videos that are first opened to count their frames, and images from video files.
#[test]
fn a_plain_folder_has_images_too() {
    let dir = tempfile::tempdir().unwrap();
    let root: PathBuf = dir.path().join("data");
    mp4(&root.join("up/a.mp4"), &grey(12, 20, 4, [20, 28]));
    mp4(&root.join("down/b.mp4"), &grey(10, 120, 4, [20, 28]));
    fs::write(root.join("down/bad.mp4"), "no video").unwrap();
    let overrides = ["data.num_frames=4", "data.frame_interval=2", "data.joint_images=22", "model.condition=class"];
    let source = open_data(&config(Layout::Folder, &root, Path::new("run"), &overrides)).unwrap().source;
    let mut loader = Loader::new(source, 1, Position::default(), 2, 7).unwrap();
    let mut warnings = Vec::new();
    let clips = loader.next_clips(2, &mut |warning| warnings.push(warning.to_string())).unwrap();
    for clip in &clips {
        let levels = levels(clip);
        // All 22 frames of the readable videos, each once: a video that cannot be opened has none.
        let frame = |level: usize| if level < 100 { (0, (level - 18) / 4) } else { (1, (level - 118) / 4) };
        let images: BTreeSet<(usize, usize)> = levels[4..].iter().map(|&level| frame(level)).collect();
        let all = (0..12).map(|f| (0, f)).chain((0..10).map(|f| (1, f))).collect();
        assert_eq!(images, all);
        // `down` is class 0.
        let labels: Vec<u32> = levels[4..].iter().map(|&level| u32::from(level < 100)).collect();
        assert_eq!(clip.image_labels, labels);
    }
    assert!(warnings.iter().all(|w| w.contains("bad.mp4")), "{warnings:?}");
}
