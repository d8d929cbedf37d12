//! From videos on disk to a number: the same digits, however the work is divided, and nothing left out silently.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use latte_eval::clips::{ClipList, ClipSet, ClipsInMemory};
use latte_eval::detector::{Clips, Detector, Identity, Tap};
use latte_eval::extract::{Cache, Extraction, Progress, Unseen, extract, merge};
use latte_eval::features::FeatureSet;
use latte_eval::judge::{Extras, SetFeatures, judge};
use latte_eval::protocol::{FrameTransform, Framing, Protocol, Room, Rounding, StartRule, Task};
use latte_video::dataset::{Layout, Location};
use latte_video::encode::{Mp4Options, write_jpeg, write_mp4};
use latte_video::{Clip, Decoder, Transform};

const TAPS: &[Tap] = &[Tap { name: "logits", width: 4 }];

/// Four numbers of each clip.
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

    fn taps(&self) -> &'static [Tap] {
        TAPS
    }

    fn min_frames(&self) -> usize {
        2
    }

    fn features(&self, clips: Clips<'_>, taps: &[Tap]) -> latte_eval::Result<Vec<Tensor>> {
        let [n, f, h, w] = clips.shape;
        assert_eq!(taps, TAPS);
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
    // Many small groups: 64 frames make a group of 4 clips.
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

#[derive(Default)]
struct Heard {
    warnings: Vec<String>,
    last: (usize, usize),
}

impl Progress for Heard {
    fn extracted(&mut self, done: usize, total: usize) {
        self.last = (done, total);
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
    for shares in [1, 2, 5] {
        let mut features = Vec::new();
        for folder in [&real, &fake] {
            let clips = open(folder, &protocol).unwrap();
            let cache = dir.path().join(format!("cache-{shares}"));
            let detector = Simple::new();
            let mut found = None;
            // The last first.
            for share in (1..=shares).rev() {
                let cache = Cache { folder: cache.clone(), share: format!("{share}/{shares}").parse().unwrap() };
                match extract(&clips, &detector, preparation, TAPS, Some(&cache), &mut Unseen).unwrap() {
                    Extraction::Whole(set) => found = Some(*set),
                    Extraction::Part { missing, .. } => assert!(missing > 0 && share > 1),
                }
            }
            assert_eq!(detector.clips.load(Ordering::Relaxed), clips.len(), "each clip once");
            features.push(SetFeatures::Each(Box::new(found.unwrap())));
        }
        let score = judge(&protocol, Some(&features[0]), &features[1], &Extras::default()).unwrap();
        values.push(score.value.to_bits());
    }
    assert_eq!(values, [values[0]; 3]);
    assert!(f64::from_bits(values[0]) > 0.0);
}

#[test]
fn finished_groups_are_taken_from_the_cache_and_damaged_ones_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    videos(&folder, 120, 12, 0);
    let (protocol, cache) = (protocol(), Cache { folder: dir.path().join("cache"), share: "1/1".parse().unwrap() });
    let run = |detector: &Simple, heard: &mut Heard| {
        let clips = open(&folder, &protocol).unwrap();
        whole(extract(&clips, detector, protocol.preparation, TAPS, Some(&cache), heard).unwrap())
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
    // The parts of two machines are one set; with one missing they are none.
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
    // Other content, other features: nothing is taken from the cache.
    videos(&folder, 1, 12, 99);
    run(&detector, &mut Heard::default());
    assert_eq!(detector.clips.load(Ordering::Relaxed), 120 + 52 + 120);
}

#[test]
fn short_and_unreadable_videos_are_counted_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v");
    // 10 frames are needed, one behind the last of a clip too: two thirds are too short.
    videos(&folder, 9, 8, 0);
    std::fs::write(folder.join("broken.mp4"), b"no video").unwrap();
    let protocol = protocol();
    let clips = open(&folder, &protocol).unwrap();
    let report = clips.report();
    assert_eq!((report.videos, report.too_short, report.unreadable.len(), report.clips), (10, 6, 1, 3));
    assert!(report.unreadable[0].contains("broken.mp4"));
    // Where a clip's own frames suffice, two thirds are not.
    let spanned = protocol.changed(|p| p.real.as_mut().unwrap().room = Room::Span);
    assert_eq!(open(&folder, &spanned).unwrap().report().too_short, 3);
    let fake = latte_eval::protocol::Sampling { stride: 2, ..protocol.fake };
    let location = Location::new(Layout::Folder, &folder);
    let refused = ClipSet::open(&location, &fake, &protocol, Decoder::BuiltIn, "generated").unwrap_err().to_string();
    assert!(refused.contains("generated set") && refused.contains("needs 10"), "{refused}");
    // Too few frames for the detector.
    let short = protocol.changed(|p| p.frames = 1);
    let said = extract(&open(&folder, &short).unwrap(), &Simple::new(), short.preparation, TAPS, None, &mut Unseen).unwrap_err();
    assert!(said.to_string().contains("needs at least 2"), "{said}");
}

#[test]
fn clips_follow_from_names_and_seed() {
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
    // Another video beside them moves no start.
    std::fs::copy(folder.join("003.mp4"), folder.join("new.mp4")).unwrap();
    let more = names(&protocol);
    assert!(more.len() == 31 && all.iter().all(|name| more.contains(name)));
    // Any of all clips: more than one of a video, and none twice.
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
    // One behind the other: frames 0 to 8 and 10 to 18, …
    let every = names(&protocol.changed(|p| p.real.as_mut().unwrap().start = StartRule::Every));
    assert_eq!(&every[..4], ["000.mp4@0", "000.mp4@10", "000.mp4@20", "000.mp4@30"]);
}

#[test]
fn frames_go_through_one_jpeg_file_and_not_through_two() {
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
fn frames_of_many_sizes_need_one_size_and_dark_pixels_are_refused() {
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

    // How frames are rounded is part of what features are of, and how they come to a size too.
    let lower = sized.changed(|p| p.real.as_mut().unwrap().rounding = Rounding::Down);
    let otherwise = sized.changed(|p| p.framing.as_mut().unwrap().transform = Transform::ResizeCrop.into());
    let content = |protocol: &Protocol| open(&folder, protocol).unwrap().report().clone();
    assert_ne!(content(&sized).content, content(&lower).content);
    assert_ne!(content(&sized).content, content(&otherwise).content);

    let dark = ClipsInMemory::new("dark", vec![Clip::new(vec![1; 4 * 4 * 3], [4, 2, 2, 3], 8.0).unwrap()]).unwrap();
    let said = extract(&dark, &Simple::new(), protocol.preparation, TAPS, None, &mut Unseen).unwrap_err().to_string();
    assert!(said.contains("0 to 1"), "{said}");
    assert!(ClipsInMemory::new("none", Vec::new()).is_err());
}
