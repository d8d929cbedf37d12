//! The demo's result: how many generated clips move the way their class says, and show the thing it says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use latte_train::EvaluationRecord;
use latte_video::{Decoder, Video, find_videos};

use super::motion::{CHANCE, MIN_TRAVEL, Motion, measure};
use super::scene::Class;
use crate::failure::bad_input;

/// A generated clip and what was measured in its file.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) class: Class,
    pub(crate) path: PathBuf,
    pub(crate) motion: Motion,
}

impl Measured {
    /// Reads the written file and measures its pixels.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(crate) fn from_file(class: Class, path: &Path) -> anyhow::Result<Self> {
        let clip = Video::open(path, Decoder::Auto).and_then(|video| video.all()).context("cannot measure a clip")?;
        Ok(Self { class, path: path.to_path_buf(), motion: measure(clip.pixels(), clip.shape()) })
    }

    fn direction_is_right(&self) -> bool {
        self.motion.direction_matches(self.class)
    }

    fn thing_is_right(&self) -> bool {
        self.motion.thing_matches(self.class)
    }
}

/// Measures all videos below `folder`. The class is what a video's name begins with, as `latte sample` names them, or the name of
/// the folder that it lies in, as in the demo's data set.
///
/// # Errors
///
/// If there is no video, a name tells no class, or a video cannot be read.
pub(crate) fn measure_folder(folder: &Path) -> anyhow::Result<Vec<Measured>> {
    let measured = find_videos(folder)?.into_iter().map(|path| {
        let class = class_of(&path).ok_or_else(|| {
            bad_input(format!(
                "{}: expected a name that begins with a class of the demo and `_`, for example right_red_square_seed0.mp4, or a \
                 folder of the class's name around it; measure what a model of the demo's classes made",
                path.display()
            ))
        })?;
        Measured::from_file(class, &path)
    });
    measured.collect()
}

fn class_of(path: &Path) -> Option<Class> {
    let name = path.file_stem()?.to_str()?;
    let begins = |class: &Class| name.strip_prefix(&class.to_string()).is_some_and(|rest| rest.starts_with('_'));
    let parent = || Class::from_name(path.parent()?.file_name()?.to_str()?);
    Class::all().into_iter().find(begins).or_else(parent)
}

/// The result for people, a line each.
pub(crate) fn report(clips: &[Measured]) -> Vec<String> {
    let total = clips.len();
    let percent = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let count = |rule: fn(&Measured) -> bool| clips.iter().filter(|clip| rule(clip)).count();
    let (moving, showing) = (count(Measured::direction_is_right), count(Measured::thing_is_right));
    let both = count(|clip| clip.direction_is_right() && clip.thing_is_right());
    let mut lines = vec![
        format!("{moving} of {total} clips ({:.0} %) move the way their class says", percent(moving, total)),
        format!("{showing} of {total} clips ({:.0} %) show the thing their class says; {both} do both", percent(showing, total)),
        format!(
            "measured in the pixels of the written files: the thing's centre must travel {:.0} % of the frame or more, \
             mostly one way; a clip that ignores its class is right at most {:.0} % of the time",
            100.0 * MIN_TRAVEL,
            100.0 * CHANCE
        ),
        String::new(),
        format!("{:<18} {:>9} {:>6}   {}", "class", "direction", "thing", "what was seen where the direction is wrong"),
    ];
    for class in Class::all() {
        let own: Vec<&Measured> = clips.iter().filter(|clip| clip.class == class).collect();
        if own.is_empty() {
            continue;
        }
        let right = own.iter().filter(|clip| clip.direction_is_right()).count();
        let things = own.iter().filter(|clip| clip.thing_is_right()).count();
        let wrong: Vec<String> = own.iter().filter(|clip| !clip.direction_is_right()).map(|clip| seen(clip)).collect();
        let line = format!(
            "{:<18} {:>9} {:>6}   {}",
            class.to_string(),
            format!("{right}/{}", own.len()),
            format!("{things}/{}", own.len()),
            wrong.join(", ")
        );
        lines.push(line.trim_end().to_string());
    }
    lines
}

/// How far the clips of each evaluation are from videos that were not trained on, for people.
pub(crate) fn distances(evaluations: &[EvaluationRecord]) -> Vec<String> {
    let values: Vec<String> = evaluations
        .iter()
        .flat_map(|record| record.scores.values().map(move |value| (record.step, value)))
        .map(|(step, value)| if step == 0 { format!("{value:.1} untrained") } else { format!("{value:.1} after step {step}") })
        .collect();
    let Some(last) = evaluations.last() else { return Vec::new() };
    let name = last.scores.keys().next().map_or("", String::as_str);
    vec![
        String::new(),
        format!("distance to videos that were not trained on: {}", values.join(", ")),
        format!(
            "({name}: a Fréchet distance of {} clips by a detector with seeded weights that nobody trained; it compares steps of \
             this run with each other, and is no published FVD)",
            last.clips
        ),
    ]
}

fn seen(clip: &Measured) -> String {
    let name = clip.path.file_name().unwrap_or_default().to_string_lossy();
    match (clip.motion.direction, clip.motion.displacement) {
        (Some(direction), _) => format!("{name}: {direction}"),
        (None, Some((right, down))) => {
            format!("{name}: no clear direction ({:+.0} % right, {:+.0} % down)", 100.0 * right, 100.0 * down)
        }
        (None, None) => format!("{name}: nothing that moves"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Direction, Thing};
    use super::*;

    fn clip(class: Class, direction: Option<Direction>, thing: Thing) -> Measured {
        let displacement = direction.map(Direction::step);
        Measured { class, path: "a.mp4".into(), motion: Motion { displacement, direction, thing: Some(thing) } }
    }

    #[test]
    fn a_class_is_read_from_the_name_or_from_the_folder() {
        let class = |path: &str| class_of(Path::new(path)).map(|class| class.to_string());
        assert_eq!(class("a/up_blue_disc_seed3.mp4").as_deref(), Some("up_blue_disc"));
        assert_eq!(class("left_red_square/007.mp4").as_deref(), Some("left_red_square"));
        // The name is nearer to the clip than the folder.
        assert_eq!(class("left_red_square/up_blue_disc_seed3.mp4").as_deref(), Some("up_blue_disc"));
        assert_eq!((class("up_blue_discs.mp4"), class("a.mp4"), class("left_red_square/sub/007.mp4")), (None, None, None));
    }

    #[test]
    fn distances_say_what_they_are() {
        let record =
            |step, value| EvaluationRecord { step, clips: 8, scores: [("random_i3d_fvd".to_string(), value)].into(), time: 0.0 };
        let lines = distances(&[record(0, 90.25), record(5, 12.0)]);
        assert!(lines[1].ends_with("90.2 untrained, 12.0 after step 5"), "{lines:?}");
        assert!(lines[2].contains("random_i3d_fvd") && lines[2].contains("nobody trained") && lines[2].contains("8 clips"));
        assert!(distances(&[]).is_empty());
    }

    #[test]
    fn counts_are_counts() {
        let class = Class { direction: Direction::Right, thing: Thing::RedSquare };
        let clips = [
            clip(class, Some(Direction::Right), Thing::RedSquare),
            clip(class, Some(Direction::Right), Thing::BlueDisc),
            clip(class, Some(Direction::Left), Thing::RedSquare),
            clip(class, None, Thing::RedSquare),
        ];
        let lines = report(&clips);
        assert_eq!(lines[0], "2 of 4 clips (50 %) move the way their class says");
        assert_eq!(lines[1], "3 of 4 clips (75 %) show the thing their class says; 1 do both");
        assert_eq!(lines[5], "right_red_square         2/4    3/4   a.mp4: left, a.mp4: nothing that moves");
        assert_eq!(lines.len(), 6);
    }
}
