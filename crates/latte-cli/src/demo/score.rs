//! The demo's result: how many generated clips move the way their class says and show the shape of their class.

use latte_demo::{CHANCE, Class, MIN_TRAVEL, Measured};
use latte_train::EvaluationRecord;

/// The result as lines of text.
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

/// The distance of the clips of each evaluation from held-out videos, as lines of text.
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
            "({name}: a Fréchet distance of {} clips by a detector with seeded, untrained weights; it compares steps of \
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
    use latte_demo::{Direction, Motion, Thing};

    use super::*;

    fn clip(class: Class, direction: Option<Direction>, thing: Thing) -> Measured {
        let displacement = direction.map(Direction::step);
        Measured { class, path: "a.mp4".into(), motion: Motion { displacement, direction, thing: Some(thing) } }
    }

    #[test]
    fn distances_say_what_they_are() {
        let record =
            |step, value| EvaluationRecord { step, clips: 8, scores: [("random_i3d_fvd".to_string(), value)].into(), time: 0.0 };
        let lines = distances(&[record(0, 90.25), record(5, 12.0)]);
        assert!(lines[1].ends_with("90.2 untrained, 12.0 after step 5"), "{lines:?}");
        assert!(lines[2].contains("random_i3d_fvd") && lines[2].contains("untrained weights") && lines[2].contains("8 clips"));
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
