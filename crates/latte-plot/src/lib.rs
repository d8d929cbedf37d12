//! Curves of runs. Logs become a [`Chart`] ([`chart`]), which is drawn in the terminal ([`terminal_lines`]), or laid out as a list of
//! marks from which both SVG ([`svg`]) and PNG ([`png`]) are made.

mod axis;
mod curves;
mod error;
mod raster;
mod scene;
mod strokes;
mod svg;
mod terminal;

use latte_video::encode::Image;

pub use curves::{Horizontal, Logs, METRICS, PlotRequest, chart};
pub use error::{Error, Result};
pub use terminal::lines as terminal_lines;

use axis::Axis;

/// All that is drawn: a panel for each metric, one above the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The names of the runs, in the order of their colours.
    pub(crate) runs: Vec<String>,
    /// What the horizontal axis counts.
    pub(crate) x_label: String,
    pub(crate) panels: Vec<Panel>,
}

/// The chart as the text of an SVG file.
pub fn svg(chart: &Chart) -> String {
    svg::svg(&scene::scene(chart))
}

/// The chart as pixels, `scale` × `scale` of them for each of the SVG's.
pub fn png(chart: &Chart, scale: f64) -> Image {
    raster::raster(&scene::scene(chart), scale)
}

/// One metric of all runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Whether values stand on a logarithmic axis.
    pub(crate) log: bool,
    /// In the order in which they are drawn.
    pub(crate) lines: Vec<Line>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// Which run it is of.
    pub(crate) run: usize,
    pub(crate) style: Style,
    /// `[x, value]` from left to right, all finite.
    pub(crate) points: Vec<[f64; 2]>,
}

/// What kind of values a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Single values behind a smoothed curve.
    Faint,
    /// The curve.
    Strong,
    /// Few measurements, each worth a dot.
    Dotted,
}

impl Chart {
    /// The horizontal axis, one for all panels: what stands above each other happened at the same step.
    pub(crate) fn across(&self) -> Axis {
        let lines = self.panels.iter().flat_map(|panel| &panel.lines);
        Axis::between(lines.flat_map(|line| line.points.iter().map(|[x, _]| *x)))
    }
}

impl Panel {
    /// The vertical axis that holds its lines. Faint lines may reach beyond it: what counts is the curve.
    pub(crate) fn up(&self) -> Axis {
        let mut values = Vec::new();
        for line in &self.lines {
            let mut own: Vec<f64> = line.points.iter().map(|[_, value]| *value).filter(|v| !self.log || *v > 0.0).collect();
            if line.style == Style::Faint {
                own.sort_by(f64::total_cmp);
                let cut = own.len() / 50;
                own = own[cut..own.len() - cut].to_vec();
            }
            values.extend(own);
        }
        Axis::around(values.into_iter(), self.log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_spike_does_not_flatten_the_curve() {
        let mut raw: Vec<[f64; 2]> = (0..200).map(|i| [f64::from(i), 1.0 + f64::from(i % 10) / 10.0]).collect();
        raw[77][1] = 500.0;
        let strong = raw.iter().map(|[x, _]| [*x, 1.5]).collect();
        let lines = vec![
            Line { run: 0, style: Style::Faint, points: raw.clone() },
            Line { run: 0, style: Style::Strong, points: strong },
        ];
        let panel = Panel { title: "loss".into(), log: false, lines };
        assert!(panel.up().place(1.9).is_some() && panel.up().place(3.0).is_none());
        // But where there is nothing else, it counts.
        let only = Panel { lines: vec![Line { run: 0, style: Style::Strong, points: raw }], ..panel };
        assert!(only.up().place(500.0).is_some());
    }
}
