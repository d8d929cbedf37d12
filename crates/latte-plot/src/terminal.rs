//! A chart in the terminal: dots of braille in the runs' colours, or plain characters where no terminal is.

use super::axis::Axis;
use super::{Chart, Panel, Style};

/// The colours of runs among a terminal's 256, near those of pictures and legible on black and on white.
const COLOURS: [u8; 8] = [33, 208, 35, 175, 178, 74, 137, 245];

/// Rows of text for the curves of a panel.
const ROWS: usize = 12;
/// Columns for the values beside it.
const LABEL: usize = 9;
/// Narrower than that nothing can be seen.
const LEAST_WIDTH: usize = 30;

/// The chart as lines of text, `width` columns wide. With `colours` in braille and with the colours of a terminal; else in
/// plain characters, a letter for each run.
pub fn lines(chart: &Chart, width: usize, colours: bool) -> Vec<String> {
    let columns = width.max(LEAST_WIDTH) - LABEL - 2;
    let across = chart.across();
    let mut out = Vec::new();
    for panel in &chart.panels {
        out.push(format!("{}{}", " ".repeat(LABEL + 2), panel.title));
        out.extend(panel_lines(panel, &across, columns, colours, chart.runs.len()));
    }
    out.push(format!("{}{:^columns$}", " ".repeat(LABEL + 2), chart.x_label).trim_end().to_string());
    for (run, name) in chart.runs.iter().enumerate() {
        out.push(if colours {
            format!("{}{} {name}", " ".repeat(LABEL + 2), coloured("━━", run))
        } else {
            format!("{}{} {name}", " ".repeat(LABEL + 2), letter(run, chart.runs.len()))
        });
    }
    out
}

fn panel_lines(panel: &Panel, across: &Axis, columns: usize, colours: bool, num_runs: usize) -> Vec<String> {
    let up = panel.up();
    // A character of braille has two dots in width and four in height.
    let [dots_x, dots_y] = if colours { [2, 4] } else { [1, 1] };
    let mut grid = Grid::new([columns, ROWS], [dots_x, dots_y]);
    let behind_first = panel.lines.iter().any(|line| line.style != Style::Faint);
    for line in panel.lines.iter().filter(|line| !behind_first || line.style != Style::Faint) {
        let places = line.points.iter().filter_map(|[x, value]| Some([across.place(*x)?, up.place(*value)?]));
        grid.draw(places.clone(), line.run);
        if line.style == Style::Dotted {
            grid.mark(places, line.run);
        }
    }
    let mut labels = vec![String::new(); ROWS];
    for (place, text) in up.ticks(4) {
        let row = ((1.0 - place) * (ROWS - 1) as f64).round() as usize;
        labels[row.min(ROWS - 1)] = text;
    }
    let corner = if colours { ['┤', '│', '└', '─', '┬'] } else { ['+', '|', '+', '-', '+'] };
    let mut out = Vec::new();
    for (row, label) in labels.iter().enumerate() {
        let mut line = format!("{label:>LABEL$} {}", if label.is_empty() { corner[1] } else { corner[0] });
        for column in 0..columns {
            match grid.cell(column, row) {
                None => line.push(' '),
                Some((dots, run)) if colours => {
                    let braille = char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ');
                    line.push_str(&coloured(&braille.to_string(), run));
                }
                Some((_, run)) if grid.is_marked(column, row) => line.push(mark(run, num_runs)),
                Some((_, run)) => line.push(letter(run, num_runs)),
            }
        }
        out.push(line.trim_end().to_string());
    }
    out.extend(horizontal_axis(&across.ticks((columns / 12).max(2)), columns, corner));
    out
}

/// The line under the curves, and the values under it, as many as have room.
fn horizontal_axis(ticks: &[(f64, String)], columns: usize, corner: [char; 5]) -> [String; 2] {
    let mut rule: Vec<char> = vec![corner[3]; columns];
    let mut labels = vec![' '; columns];
    let mut free_from = 0;
    for (place, text) in ticks {
        let column = (place * (columns - 1) as f64).round() as usize;
        rule[column.min(columns - 1)] = corner[4];
        let length = text.chars().count();
        let start = column.saturating_sub(length / 2).min(columns.saturating_sub(length));
        if start >= free_from && start + length <= columns {
            labels.splice(start..start + length, text.chars());
            free_from = start + length + 1;
        }
    }
    let margin = " ".repeat(LABEL + 1);
    let rule: String = rule.into_iter().collect();
    let labels: String = labels.into_iter().collect();
    [format!("{margin}{}{rule}", corner[2]), format!("{margin} {}", labels.trim_end())]
}

/// Dots, and which run each is of.
struct Grid {
    /// Dots of the whole, and of a character.
    width: usize,
    height: usize,
    cell: [usize; 2],
    runs: Vec<Option<usize>>,
    /// Which dots belong to a measurement of its own.
    marked: Vec<bool>,
}

impl Grid {
    fn new([columns, rows]: [usize; 2], cell: [usize; 2]) -> Self {
        let (width, height) = (columns * cell[0], rows * cell[1]);
        Self { width, height, cell, runs: vec![None; width * height], marked: vec![false; width * height] }
    }

    /// Fills the characters at places, each `[right, up]` from 0 to 1.
    fn mark(&mut self, places: impl Iterator<Item = [f64; 2]>, run: usize) {
        for place in places {
            let [column, row] = self.dot_at(place);
            for at in self.dots_of(column / self.cell[0], row / self.cell[1]) {
                self.runs[at] = Some(run);
                self.marked[at] = true;
            }
        }
    }

    /// Whether a character has a mark.
    fn is_marked(&self, column: usize, row: usize) -> bool {
        self.dots_of(column, row).any(|at| self.marked[at])
    }

    /// The column and row of the dot at a place.
    fn dot_at(&self, [x, y]: [f64; 2]) -> [usize; 2] {
        let within = |share: f64, length: usize| (share * (length - 1) as f64).round().max(0.0) as usize;
        [within(x, self.width).min(self.width - 1), within(1.0 - y, self.height).min(self.height - 1)]
    }

    /// The dots of a character, column by column.
    fn dots_of(&self, column: usize, row: usize) -> impl Iterator<Item = usize> + use<> {
        let ([across, down], width) = (self.cell, self.width);
        (0..across).flat_map(move |x| (0..down).map(move |y| (row * down + y) * width + column * across + x))
    }

    /// Draws a line through places, each `[right, up]` from 0 to 1.
    fn draw(&mut self, places: impl Iterator<Item = [f64; 2]>, run: usize) {
        let mut last: Option<[isize; 2]> = None;
        for place in places {
            let to = self.dot_at(place).map(|at| at as isize);
            let from = last.unwrap_or(to);
            let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs());
            for step in 0..=steps {
                let part = |axis: usize| {
                    let share = if steps == 0 { 0.0 } else { step as f64 / steps as f64 };
                    (from[axis] as f64 + share * (to[axis] - from[axis]) as f64).round() as usize
                };
                self.runs[part(1) * self.width + part(0)] = Some(run);
            }
            last = Some(to);
        }
    }

    /// The dots of a character as the bits of braille, and the run that has the most of them; `None` without dots.
    fn cell(&self, column: usize, row: usize) -> Option<(u8, usize)> {
        // Braille counts down the left column, then the right, and the lowest two last.
        const BITS: [u8; 8] = [0x01, 0x02, 0x04, 0x40, 0x08, 0x10, 0x20, 0x80];
        let mut dots = 0;
        let mut seen: Vec<usize> = Vec::new();
        for (at, bit) in self.dots_of(column, row).zip(BITS) {
            if let Some(run) = self.runs[at] {
                dots |= bit;
                seen.push(run);
            }
        }
        let count = |run: usize| seen.iter().filter(|other| **other == run).count();
        seen.iter().copied().max_by_key(|run| count(*run)).map(|run| (dots, run))
    }
}

fn coloured(text: &str, run: usize) -> String {
    format!("\x1b[38;5;{}m{text}\x1b[0m", COLOURS[run % COLOURS.len()])
}

/// What stands for a measurement of a run without colours.
fn mark(run: usize, num_runs: usize) -> char {
    if num_runs == 1 { 'o' } else { letter(run, num_runs).to_ascii_uppercase() }
}

/// What stands for a run without colours.
fn letter(run: usize, num_runs: usize) -> char {
    if num_runs == 1 { '*' } else { char::from(b'a' + (run % 26) as u8) }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;

    fn chart(num_runs: usize) -> Chart {
        let line = |run: usize| Line {
            run,
            style: Style::Strong,
            points: (0..=100).map(|i| [f64::from(i), f64::from(i) * (1.0 - run as f64)]).collect(),
        };
        let panel = Panel { title: "loss".into(), log: false, lines: (0..num_runs).map(line).collect() };
        let runs = (0..num_runs).map(|run| format!("runs/{run}")).collect();
        Chart { runs, x_label: "step".into(), panels: vec![panel] }
    }

    #[test]
    fn a_rising_line_rises() {
        let text = lines(&chart(1), 60, false);
        assert!(text.iter().all(|line| line.is_ascii() && line.len() <= 60), "{text:#?}");
        let body: Vec<&str> = text[1..=ROWS].iter().map(|line| &line[LABEL + 2..]).collect();
        let columns: Vec<usize> = body.iter().filter_map(|line| line.find('*')).collect();
        assert!(columns.len() >= ROWS - 1 && columns.windows(2).all(|c| c[0] > c[1]), "{text:#?}");
        assert_eq!(text[0].trim(), "loss");
        assert!(text[ROWS + 1].contains("+----") && text[ROWS + 2].contains("40"), "{text:#?}");
        assert_eq!(text[ROWS + 4].trim(), "* runs/0");
    }

    #[test]
    fn runs_are_told_apart_with_and_without_colours() {
        let plain = lines(&chart(2), 60, false).join("\n");
        assert!(plain.contains('a') && plain.contains('b') && !plain.contains('\x1b'));
        let coloured = lines(&chart(2), 60, true).join("\n");
        assert!(coloured.contains("\x1b[38;5;33m") && coloured.contains("\x1b[38;5;208m"));
        assert!(coloured.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)));
    }

    #[test]
    fn braille_has_its_dots_where_they_belong() {
        let grid = || Grid::new([1, 1], [2, 4]);
        let mut drawn = grid();
        drawn.draw([[0.0, 1.0]].into_iter(), 0);
        assert_eq!(drawn.cell(0, 0), Some((0x01, 0)));
        drawn.draw([[1.0, 0.0]].into_iter(), 0);
        assert_eq!((drawn.cell(0, 0), drawn.is_marked(0, 0)), (Some((0x81, 0)), false));
        drawn.mark([[0.5, 0.5]].into_iter(), 1);
        assert_eq!((drawn.cell(0, 0), drawn.is_marked(0, 0)), (Some((0xff, 1)), true));
        assert_eq!(grid().cell(0, 0), None);
        // The lower left one is bit 7, the upper right one bit 4.
        for (place, bit) in [([0.0, 0.0], 0x40), ([1.0, 1.0], 0x08)] {
            let mut drawn = grid();
            drawn.draw([place].into_iter(), 0);
            assert_eq!(drawn.cell(0, 0), Some((bit, 0)), "{place:?}");
        }
    }

    #[test]
    fn few_measurements_have_marks() {
        for (num_runs, marked, line) in [(1, 'o', '*'), (2, 'B', 'b')] {
            let mut chart = chart(num_runs);
            let run = num_runs - 1;
            let points = vec![[0.0, 1.0], [50.0, 2.0], [100.0, 1.0]];
            chart.panels[0].lines = vec![Line { run, style: Style::Dotted, points }];
            let text = lines(&chart, 60, false)[1..=ROWS].join("\n");
            assert_eq!(text.matches(marked).count(), 3, "{text}");
            assert!(text.contains(line), "{text}");
            chart.panels[0].lines[0].style = Style::Strong;
            assert!(!lines(&chart, 60, false)[1..=ROWS].join("\n").contains(marked));
            chart.panels[0].lines[0].style = Style::Dotted;
            assert_eq!(lines(&chart, 60, true).join("\n").matches('\u{28ff}').count(), 3);
        }
    }

    #[test]
    fn narrow_terminals_and_single_points_are_no_trouble() {
        let mut chart = chart(1);
        chart.panels[0].lines[0].points = vec![[3.0, 4.0]];
        for colours in [false, true] {
            assert!(lines(&chart, 1, colours).len() > ROWS);
        }
    }
}
