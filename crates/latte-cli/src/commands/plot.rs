//! `latte plot`: draws the curves of runs.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;
use latte_plot::{Horizontal, Logs, PlotRequest, chart, png, svg, terminal_lines};

use crate::failure::bad_input;
use crate::output::check_output_file;
use crate::terminal::{say, say_styled};

/// The width in columns if standard output is not a terminal.
const PIPED_WIDTH: usize = 80;
/// Pixels of a png per pixel of the page: sharp on high-resolution screens and in print.
const PNG_SCALE: f64 = 2.0;

/// Draws the curves of one or several runs: in the terminal, and as svg or png.
///
///   latte plot runs/tiny
///   latte plot runs/a runs/b --metric loss,grad_norm --out curves.png --out curves.svg
///   latte plot runs/tiny --x time --log --smooth 0.99
///   latte plot runs/mine --metric loss,fvd
///
/// Files show the raw values faintly behind a smoothed curve; validation losses and scores are dots. Metrics: loss, mse, vb,
/// grad_norm, lr, steps_per_s, clips_per_s, validation_loss, validation_mse, validation_vb, and the scores of `[evaluation]` by
/// name, such as i3d_fvd; fvd or i3d is enough if it is unique.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The metrics to draw, one panel each, separated by commas.
    #[arg(long, default_value = "loss", value_delimiter = ',', value_name = "METRIC,…")]
    metric: Vec<String>,
    /// Also write the curves to a file, svg or png by its extension; may be given more than once.
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// The smoothing of curves: 0 is none; 0.99 is a mean over about 100 steps.
    #[arg(long, default_value_t = 0.9, value_name = "0…1")]
    smooth: f64,
    /// The horizontal axis: steps, or their time.
    #[arg(long, value_enum, default_value_t = X::Step)]
    x: X,
    /// A logarithmic vertical axis.
    #[arg(long)]
    log: bool,
}

/// The horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum X {
    /// Optimiser steps.
    Step,
    /// The time of the steps, without breaks, samples and checkpoints.
    Time,
}

impl From<X> for Horizontal {
    fn from(x: X) -> Self {
        match x {
            X::Step => Self::Step,
            X::Time => Self::Time,
        }
    }
}

/// The format of a file.
#[derive(Debug, Clone, Copy)]
enum Format {
    Svg,
    Png,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !(0.0..1.0).contains(&args.smooth) {
        return Err(bad_input(format!("--smooth {}: expected 0 to below 1", args.smooth)));
    }
    let mut files = Vec::new();
    for path in &args.out {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        files.push(match extension.as_deref() {
            Some("svg") => (path, Format::Svg),
            Some("png") => (path, Format::Png),
            _ => return Err(bad_input(format!("--out {}: expected a name that ends in .svg or .png", path.display()))),
        });
    }
    for (path, _) in &files {
        check_output_file("--out", path)?;
    }
    let runs = args.runs.iter().map(|run| Logs::read(run)).collect::<latte_plot::Result<Vec<_>>>()?;
    let request = PlotRequest { metrics: &args.metric, horizontal: args.x.into(), smooth: args.smooth, log: args.log };
    let chart = chart(&runs, &request)?;
    let (width, colours) = terminal_width();
    for line in terminal_lines(&chart, width, colours) {
        say_styled(&line);
    }
    for (path, format) in files {
        match format {
            Format::Svg => latte_model::weights::write_atomically(path, svg(&chart).as_bytes())?,
            Format::Png => png(&chart, PNG_SCALE).write_png(path)?,
        }
        say(&format!("{}", path.display()));
    }
    Ok(())
}

/// The width of standard output in columns, and whether it shows colours.
fn terminal_width() -> (usize, bool) {
    if !std::io::stdout().is_terminal() {
        return (PIPED_WIDTH, false);
    }
    let (_, columns) = console::Term::stdout().size();
    // One column less: some terminals break a line that fills them.
    (usize::from(columns).saturating_sub(1), console::colors_enabled())
}
