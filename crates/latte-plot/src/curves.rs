//! From the logs of runs to the lines of a chart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use latte_train::{EvaluationRecord, StepRecord, ValidationRecord, read_evaluations, read_metrics, read_validation};

use super::{Chart, Error, Line, Panel, Result, Style};

/// What every run can be asked for, besides the scores that it has.
pub const METRICS: [&str; 10] =
    ["loss", "mse", "vb", "grad_norm", "lr", "steps_per_s", "clips_per_s", "validation_loss", "validation_mse", "validation_vb"];

/// What the horizontal axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizontal {
    /// Optimiser steps.
    Step,
    /// The time that the steps took; breaks, samples and checkpoints are not in it.
    Time,
}

/// What is drawn of the runs.
#[derive(Debug, Clone)]
pub struct PlotRequest<'a> {
    /// Names of metrics or scores, a panel each.
    pub metrics: &'a [String],
    /// What the horizontal axis counts.
    pub horizontal: Horizontal,
    /// How much of the curve's last value goes into the next one, 0 (nothing is smoothed) to below 1.
    pub smooth: f64,
    /// Whether values stand on a logarithmic axis.
    pub log: bool,
}

/// A run's logs.
#[derive(Debug)]
pub struct Logs {
    name: String,
    records: Vec<StepRecord>,
    validations: Vec<ValidationRecord>,
    evaluations: Vec<EvaluationRecord>,
    /// Seconds of training up to each record, itself included.
    seconds: Vec<f64>,
}

impl Logs {
    /// Reads the logs of a run: of its folder, or of its `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// If there are none, or they cannot be understood.
    pub fn read(path: &Path) -> Result<Self> {
        let folder = if path.is_file() { path.parent().unwrap_or(path).to_path_buf() } else { path.to_path_buf() };
        let metrics: PathBuf = if path.is_file() { path.to_path_buf() } else { folder.join("metrics.jsonl") };
        if !metrics.is_file() {
            return Err(Error::NoRun { path: path.to_path_buf() });
        }
        let validations = read_validation(&folder.join("validation.jsonl"))?;
        let evaluations = read_evaluations(&folder.join("evaluation.jsonl"))?;
        Ok(Self::new(folder.display().to_string(), read_metrics(&metrics)?, validations, evaluations))
    }

    fn new(
        name: String,
        records: Vec<StepRecord>,
        validations: Vec<ValidationRecord>,
        evaluations: Vec<EvaluationRecord>,
    ) -> Self {
        let mut total = 0.0;
        let seconds = records.iter().map(|record| {
            total += Some(1.0 / record.steps_per_s).filter(|s| s.is_finite()).unwrap_or(0.0);
            total
        });
        let seconds = seconds.collect();
        Self { name, records, validations, evaluations, seconds }
    }

    /// `[step, value]` of each record that has the metric.
    fn values(&self, metric: &str) -> Vec<[f64; 2]> {
        let of_step = |value: fn(&StepRecord) -> Option<f64>| -> Vec<[f64; 2]> {
            self.records.iter().filter_map(|r| Some([r.step as f64, value(r)?])).collect()
        };
        let of_validation = |value: fn(&ValidationRecord) -> Option<f64>| -> Vec<[f64; 2]> {
            self.validations.iter().filter_map(|r| Some([r.step as f64, value(r)?])).collect()
        };
        match metric {
            "loss" => of_step(|r| Some(r.loss)),
            "mse" => of_step(|r| r.parts.get("mse")),
            "vb" => of_step(|r| r.parts.get("vb")),
            "grad_norm" => of_step(|r| Some(r.grad_norm)),
            "lr" => of_step(|r| Some(r.lr)),
            "steps_per_s" => of_step(|r| Some(r.steps_per_s)),
            "clips_per_s" => of_step(|r| Some(r.clips_per_s)),
            "validation_loss" => of_validation(|r| Some(r.loss)),
            "validation_mse" => of_validation(|r| r.mse),
            "validation_vb" => of_validation(|r| r.vb),
            score => self.evaluations.iter().filter_map(|r| Some([r.step as f64, *r.scores.get(score)?])).collect(),
        }
    }

    /// Seconds of training up to `step`.
    fn seconds_at(&self, step: f64) -> f64 {
        let after = self.records.partition_point(|record| record.step as f64 <= step);
        after.checked_sub(1).map_or(0.0, |last| self.seconds[last])
    }
}

/// The chart of `runs`.
///
/// # Errors
///
/// If a metric is none, or no run has it.
pub fn chart(runs: &[Logs], request: &PlotRequest<'_>) -> Result<Chart> {
    let (unit_s, x_label) = match request.horizontal {
        Horizontal::Step => (1.0, "step".to_string()),
        Horizontal::Time => {
            let (unit_s, unit) = time_unit(runs.iter().filter_map(|run| run.seconds.last().copied()).fold(0.0, f64::max));
            (unit_s, format!("time of training ({unit})"))
        }
    };
    let scores: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.evaluations).flat_map(|record| record.scores.keys().map(String::as_str)).collect();
    let mut panels = Vec::new();
    for asked in request.metrics {
        let metric = metric_named(asked, &scores)?;
        let mut panel = Panel { title: metric.into(), log: request.log, lines: Vec::new() };
        for (run, logs) in runs.iter().enumerate() {
            let placed = |metric: &str| -> Vec<[f64; 2]> {
                let place = |step: f64| match request.horizontal {
                    Horizontal::Step => step,
                    Horizontal::Time => logs.seconds_at(step) / unit_s,
                };
                let drawable = |[_, v]: &[f64; 2]| v.is_finite() && (!request.log || *v > 0.0);
                logs.values(metric).into_iter().filter(drawable).map(|[step, v]| [place(step), v]).collect()
            };
            let few = metric.starts_with("validation_") || !METRICS.contains(&metric);
            let values = placed(metric);
            // A learning rate has no noise that could be smoothed away, only edges.
            if few || metric == "lr" || request.smooth == 0.0 {
                let style = if few { Style::Dotted } else { Style::Strong };
                panel.lines.push(Line { run, style, points: values });
            } else {
                panel.lines.push(Line { run, style: Style::Strong, points: smoothed(&values, request.smooth) });
                panel.lines.push(Line { run, style: Style::Faint, points: values });
            }
            if !few {
                panel.lines.push(Line { run, style: Style::Dotted, points: placed(&format!("validation_{metric}")) });
            }
        }
        panel.lines.retain(|line| !line.points.is_empty());
        if panel.lines.is_empty() {
            let why = if request.log { "no run has a value of it above 0" } else { "no run has a value of it" };
            return Err(Error::metric(metric, why.into()));
        }
        // What is behind is drawn first.
        panel.lines.sort_by_key(|line| match line.style {
            Style::Faint => 0,
            Style::Strong => 1,
            Style::Dotted => 2,
        });
        panels.push(panel);
    }
    Ok(Chart { runs: runs.iter().map(|run| run.name.clone()).collect(), x_label, panels })
}

/// The metric of this name, or the only score with this detector or task: `fvd` and `i3d` are short for `i3d_fvd`.
///
/// # Errors
///
/// If there is none, or there are several.
fn metric_named<'a>(asked: &'a str, scores: &BTreeSet<&'a str>) -> Result<&'a str> {
    if METRICS.contains(&asked) || scores.contains(asked) {
        return Ok(asked);
    }
    let half = |part: Option<&str>| part.is_some_and(|rest| rest.starts_with('_') || rest.ends_with('_'));
    let fits = |score: &&&str| half(score.strip_prefix(asked)) || half(score.strip_suffix(asked));
    let fitting: Vec<&str> = scores.iter().filter(fits).copied().collect();
    match fitting[..] {
        [one] => Ok(one),
        [] => {
            let all: Vec<&str> = METRICS.iter().chain(scores).copied().collect();
            Err(Error::metric(asked, format!("expected one of {}", all.join(", "))))
        }
        _ => Err(Error::metric(asked, format!("is several scores; expected one of {}", fitting.join(", ")))),
    }
}

/// The running mean that forgets: each value has the weight `1 − smooth`, and what came before has the rest. The first values
/// count as much as they should, not as if nothing had been before them.
fn smoothed(values: &[[f64; 2]], smooth: f64) -> Vec<[f64; 2]> {
    let (mut sum, mut weight) = (0.0, 0.0);
    let step = |[x, value]: &[f64; 2]| {
        sum = smooth * sum + (1.0 - smooth) * value;
        weight = smooth * weight + (1.0 - smooth);
        [*x, sum / weight]
    };
    values.iter().map(step).collect()
}

/// The unit in which `seconds` is a number that says something.
fn time_unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s < 180.0 => (1.0, "s"),
        s if s < 3.0 * 3600.0 => (60.0, "min"),
        s if s < 3.0 * 86_400.0 => (3600.0, "h"),
        _ => (86_400.0, "days"),
    }
}

#[cfg(test)]
mod tests {
    use latte_train::LossParts;

    use super::*;

    fn logs(name: &str, steps: u64) -> Logs {
        let record = |step: u64| StepRecord {
            step,
            loss: 1.0 / step as f64,
            parts: LossParts::new([("mse", Some(0.5)), ("vb", None)]),
            grad_norm: 2.0,
            lr: 1e-4,
            steps_per_s: 0.5,
            clips_per_s: 4.0,
            time: 1e9,
        };
        let validation = ValidationRecord { step: steps / 2, loss: 0.7, mse: None, vb: None, time: 1e9 };
        Logs::new(name.into(), (1..=steps).map(record).collect(), vec![validation], Vec::new())
    }

    /// With scores, each at `[step, value]`.
    fn judged(name: &str, scores: &[(&str, &[[f64; 2]])]) -> Logs {
        let of = |(name, values): &(&str, &[[f64; 2]])| -> Vec<EvaluationRecord> {
            let record = |[step, value]: &[f64; 2]| EvaluationRecord {
                step: *step as u64,
                clips: 8,
                scores: [((*name).to_string(), *value)].into(),
                time: 1e9,
            };
            values.iter().map(record).collect()
        };
        Logs { evaluations: scores.iter().flat_map(of).collect(), ..logs(name, 100) }
    }

    fn request(metrics: &[String], horizontal: Horizontal, smooth: f64) -> PlotRequest<'_> {
        PlotRequest { metrics, horizontal, smooth, log: false }
    }

    #[test]
    fn a_loss_is_its_values_their_curve_and_the_validation() {
        let metrics = ["loss".to_string(), "lr".to_string()];
        let chart = chart(&[logs("a", 100), logs("b", 40)], &request(&metrics, Horizontal::Step, 0.9)).unwrap();
        let styles: Vec<(usize, Style)> = chart.panels[0].lines.iter().map(|line| (line.run, line.style)).collect();
        use Style::{Dotted, Faint, Strong};
        assert_eq!(styles, [(0, Faint), (1, Faint), (0, Strong), (1, Strong), (0, Dotted), (1, Dotted)]);
        assert_eq!(chart.panels[0].lines[1].points[39], [40.0, 1.0 / 40.0]);
        assert_eq!(chart.panels[0].lines[4].points, [[50.0, 0.7]]);
        // What has no noise is not smoothed.
        assert_eq!(chart.panels[1].lines.iter().map(|line| line.style).collect::<Vec<_>>(), [Strong, Strong]);
        assert_eq!((chart.x_label.as_str(), chart.runs.len()), ("step", 2));
    }

    #[test]
    fn time_is_that_of_the_steps() {
        let metrics = ["loss".to_string()];
        let chart = chart(&[logs("a", 120)], &request(&metrics, Horizontal::Time, 0.0)).unwrap();
        assert_eq!(chart.x_label, "time of training (min)");
        let line = &chart.panels[0].lines[0];
        assert_eq!((line.points[0][0], line.points[119][0]), (2.0 / 60.0, 4.0));
        // The validation after step 60 stands where that step does.
        assert_eq!(chart.panels[0].lines[1].points, [[2.0, 0.7]]);
    }

    #[test]
    fn smoothing_keeps_a_constant_and_weighs_the_first_values_fully() {
        let curve = smoothed(&[[1.0, 4.0], [2.0, 4.0], [3.0, 8.0]], 0.5);
        assert_eq!(curve[..2], [[1.0, 4.0], [2.0, 4.0]]);
        // Weights 1/2, 1/4, 1/8 of 7/8.
        assert!((curve[2][1] - (4.0 * 1.0 + 4.0 * 2.0 + 8.0 * 4.0) / 7.0).abs() < 1e-12);
    }

    #[test]
    fn scores_stand_where_they_were_measured() {
        let runs = [
            judged("a", &[("i3d_fvd", &[[0.0, 900.0], [50.0, 300.0]]), ("inception_fid_fid", &[[50.0, 70.0]])]),
            judged("b", &[("i3d_fvd", &[[100.0, 250.0]])]),
            logs("c", 100),
        ];
        for name in ["i3d_fvd", "fvd", "i3d"] {
            let metrics = [name.to_string()];
            let panel = chart(&runs, &request(&metrics, Horizontal::Step, 0.9)).unwrap().panels.remove(0);
            assert_eq!(panel.title, "i3d_fvd");
            let line = |run, points: &[[f64; 2]]| Line { run, style: Style::Dotted, points: points.to_vec() };
            assert_eq!(panel.lines, [line(0, &[[0.0, 900.0], [50.0, 300.0]]), line(1, &[[100.0, 250.0]])]);
        }
        let metrics = ["fid".to_string()];
        let by_time = chart(&runs, &request(&metrics, Horizontal::Time, 0.9)).unwrap();
        assert_eq!(
            (by_time.panels[0].title.as_str(), &by_time.panels[0].lines[0].points[..]),
            ("inception_fid_fid", &[[100.0 / 60.0, 70.0]][..])
        );
        let refused = |name: &str, runs: &[Logs]| {
            let metrics = [name.to_string()];
            chart(runs, &request(&metrics, Horizontal::Step, 0.9)).unwrap_err().to_string()
        };
        let line = refused("vd", &runs);
        assert!(line.contains("one of loss, mse") && line.ends_with("validation_vb, i3d_fvd, inception_fid_fid"), "{line}");
        let two = [judged("a", &[("i3d_fvd", &[[1.0, 1.0]]), ("random_i3d_fvd", &[[1.0, 1.0]])])];
        assert_eq!(refused("fvd", &two), "--metric fvd: is several scores; expected one of i3d_fvd, random_i3d_fvd");
        assert!(refused("fvd", &[logs("c", 100)]).contains("expected one of loss"));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let say = |metric: &str, log: bool| {
            let metrics = [metric.to_string()];
            let request = PlotRequest { log, ..request(&metrics, Horizontal::Step, 0.9) };
            chart(&[logs("a", 4)], &request).unwrap_err().to_string()
        };
        assert!(say("accuracy", false).contains("expected one of loss, mse"));
        assert_eq!(say("vb", false), "--metric vb: no run has a value of it");
        assert_eq!(say("validation_mse", true), "--metric validation_mse: no run has a value of it above 0");
        assert!(Logs::read(Path::new("/nowhere")).unwrap_err().to_string().contains("/nowhere: no metrics.jsonl"));
    }
}
