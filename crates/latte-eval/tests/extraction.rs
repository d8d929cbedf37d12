//! From videos on disk to a score: the same digits however the work is divided, and nothing is left out silently.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use latte_eval::clips::{ClipList, ClipSet, ClipsInMemory};
use latte_eval::detector::{Clips, Detector, FeatureLayer, Identity};
use latte_eval::extract::{Cache, Extraction, extract, merge};
use latte_eval::features::FeatureSet;
use latte_eval::protocol::{FrameTransform, Framing, LengthRule, Protocol, Rounding, StartRule, Task};
use latte_eval::score::{ScoreOptions, SetFeatures, score};
use latte_eval::{NoProgress, Progress, Stage};
use latte_video::dataset::{Layout, Location};
use latte_video::encode::{Mp4Options, write_jpeg, write_mp4};
use latte_video::{Clip, Decoder, Transform};

const FEATURE_LAYERS: &[FeatureLayer] = &[FeatureLayer { name: "logits", width: 4 }];

/// A detector with four simple numbers per clip.
struct Simple {
    identity: Identity,
    clips: AtomicUsize,
}

impl Simple {
    fn new() -> Self {
        let identity = Identity { kind: "simple".into(), source: "test".into(), weights: "none".into(), batch_norm_eps: None };
        Self { identity, clips: AtomicUsize::new(0) }
    }
}

impl Detector for Simple {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        2
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> latte_eval::Result<Vec<Tensor>> {
        let [n, f, h, w] = clips.shape;
        assert_eq!(layers, FEATURE_LAYERS);
        self.clips.fetch_add(n, Ordering::Relaxed);
        let values: Vec<f32> = clips
            .pixels
            .chunks(f * h * w * 3)
            .flat_map(|clip| {
                (0..4).map(|part| {
                    clip.iter().skip(part * 7).step_by(part + 3).map(|v| f32::from(*v)).sum::<f32>() / clip.len() as f32
                })
            })
            .collect();
        Ok(vec![Tensor::from_vec(values, (n, 4), &Device::Cpu)?])
    }
}

/// Writes `count` videos; the `i`-th has `frames + i % 3` frames.
fn videos(folder: &Path, count: usize, frames: usize, shade: usize) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..count {
        let frames = frames + i % 3;
        let pixels =
            (0..frames * 16 * 16 * 3).map(|p| ((p / 3 % 16 * (i + 3) + p / 768 * 9 + i * 11 + shade) % 256) as u8).collect();
        let clip = Clip::new(pixels, [frames, 16, 16, 3], 8.0).unwrap();
        write_mp4(folder.join(format!("{i:03}.mp4")), &clip, &Mp4Options::default()).unwrap();
    }
}

fn protocol() -> Protocol {
    // A group has about 256 frames: 52 clips.
    Protocol::named("latte", Task::Fvd, Some(2)).unwrap().changed(|p| p.frames = 5)
}

fn open(folder: &Path, protocol: &Protocol) -> latte_eval::Result<ClipSet> {
    ClipSet::open(&Location::new(Layout::Folder, folder), &protocol.real.unwrap(), protocol, Decoder::BuiltIn, "real")
}

fn whole(extraction: Extraction) -> FeatureSet {
    match extraction {
        Extraction::Whole(set) => *set,
        Extraction::Part { missing, .. } => panic!("{missing} groups are missing"),
    }
}

/// A detector for which one of four values of every seventh clip is NaN.
struct Broken(Simple);

impl Detector for Broken {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        2
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> latte_eval::Result<Vec<Tensor>> {
        let mut values = self.0.features(clips, layers)?.remove(0).flatten_all()?.to_vec1::<f32>()?;
        values.iter_mut().skip(4 * 6 + 2).step_by(4 * 7).for_each(|value| *value = f32::NAN);
        Ok(vec![Tensor::from_vec(values, (clips.shape[0], 4), &Device::Cpu)?])
    }
}

#[test]
fn features_that_are_not_finite_are_reported_with_their_clip_and_not_cached() {
    let dir = tempfile::tempdir().unwrap();
    videos(&dir.path().join("real"), 9, 12, 0);
    let clips = open(&dir.path().join("real"), &protocol()).unwrap();
    let cache = Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() };
    let broken = Broken(Simple::new());
    let failed =
        extract(&clips, &broken, protocol().preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress).unwrap_err().to_string();
    let expected = format!("value 2 of the output `logits` of simple for the clip {} is NaN", clips.name(6));
    assert!(failed.contains(&expected), "{failed}");
    let key = std::fs::read_dir(&cache.folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(key).unwrap().count(), 0);
}

#[test]
fn two_processes_with_the_same_work_do_not_collide() {
    let dir = tempfile::tempdir().unwrap();
    videos(&dir.path().join("real"), 9, 12, 0);
    let clips = open(&dir.path().join("real"), &protocol()).unwrap();
    let cache = Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() };
    let take = || {
        let taken = extract(&clips, &Simple::new(), protocol().preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress);
        whole(taken.unwrap())
    };
    let expected = take();
    for _ in 0..10 {
        std::fs::remove_dir_all(&cache.folder).unwrap();
        let found = std::thread::scope(|scope| [0; 4].map(|_| scope.spawn(take)).map(|thread| thread.join().unwrap()));
        assert!(found.iter().all(|found| *found == expected));
    }
    let key = std::fs::read_dir(&cache.folder).unwrap().next().unwrap().unwrap().path();
    let names: Vec<String> =
        std::fs::read_dir(key).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["group-000000.safetensors"]);
}

#[derive(Default)]
struct Heard {
    warnings: Vec<String>,
    last: (usize, usize),
}

impl Progress for Heard {
    fn stage(&mut self, _: Stage, done: u64, total: u64) {
        self.last = (done as usize, total as usize);
    }

    fn warning(&mut self, message: &str) {
        self.warnings.push(message.into());
    }
}

#[test]
fn one_two_and_five_processes_give_the_same_number_to_the_last_digit() {
    let dir = tempfile::tempdir().unwrap();
    let (real, fake) = (dir.path().join("real"), dir.path().join("fake"));
    videos(&real, 120, 12, 0);
    videos(&fake, 110, 12, 40);
    let protocol = protocol();
    let preparation = protocol.preparation;
    let mut values = Vec::new();
    for shards in [1, 2, 5] {
        let mut features = Vec::new();
        for (folder, sampling, role) in [(&real, protocol.real.unwrap(), "real"), (&fake, protocol.fake, "generated")] {
            let location = Location::new(Layout::Folder, folder);
            let clips = ClipSet::open(&location, &sampling, &protocol, Decoder::BuiltIn, role).unwrap();
            let cache = dir.path().join(format!("cache-{shards}"));
            let detector = Simple::new();
            let mut found = None;
            // The last shard first.
            for shard in (1..=shards).rev() {
                let cache = Cache { folder: cache.clone(), shard: format!("{shard}/{shards}").parse().unwrap() };
                match extract(&clips, &detector, preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress).unwrap() {
                    Extraction::Whole(set) => found = Some(*set),
                    Extraction::Part { missing, .. } => assert!(missing > 0 && shard > 1),
                }
            }
            assert_eq!(detector.clips.load(Ordering::Relaxed), clips.len(), "each clip once");
            features.push(SetFeatures::Each(Box::new(found.unwrap())));
        }
        let score = score(&protocol, Some(&features[0]), &features[1], &ScoreOptions::default()).unwrap();
        values.push(score.value.to_bits());
    }
    assert_eq!(values, [values[0]; 3]);
    assert!(f64::from_bits(values[0]) > 0.0);
}

#[test]
fn finished_groups_are_reused_and_damaged_ones_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 120, 12, 0);
    let (protocol, cache) = (protocol(), Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() });
    let run = |detector: &Simple, heard: &mut Heard| {
        let clips = open(&folder, &protocol).unwrap();
        whole(extract(&clips, detector, protocol.preparation, FEATURE_LAYERS, Some(&cache), heard).unwrap())
    };
    let (detector, mut heard) = (Simple::new(), Heard::default());
    let first = run(&detector, &mut heard);
    assert_eq!((detector.clips.load(Ordering::Relaxed), heard.last), (120, (120, 120)));
    let again = run(&detector, &mut heard);
    assert_eq!((first.clone(), detector.clips.load(Ordering::Relaxed)), (again, 120));
    let key = std::fs::read_dir(&cache.folder).unwrap().next().unwrap().unwrap().path();
    let mut parts: Vec<PathBuf> = std::fs::read_dir(&key).unwrap().map(|e| e.unwrap().path()).collect();
    parts.sort();
    assert_eq!(parts.len(), 3);
    let bytes = std::fs::read(&parts[1]).unwrap();
    std::fs::write(&parts[1], &bytes[..bytes.len() - 5]).unwrap();
    let mut heard = Heard::default();
    assert_eq!(run(&detector, &mut heard), first);
    assert_eq!(detector.clips.load(Ordering::Relaxed), 120 + 52);
    assert!(heard.warnings.iter().any(|w| w.contains("group-000001") && w.contains("made again")), "{:?}", heard.warnings);
    // The groups of two machines form one set; with one missing they do not.
    let halves = [dir.path().join("a"), dir.path().join("b")];
    for (half, numbers) in halves.iter().zip([&[0, 2][..], &[1]]) {
        std::fs::create_dir(half).unwrap();
        for &number in numbers {
            std::fs::copy(&parts[number], half.join(parts[number].file_name().unwrap())).unwrap();
        }
    }
    assert_eq!(merge(&halves).unwrap(), first);
    assert!(merge(&halves[..1]).unwrap_err().to_string().contains("1 of 3 parts are missing (2)"));
    assert!(merge(&[dir.path().join("v")]).is_err());
    // Changed content means other features: nothing is reused.
    videos(&folder, 1, 12, 99);
    run(&detector, &mut Heard::default());
    assert_eq!(detector.clips.load(Ordering::Relaxed), 120 + 52 + 120);
}

#[test]
fn groups_in_the_wrong_folder_and_groups_without_an_output_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    videos(&one, 60, 12, 0);
    videos(&other, 60, 12, 40);
    let (protocol, cache) = (protocol(), Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() });
    let detector = Simple::new();
    let mut folders = Vec::new();
    let mut run = |folder: &Path| {
        let clips = open(folder, &protocol).unwrap();
        let set = whole(extract(&clips, &detector, protocol.preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress).unwrap());
        folders.push(cache.folder.join(set.origin.key()));
        set
    };
    let (first, second) = (run(&one), run(&other));
    assert_ne!(first.outputs, second.outputs);
    let [of_one, of_other] = [&folders[0], &folders[1]].map(|folder| folder.join("group-000000.safetensors"));
    std::fs::copy(&of_one, &of_other).unwrap();
    let again = |folder: &Path| {
        let clips = open(folder, &protocol).unwrap();
        whole(extract(&clips, &detector, protocol.preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress).unwrap())
    };
    assert_eq!(again(&other), second);
    // A group of an earlier run with more outputs is reduced to the requested ones; one with fewer is computed again.
    let mut more = FeatureSet { names: first.names[..52].to_vec(), ..first.clone() };
    let logits = first.outputs["logits"].rows(&(0..52).collect::<Vec<_>>());
    more.outputs = [("logits".to_string(), logits.clone()), ("more".to_string(), logits)].into();
    rewrite(&of_one, &more);
    assert_eq!(again(&one), first);
    let said = merge(&folders[..1]).unwrap_err().to_string();
    assert!(said.contains("52 rows of the output `more` for 60 clips"), "{said}");
    more.outputs.remove("logits");
    rewrite(&of_one, &more);
    assert_eq!(again(&one), first);
    assert_eq!(merge(&folders[..1]).unwrap(), first);
    let said = merge(&folders).unwrap_err().to_string();
    assert!(said.contains("other clips or another detector"), "{said}");
}

/// Replaces a group by another set that claims to be that group.
fn rewrite(group: &Path, set: &FeatureSet) {
    let (_, description) = latte_weights::load(group).unwrap();
    let mut description = description.unwrap();
    description["names"] = set.names.clone().into();
    let tensor = |(name, features): (&String, &latte_eval::metric::Features)| {
        let shape = (features.len(), features.width());
        (name.clone(), Tensor::from_slice(features.values(), shape, &Device::Cpu).unwrap())
    };
    let tensors = set.outputs.iter().map(tensor).collect();
    latte_weights::save(group, &tensors, Some(&description)).unwrap();
}

/// Clips of which some cannot be read.
struct Failing {
    clips: ClipsInMemory,
    bad: &'static [usize],
}

impl ClipList for Failing {
    fn report(&self) -> &latte_eval::clips::SetReport {
        self.clips.report()
    }

    fn len(&self) -> usize {
        self.clips.len()
    }

    fn name(&self, index: usize) -> String {
        self.clips.name(index)
    }

    fn read(&self, range: std::ops::Range<usize>) -> Vec<Result<Clip, String>> {
        let bad = |(index, clip): (usize, Result<Clip, String>)| match self.bad.iter().position(|bad| *bad == index) {
            // The first of the bad clips cannot be decoded, the others have another size than announced.
            Some(0) => Err(format!("clip {index}: cut off")),
            Some(_) => Ok(Clip::new(vec![9; 4 * 4 * 5 * 3], [4, 4, 5, 3], 8.0).unwrap()),
            None => clip,
        };
        range.clone().zip(self.clips.read(range)).map(bad).collect()
    }
}

#[test]
fn unreadable_clips_are_counted_in_every_way_to_get_features() {
    let dir = tempfile::tempdir().unwrap();
    // 64 clips of 4 frames form a group.
    let clip =
        |i: usize| Clip::new((0..4 * 4 * 4 * 3).map(|p| ((p * (i + 3) + i) % 251) as u8).collect(), [4, 4, 4, 3], 8.0).unwrap();
    let clips = |bad| Failing { clips: ClipsInMemory::new("some", (0..70).map(clip).collect()).unwrap(), bad };
    let cache = Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() };
    let run = |bad, heard: &mut Heard| {
        extract(&clips(bad), &Simple::new(), protocol().preparation, FEATURE_LAYERS, Some(&cache), heard)
    };
    let mut heard = Heard::default();
    let set = whole(run(&[2, 66], &mut heard).unwrap());
    assert_eq!(
        (set.names.len(), set.origin.set.clips, set.origin.set.videos, set.output("logits").unwrap().len()),
        (68, 68, 70, 68)
    );
    assert_eq!(heard.warnings, ["clip 2: cut off", "66: its frames are [4, 4, 5, 3], expected [4, 4, 4, 3]"]);
    assert_eq!(set.origin.set.unreadable, heard.warnings);
    assert!(!set.names.contains(&"2".to_string()) && set.names[2] == "3");
    // From the cache, from merged groups, and in a score.
    assert_eq!(whole(run(&[2, 66], &mut Heard::default()).unwrap()), set);
    assert_eq!(merge(&[cache.folder.join(set.origin.key())]).unwrap(), set);
    let of = protocol().changed(|p| p.frames = 4);
    let features = SetFeatures::Each(Box::new(set));
    let warnings = score(&of, Some(&features), &features, &ScoreOptions::default()).unwrap().warnings;
    for role in ["2 real", "2 generated"] {
        let expected = format!("{role} videos or clips cannot be read and are left out; the first: clip 2: cut off");
        assert!(warnings.contains(&expected), "{warnings:?}");
    }
    // A set without a readable clip is an error.
    let none = Failing { clips: ClipsInMemory::new("none", vec![clip(1)]).unwrap(), bad: &[0] };
    let said =
        extract(&none, &Simple::new(), protocol().preparation, FEATURE_LAYERS, None, &mut NoProgress).unwrap_err().to_string();
    assert!(said.contains("none of its clips can be read") && said.contains("cut off"), "{said}");
}

#[test]
fn an_interrupted_run_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 120, 12, 0);
    let (protocol, cache) = (protocol(), Cache { folder: dir.path().join("cache"), shard: "1/1".parse().unwrap() });
    let detector = Simple::new();
    let run = || {
        let clips = open(&folder, &protocol).unwrap();
        whole(extract(&clips, &detector, protocol.preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress).unwrap())
    };
    let first = run();
    let parts = cache.folder.join(first.origin.key());
    // Killed while the second of three groups was written.
    let begun = parts.join("group-000001.safetensors");
    let bytes = std::fs::read(&begun).unwrap();
    std::fs::write(parts.join("group-000001.safetensors.tmp"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_file(&begun).unwrap();
    std::fs::remove_file(parts.join("group-000002.safetensors")).unwrap();
    assert!(merge(std::slice::from_ref(&parts)).unwrap_err().to_string().contains("2 of 3 parts are missing (2, 3)"));
    assert_eq!(run(), first);
    assert_eq!(detector.clips.load(Ordering::Relaxed), 120 + 68);
    assert_eq!(merge(&[parts]).unwrap(), first);
}

#[test]
fn a_cache_that_cannot_be_written_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    videos(&dir.path().join("v"), 3, 12, 0);
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let (protocol, cache) = (protocol(), Cache { folder: dir.path().join("file"), shard: "1/1".parse().unwrap() });
    let clips = open(&dir.path().join("v"), &protocol).unwrap();
    let said = extract(&clips, &Simple::new(), protocol.preparation, FEATURE_LAYERS, Some(&cache), &mut NoProgress)
        .unwrap_err()
        .to_string();
    assert!(said.contains("features are to be kept here") && said.contains("name one that can be written to"), "{said}");
}

#[test]
fn short_and_unreadable_videos_are_counted_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    // 10 frames are needed, one of them after the last frame of a clip: two thirds of the videos are too short.
    videos(&folder, 9, 8, 0);
    std::fs::write(folder.join("broken.mp4"), b"no video").unwrap();
    let protocol = protocol();
    let clips = open(&folder, &protocol).unwrap();
    let report = clips.report();
    assert_eq!((report.videos, report.too_short, report.unreadable.len(), report.clips), (10, 6, 1, 3));
    assert!(report.unreadable[0].contains("broken.mp4"));
    // If the frames of the clip suffice, fewer are too short.
    let spanned = protocol.changed(|p| p.real.as_mut().unwrap().length_rule = LengthRule::Span);
    assert_eq!(open(&folder, &spanned).unwrap().report().too_short, 3);
    let fake = latte_eval::protocol::Sampling { stride: 2, ..protocol.fake };
    let location = Location::new(Layout::Folder, &folder);
    let refused = ClipSet::open(&location, &fake, &protocol, Decoder::BuiltIn, "generated").unwrap_err().to_string();
    assert!(refused.contains("generated set") && refused.contains(".mp4 has ") && refused.contains("needs 10"), "{refused}");
    // Too few frames for the detector.
    let short = protocol.changed(|p| p.frames = 1);
    let said = extract(&open(&folder, &short).unwrap(), &Simple::new(), short.preparation, FEATURE_LAYERS, None, &mut NoProgress)
        .unwrap_err();
    assert!(said.to_string().contains("needs at least 2"), "{said}");
}

#[test]
fn clips_depend_on_names_and_seed_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 30, 40, 0);
    let protocol = protocol();
    let names = |protocol: &Protocol| {
        let clips = open(&folder, protocol).unwrap();
        (0..clips.len()).map(|i| clips.name(i)).collect::<Vec<_>>()
    };
    let all = names(&protocol);
    assert_eq!((all.len(), &all), (30, &names(&protocol)));
    assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() == 30 && all.iter().any(|name| !name.ends_with("@0")));
    let fewer = names(&protocol.changed(|p| p.real.as_mut().unwrap().most = Some(7)));
    assert!(fewer.len() == 7 && fewer.iter().all(|name| all.contains(name)));
    assert_ne!(names(&protocol.changed(|p| p.seed = 1)), all);
    // Another video in the folder changes no start.
    std::fs::copy(folder.join("003.mp4"), folder.join("new.mp4")).unwrap();
    let more = names(&protocol);
    assert!(more.len() == 31 && all.iter().all(|name| more.contains(name)));
    // Any of all possible clips: several from one video, and none twice.
    let anywhere = protocol.changed(|p| {
        let real = p.real.as_mut().unwrap();
        (real.start, real.most) = (StartRule::Anywhere, Some(200));
    });
    let clips = names(&anywhere);
    assert_eq!(clips.iter().collect::<std::collections::BTreeSet<_>>().len(), 200);
    assert_ne!(clips, names(&anywhere.changed(|p| p.seed = 1)));
    let all_of_them = names(&anywhere.changed(|p| p.real.as_mut().unwrap().most = None));
    // Videos of 40, 41 and 42 frames, clips of 9.
    assert_eq!(all_of_them.len(), 10 * (32 + 33 + 34) + 32);
    // Consecutive clips: frames 0 to 8 and 10 to 18, …
    let every = names(&protocol.changed(|p| p.real.as_mut().unwrap().start = StartRule::Every));
    assert_eq!(&every[..4], ["000.mp4@0", "000.mp4@10", "000.mp4@20", "000.mp4@30"]);
    // The last possible start is included: frame 30 of 39 frames, frame 1 of 10.
    let shorter = dir.path().join("shorter");
    videos(&shorter, 1, 39, 0);
    let names = |folder: &Path, protocol: &Protocol| {
        let clips = open(folder, protocol).unwrap();
        (0..clips.len()).map(|i| clips.name(i)).collect::<Vec<_>>()
    };
    let every = names(&shorter, &protocol.changed(|p| p.real.as_mut().unwrap().start = StartRule::Every));
    assert_eq!(every, ["000.mp4@0", "000.mp4@10", "000.mp4@20", "000.mp4@30"]);
    let short = dir.path().join("short");
    videos(&short, 30, 10, 0);
    let starts: Vec<String> = names(&short, &protocol).into_iter().step_by(3).map(|name| name[8..].to_string()).collect();
    assert!(starts.contains(&"0".to_string()) && starts.contains(&"1".to_string()), "{starts:?}");
    assert!(starts.iter().all(|start| start == "0" || start == "1"), "{starts:?}");
}

#[test]
fn frames_are_compressed_as_jpeg_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 2, 12, 0);
    let named = |name: &str| Protocol::named(name, Task::Fvd, Some(2)).unwrap().changed(|p| p.frames = 5);
    let protocol = named("latte-jpeg75").at_size(24).unwrap();
    let with = open(&folder, &protocol).unwrap();
    assert_eq!(with.report().frame_size, Some([24, 24]));
    let fine = protocol.changed(|p| p.framing.as_mut().unwrap().transform = FrameTransform::CropLanczosJpeg(100));
    let fine = open(&folder, &fine).unwrap();
    assert_ne!(with.report().content, fine.report().content);
    let [with, fine] = [with, fine].map(|clips| clips.read(0..1).remove(0).unwrap());
    assert_ne!(with.pixels(), fine.pixels());
    let frames = dir.path().join("frames/v");
    std::fs::create_dir_all(&frames).unwrap();
    for i in 0..12 {
        write_jpeg(frames.join(format!("{i}.jpg")), &[100; 24 * 24 * 3], 24, 24, 90).unwrap();
    }
    let said = open(&dir.path().join("frames"), &protocol).unwrap_err().to_string();
    assert!(said.contains("is of JPEG files"), "{said}");
    assert!(open(&dir.path().join("frames"), &named("latte")).is_ok());
}

#[test]
fn frames_of_several_sizes_need_one_size_and_dark_pixels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 3, 12, 0);
    let wide = Clip::new(vec![9; 12 * 16 * 32 * 3], [12, 16, 32, 3], 8.0).unwrap();
    write_mp4(folder.join("wide.mp4"), &wide, &Mp4Options::default()).unwrap();
    let protocol = protocol();
    let said = open(&folder, &protocol).unwrap_err().to_string();
    assert!(said.contains("32 × 16") && said.contains("one size"), "{said}");
    let sized = protocol.changed(|p| p.framing = Some(Framing { size: [8, 8], transform: Transform::CropResize.into() }));
    let clips = open(&folder, &sized).unwrap();
    assert_eq!(clips.report().frame_size, Some([8, 8]));
    assert!(clips.read(0..4).iter().all(|clip| clip.as_ref().unwrap().shape() == [5, 8, 8, 3]));

    // The rounding of frames and the way they reach their size are part of what determines features.
    let lower = sized.changed(|p| p.real.as_mut().unwrap().rounding = Rounding::Down);
    let otherwise = sized.changed(|p| p.framing.as_mut().unwrap().transform = Transform::ResizeCrop.into());
    let content = |protocol: &Protocol| open(&folder, protocol).unwrap().report().clone();
    assert_ne!(content(&sized).content, content(&lower).content);
    assert_ne!(content(&sized).content, content(&otherwise).content);

    let dark = ClipsInMemory::new("dark", vec![Clip::new(vec![1; 4 * 4 * 3], [4, 2, 2, 3], 8.0).unwrap()]).unwrap();
    let set = whole(extract(&dark, &Simple::new(), protocol.preparation, FEATURE_LAYERS, None, &mut NoProgress).unwrap());
    let (set, of) = (SetFeatures::Each(Box::new(set)), protocol.changed(|p| p.frames = 4));
    let said =
        score(&of, Some(&set), &set, &ScoreOptions { allow_few: true, ..ScoreOptions::default() }).unwrap_err().to_string();
    assert!(said.contains("0 to 1"), "{said}");
    assert!(ClipsInMemory::new("none", Vec::new()).is_err());
}
