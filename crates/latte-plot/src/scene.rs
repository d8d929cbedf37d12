//! Where everything of a chart stands on the page: a list of marks, from which SVG and PNG are made.

use super::axis::Axis;
use super::strokes::text_width;
use super::{Chart, Line, Panel, Style};

const WIDTH: f64 = 960.0;
const PANEL_HEIGHT: f64 = 260.0;
/// A single panel has the page for itself.
const ONLY_PANEL_HEIGHT: f64 = 400.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 16.0;
/// Above each panel, for its title.
const TITLE: f64 = 30.0;
/// Below each panel, for the ticks of the horizontal axis.
const BELOW: f64 = 26.0;
/// Below the last panel, for what the horizontal axis counts.
const FOOT: f64 = 26.0;
const LEGEND_ROW: f64 = 22.0;
const SWATCH: f64 = 22.0;
const TEXT: f64 = 13.0;

type Colour = [u8; 3];

pub(crate) const BACKGROUND: Colour = [255, 255, 255];
const INK: Colour = [40, 44, 52];
const QUIET: Colour = [96, 102, 112];
const GRID: Colour = [228, 231, 236];
const FRAME: Colour = [176, 182, 192];

/// Colours that people with any colour vision tell apart (Okabe and Ito), those first that stand out on white.
const COLOURS: [Colour; 8] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [110, 84, 64], [120, 120, 120]];

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// In the order in which they are drawn.
    pub(crate) marks: Vec<Mark>,
}

/// Something on the page. Lengths are in pixels, from the upper left corner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    /// A line through `points` with round ends and corners; a dot if all of them are one.
    Line { points: Vec<[f64; 2]>, width: f64, colour: Colour, opacity: f64 },
    /// One line of text that stands on the baseline at `at`.
    Text { at: [f64; 2], text: String, size: f64, anchor: Anchor, bold: bool, colour: Colour },
}

/// Which end of a text stands where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The chart on a page.
pub(crate) fn scene(chart: &Chart) -> Scene {
    let mut marks = Vec::new();
    let mut y = TOP + legend(chart, &mut marks);
    let height = if chart.panels.len() == 1 { ONLY_PANEL_HEIGHT } else { PANEL_HEIGHT };
    let across = chart.across();
    for panel in &chart.panels {
        y += TITLE;
        draw_panel(panel, &across, [y, y + height], &mut marks);
        y += height + BELOW;
    }
    let at = [f64::midpoint(LEFT, WIDTH - RIGHT), y + 12.0];
    marks.push(text(at, &chart.x_label, Anchor::Middle, QUIET));
    Scene { width: WIDTH, height: y + FOOT, marks }
}

fn text(at: [f64; 2], text: &str, anchor: Anchor, colour: Colour) -> Mark {
    Mark::Text { at, text: text.into(), size: TEXT, anchor, bold: false, colour }
}

/// The runs and their colours, in as many rows as they need; gives their height.
fn legend(chart: &Chart, marks: &mut Vec<Mark>) -> f64 {
    let (mut x, mut y) = (LEFT, TOP + LEGEND_ROW / 2.0);
    let mut entry = |name: &str, swatch: Vec<Mark>| {
        let width = SWATCH + 8.0 + text_width(name, TEXT) + 24.0;
        if x + width > WIDTH - RIGHT && x > LEFT {
            (x, y) = (LEFT, y + LEGEND_ROW);
        }
        marks.extend(swatch.into_iter().map(|mark| shifted(mark, [x, y])));
        marks.push(text([x + SWATCH + 8.0, y + TEXT * 0.36], name, Anchor::Start, INK));
        x += width;
    };
    for (run, name) in chart.runs.iter().enumerate() {
        entry(name, vec![stroke(vec![[0.0, 0.0], [SWATCH, 0.0]], 2.4, COLOURS[run % COLOURS.len()], 1.0)]);
    }
    // Where a panel has nothing else, its title says what the dots are.
    let has = |panel: &Panel, dotted: bool| panel.lines.iter().any(|line| (line.style == Style::Dotted) == dotted);
    if chart.panels.iter().any(|panel| has(panel, true) && has(panel, false)) {
        let middle = [SWATCH / 2.0, 0.0];
        entry("validation", vec![stroke(vec![[0.0, 0.0], [SWATCH, 0.0]], 1.2, QUIET, 1.0), dot(middle, QUIET)]);
    }
    y + LEGEND_ROW / 2.0 - TOP
}

fn shifted(mark: Mark, [dx, dy]: [f64; 2]) -> Mark {
    match mark {
        Mark::Line { points, width, colour, opacity } => {
            Mark::Line { points: points.into_iter().map(|[x, y]| [x + dx, y + dy]).collect(), width, colour, opacity }
        }
        text @ Mark::Text { .. } => text,
    }
}

fn stroke(points: Vec<[f64; 2]>, width: f64, colour: Colour, opacity: f64) -> Mark {
    Mark::Line { points, width, colour, opacity }
}

fn dot(at: [f64; 2], colour: Colour) -> Mark {
    stroke(vec![at, at], 6.0, colour, 1.0)
}

fn draw_panel(panel: &Panel, across: &Axis, [top, bottom]: [f64; 2], marks: &mut Vec<Mark>) {
    let up = panel.up();
    let (left, right) = (LEFT, WIDTH - RIGHT);
    let x_of = |place: f64| left + place * (right - left);
    let y_of = |place: f64| bottom - place * (bottom - top);
    for (place, label) in up.ticks(((bottom - top) / 50.0) as usize) {
        marks.push(stroke(vec![[left, y_of(place)], [right, y_of(place)]], 1.0, GRID, 1.0));
        marks.push(text([left - 8.0, y_of(place) + TEXT * 0.36], &label, Anchor::End, QUIET));
    }
    for (place, label) in across.ticks(8) {
        marks.push(stroke(vec![[x_of(place), top], [x_of(place), bottom]], 1.0, GRID, 1.0));
        marks.push(text([x_of(place), bottom + 18.0], &label, Anchor::Middle, QUIET));
    }
    let colour = INK;
    marks.push(Mark::Text {
        at: [left, top - 10.0],
        text: panel.title.clone(),
        size: TEXT + 1.0,
        anchor: Anchor::Start,
        bold: true,
        colour,
    });
    for line in &panel.lines {
        let colour = COLOURS[line.run % COLOURS.len()];
        // Faint lines may leave the panel; they stop at its edge.
        let place = |[x, value]: &[f64; 2]| {
            [x_of(across.place_beyond(*x).clamp(0.0, 1.0)), y_of(up.place_beyond(*value).clamp(0.0, 1.0))]
        };
        let points = thinned(&line.points.iter().map(place).collect::<Vec<_>>());
        draw_line(line, points, colour, marks);
    }
    let corners = [[left, top], [left, bottom], [right, bottom]];
    marks.push(stroke(corners.to_vec(), 1.0, FRAME, 1.0));
}

fn draw_line(line: &Line, points: Vec<[f64; 2]>, colour: Colour, marks: &mut Vec<Mark>) {
    match line.style {
        Style::Faint => marks.push(stroke(points, 1.0, colour, 0.28)),
        // A curve of one point is to be seen too.
        Style::Strong if points.len() == 1 => marks.push(dot(points[0], colour)),
        Style::Strong => marks.push(stroke(points, 2.0, colour, 1.0)),
        Style::Dotted => {
            marks.push(stroke(points.clone(), 1.2, colour, 1.0));
            for at in points {
                // A white rim keeps dots apart from the curve behind them.
                marks.push(stroke(vec![at, at], 8.0, BACKGROUND, 1.0));
                marks.push(dot(at, colour));
            }
        }
    }
}

/// The same line with no more than four points to a column of pixels: its first, least, greatest and last.
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut kept = Vec::new();
    let mut rest = points;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|point| point[0].floor() == first[0].floor()).count();
        let (column, behind) = rest.split_at(length);
        rest = behind;
        let by = |greater: bool| {
            let better = |a: usize, b: usize| if (column[b][1] > column[a][1]) == greater { b } else { a };
            (0..length).reduce(better).unwrap_or(0)
        };
        let mut chosen = [0, by(false), by(true), length - 1];
        chosen.sort_unstable();
        let mut last = None;
        for index in chosen {
            if last != Some(index) {
                kept.push(column[index]);
            }
            last = Some(index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn chart(num_panels: usize, points: usize) -> Chart {
        let curve = |run: usize| Line {
            run,
            style: Style::Strong,
            points: (0..points).map(|i| [i as f64, (i as f64 * 0.01 + run as f64).sin() + 2.0]).collect(),
        };
        let dotted = Line { style: Style::Dotted, points: vec![[0.0, 2.0], [points as f64 / 2.0, 2.5]], ..curve(0) };
        let panel = Panel { title: "loss".into(), log: false, lines: vec![curve(0), curve(1), dotted] };
        Chart { runs: vec!["runs/a".into(), "runs/b".into()], x_label: "step".into(), panels: vec![panel; num_panels] }
    }

    #[test]
    fn everything_stands_on_the_page() {
        for panels in [1, 3] {
            let scene = scene(&chart(panels, 5000));
            for mark in &scene.marks {
                let points = match mark {
                    Mark::Line { points, .. } => points.clone(),
                    Mark::Text { at, .. } => vec![*at],
                };
                for [x, y] in points {
                    assert!((0.0..=scene.width).contains(&x) && (0.0..=scene.height).contains(&y), "{mark:?}");
                }
            }
            let texts =
                |wanted: &str| scene.marks.iter().filter(|m| matches!(m, Mark::Text { text, .. } if text == wanted)).count();
            assert_eq!((texts("loss"), texts("step"), texts("runs/b"), texts("validation")), (panels, 1, 1, 1));
            // Thousands of points are no more than the page can show.
            let longest =
                scene.marks.iter().filter_map(|m| if let Mark::Line { points, .. } = m { Some(points.len()) } else { None });
            assert!(longest.max().unwrap() <= 4 * WIDTH as usize);
        }
    }

    #[test]
    fn thinning_keeps_what_stands_out() {
        let mut points: Vec<[f64; 2]> = (0..1000).map(|i| [f64::from(i) / 100.0, 5.0]).collect();
        points[456][1] = -3.0;
        points[457][1] = 99.0;
        let thin = thinned(&points);
        assert!(thin.len() <= 40 && thin.contains(&points[456]) && thin.contains(&points[457]));
        assert_eq!((thin.first(), thin.last()), (points.first(), points.last()));
        assert!(thin.windows(2).all(|p| p[0][0] <= p[1][0]));
        assert_eq!(thinned(&points[..1]), points[..1]);
        assert!(thinned(&[]).is_empty());
    }

    #[test]
    fn many_runs_wrap() {
        let mut chart = chart(1, 10);
        chart.runs = (0..12).map(|i| format!("runs/a-long-name-of-a-run-{i}")).collect();
        let scene = scene(&chart);
        let height = |text: &str| {
            scene.marks.iter().find_map(|m| match m {
                Mark::Text { at, text: t, .. } if t == text => Some(at[1]),
                _ => None,
            })
        };
        assert!(height("runs/a-long-name-of-a-run-0") < height("runs/a-long-name-of-a-run-11"));
        assert!(height("runs/a-long-name-of-a-run-11") < height("loss"));
    }
}
