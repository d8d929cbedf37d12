//! Selects the videos that are held out for validation, by their names.

use latte_video::dataset::Item;

use crate::error::{Error, Result};

/// One part of a data set that `validation.fraction` splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The training data.
    Training,
    /// The held-out data.
    Validation,
}

impl Split {
    /// Whether a video called `name` is in this part if `fraction` of the videos are held out. The result depends on nothing else,
    /// so a video stays in its part when others are added or removed. A video that a manifest lists with several captions (`name`,
    /// `name#2`, …) is in one part. So are the clips that UCF-101 cut from one recording (`v_Class_g01_c01`, `v_Class_g01_c02`, …),
    /// because they are as similar as parts of one video.
    pub fn holds(self, name: &str, fraction: f64) -> bool {
        (place(recording(name)) < fraction) == (self == Self::Validation)
    }

    /// Keeps the items of this part; held-out items get an order that depends on their names alone.
    ///
    /// # Errors
    ///
    /// If none are left, or none of a class in `classes` are left for training.
    pub(crate) fn keep(self, items: &mut Vec<Item>, fraction: f64, classes: &[String]) -> Result<()> {
        let all = items.len();
        items.retain(|item| self.holds(&item.name, fraction));
        let wrong = |what: String| Err(Error::config("configuration", "validation.fraction", what));
        match self {
            _ if items.is_empty() => {
                let (of, hint) = match self {
                    Self::Training => ("all", "a smaller"),
                    Self::Validation => ("none", "a larger"),
                };
                wrong(format!(
                    "{fraction} of {all} videos are {of} of them; take {hint} share, or another data set as `validation.path`"
                ))
            }
            Self::Training => match (0..classes.len()).find(|&class| !items.iter().any(|i| i.label == Some(class as u32))) {
                Some(class) => {
                    let class = &classes[class];
                    wrong(format!(
                        "all videos of the class `{class}` would be held out; take a smaller share, or another data set as `validation.path`"
                    ))
                }
                None => Ok(()),
            },
            Self::Validation => {
                items.sort_by(|a, b| place(without_number(&a.name)).total_cmp(&place(without_number(&b.name))));
                Ok(())
            }
        }
    }
}

/// The name without the suffix that makes several names of one video unique.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('#') {
        Some((video, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => video,
        _ => name,
    }
}

/// The part of the name that identifies the recording.
fn recording(name: &str) -> &str {
    let name = without_number(name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let is_numbered = |part: &str, letter: char| {
        part.strip_prefix(letter).is_some_and(|number| number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    match stem.rsplit_once('_') {
        Some((rest, clip)) if is_numbered(clip, 'c') => match rest.rsplit_once('_') {
            Some((_, group)) if is_numbered(group, 'g') => rest,
            _ => name,
        },
        _ => name,
    }
}

/// Hashes a name to a number in [0, 1), uniformly (FNV-1a, then SplitMix64's finalizer for the high bits of short names).
fn place(name: &str) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use latte_video::dataset::MediaLocation;

    use super::*;

    fn items(names: impl Iterator<Item = String>) -> Vec<Item> {
        let item = |(i, name): (usize, String)| Item {
            place: MediaLocation::Path(PathBuf::from(&name)),
            name,
            label: Some(i as u32 % 2),
            caption: None,
            info: None,
        };
        names.enumerate().map(item).collect()
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn every_video_is_on_one_side_and_stays_there() {
        let classes = ["a".to_string(), "b".to_string()];
        let cut = |count: usize| {
            let all = items((0..count).map(|i| format!("class/{i:03}.mp4")));
            let (mut train, mut held) = (all.clone(), all);
            Split::Training.keep(&mut train, 0.2, &classes).unwrap();
            Split::Validation.keep(&mut held, 0.2, &classes).unwrap();
            (train, held)
        };
        let (train, held) = cut(1000);
        assert_eq!(train.len() + held.len(), 1000);
        assert!(train.iter().all(|item| !names(&held).contains(&item.name.as_str())));
        // 200 ± 4 standard deviations.
        assert!((150..250).contains(&held.len()), "{}", held.len());
        let (_, fewer) = cut(500);
        assert!(fewer.iter().all(|item| names(&held).contains(&item.name.as_str())));
        assert!(!names(&held).is_sorted(), "the order is not that of the names");
        // Recorded once, so that no change of the program moves a video: 0.2 of these are held out.
        let some: Vec<&str> = names(&held).into_iter().filter(|name| *name < "class/020").collect();
        assert_eq!(some, HELD_OF_TWENTY);
    }

    #[test]
    fn clips_of_one_recording_are_on_one_side() {
        assert_eq!(recording("Archery/v_Archery_g08_c01.avi"), "Archery/v_Archery_g08");
        for other in ["a/v_Archery_g08_c1.avi", "a/v_Archery_c08_c01.avi", "a/x_c01.mp4", "g01_c01"] {
            assert_eq!(recording(other), other);
        }
        let sides = |clip: u32| (1..=25).map(move |g| Split::Validation.holds(&format!("A/v_A_g{g:02}_c{clip:02}.avi"), 0.5));
        assert!((2..=7).all(|clip| sides(clip).eq(sides(1))));
        assert!(sides(1).any(|held| held) && sides(1).any(|held| !held));
    }

    #[test]
    fn a_video_with_several_captions_is_on_one_side() {
        for i in 0..200 {
            let held = Split::Validation.holds(&format!("{i}.mp4"), 0.5);
            assert_eq!(Split::Validation.holds(&format!("{i}.mp4#2"), 0.5), held);
            assert_eq!(Split::Validation.holds(&format!("{i}.mp4#17"), 0.5), held);
        }
        // Names of Taichi-HD have no such suffix.
        assert!(
            (0..200)
                .any(|i| Split::Training.holds("a#2.mp4", f64::from(i) / 200.0)
                    != Split::Training.holds("a", f64::from(i) / 200.0))
        );
    }

    /// The held-out ones of `class/000.mp4` to `class/019.mp4`.
    const HELD_OF_TWENTY: [&str; 4] = ["class/000.mp4", "class/018.mp4", "class/013.mp4", "class/010.mp4"];

    #[test]
    fn a_part_without_videos_is_an_error_that_says_what_to_do() {
        let refuse = |split: Split, fraction: f64, names: &[&str], classes: &[String]| {
            let mut items = items(names.iter().map(ToString::to_string));
            split.keep(&mut items, fraction, classes).unwrap_err().to_string()
        };
        let none = refuse(Split::Validation, 1e-9, &["a", "b"], &[]);
        assert!(none.contains("validation.fraction") && none.contains("none of them") && none.contains("larger"), "{none}");
        let all = refuse(Split::Training, 1.0 - 1e-9, &["a", "b"], &[]);
        assert!(all.contains("all of them") && all.contains("smaller"), "{all}");
        let many: Vec<String> = (0..40).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let class = refuse(Split::Training, 0.5, &many, &["x".into(), "y".into(), "z".into()]);
        assert!(class.contains("all videos of the class `z`"), "{class}");
    }
}
