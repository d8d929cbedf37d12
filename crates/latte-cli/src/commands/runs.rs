//! `latte runs`: lists runs and their progress.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use latte_train::{RunCondition, RunSummary, ScoreSummary, find_runs};

use crate::failure::bad_input;
use crate::progress::duration;
use crate::run_evaluator::is_distance;
use crate::terminal::{note, say};

/// The depth of the search for runs below a folder.
const DEPTH: usize = 3;
/// The folders of runs of the shipped configurations and of `latte demo`.
const DEFAULT_FOLDERS: [&str; 2] = ["runs", "latte-demo"];

/// Lists training runs with condition, step, loss, scores and speed.
///
///   latte runs
///   latte runs experiments runs/tiny latte-demo
///   latte runs --json | jq '.[] | select(.condition == "running")'
///
/// The condition follows from the run folder. running: a process holds its lock. killed: the last process ended without writing a
/// status. diverged, failed: it ended with an error (--json has it). unknown: an older version or another machine trained it. The
/// loss is smoothed over about 20 steps, the speed is that of the last 50; the time of a run that is not running is that of its
/// steps. Scores of `[evaluation]` have one column each: the last value, and the best one if lower is better.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Run folders, or folders with runs in them. Default: runs and latte-demo.
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Print one JSON list with all information.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut summaries = Vec::new();
    let folders = folders(args)?;
    for folder in &folders {
        if !folder.is_dir() {
            return Err(bad_input(format!("{}: no such folder; name the folder that your runs are in", folder.display())));
        }
        for run in find_runs(folder, DEPTH)? {
            match RunSummary::read(&run) {
                Ok(summary) => summaries.push(summary),
                // One damaged run does not hide the others.
                Err(e) => note(&format!("warning: {e}")),
            }
        }
    }
    if args.json {
        say(&serde_json::to_string_pretty(&summaries)?);
        return Ok(());
    }
    if summaries.is_empty() {
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        say(&format!("no runs in {}; name the folder that your runs are in: latte runs FOLDER", folders.join(", ")));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    for line in table(&summaries, now) {
        say(&line);
    }
    Ok(())
}

/// The folders to search.
fn folders(args: &Args) -> anyhow::Result<Vec<PathBuf>> {
    if !args.folders.is_empty() {
        return Ok(args.folders.clone());
    }
    let found: Vec<PathBuf> = DEFAULT_FOLDERS.iter().map(PathBuf::from).filter(|folder| folder.is_dir()).collect();
    if found.is_empty() {
        let what = format!(
            "neither {} is here; name the folder that your runs are in: latte runs FOLDER",
            DEFAULT_FOLDERS.join(" nor ")
        );
        return Err(bad_input(what));
    }
    Ok(found)
}

/// The table, one string per line. `now` is in seconds since 1970.
fn table(summaries: &[RunSummary], now: f64) -> Vec<String> {
    if summaries.is_empty() {
        return Vec::new();
    }
    let has_validation = summaries.iter().any(|run| run.validation_loss.is_some());
    let mut head = vec!["run", "state", "step", "loss"];
    if has_validation {
        head.push("validation");
    }
    let scores: BTreeSet<&str> = summaries.iter().flat_map(|run| run.scores.keys().map(String::as_str)).collect();
    head.extend(&scores);
    head.extend(["steps/s", "time", "last written"]);
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(String::from).collect()];
    for run in summaries {
        let mut row = vec![name(&run.path), state(run.condition).into(), steps(run), number(run.loss)];
        if has_validation {
            row.push(number(run.validation_loss));
        }
        row.extend(scores.iter().map(|name| run.scores.get(*name).map_or_else(nothing, |of| score(name, of))));
        row.push(
            run.steps_per_s
                .map_or_else(nothing, |speed| if speed < 10.0 { format!("{speed:.2}") } else { format!("{speed:.0}") }),
        );
        row.push(match run.left_s {
            Some(left) if run.condition == RunCondition::Running => format!("{} left", span(left)),
            _ => span(run.trained_s),
        });
        row.push(run.last_written.map_or_else(nothing, |time| format!("{} ago", span(now - time))));
        rows.push(row);
    }
    aligned(&rows)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn nothing() -> String {
    "-".into()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(nothing, |value| format!("{value:.4}"))
}

/// The last score, and the best one if the better direction is known.
fn score(name: &str, of: &ScoreSummary) -> String {
    let last = format!("{:.2}", of.last.value);
    match of.lowest {
        _ if !is_distance(name) => last,
        best if best.value == of.last.value => format!("{last} (best)"),
        best => format!("{last} (best {:.2})", best.value),
    }
}

fn steps(run: &RunSummary) -> String {
    match run.max_steps {
        Some(max) => format!("{}/{max}", run.step),
        None => run.step.to_string(),
    }
}

fn span(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or_else(|_| nothing(), duration)
}

fn state(condition: RunCondition) -> &'static str {
    match condition {
        RunCondition::Running => "running",
        RunCondition::Finished => "finished",
        RunCondition::Stopped => "stopped",
        RunCondition::Diverged => "diverged",
        RunCondition::Failed => "failed",
        RunCondition::Killed => "killed",
        RunCondition::Unknown => "unknown",
    }
}

/// Aligns columns: names and conditions to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|row| row.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)).collect();
    let cell = |(column, text): (usize, &String)| {
        let room = " ".repeat(widths[column] - text.chars().count());
        if column < 2 { format!("{text}{room}") } else { format!("{room}{text}") }
    };
    let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
    rows.iter().map(|row| line(row).trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use latte_train::ScoreAt;

    use super::*;

    fn summary(path: &str, condition: RunCondition) -> RunSummary {
        RunSummary {
            path: path.into(),
            condition,
            what: None,
            step: 450,
            max_steps: Some(1500),
            loss: Some(0.041_26),
            validation_loss: None,
            scores: BTreeMap::new(),
            steps_per_s: Some(12.34),
            trained_s: 75.0,
            left_s: Some(85.0),
            last_written: Some(1e9),
        }
    }

    #[test]
    fn the_table_says_how_runs_do() {
        let young = RunSummary {
            step: 0,
            max_steps: None,
            loss: None,
            steps_per_s: None,
            trained_s: 0.0,
            left_s: None,
            ..summary("c", RunCondition::Unknown)
        };
        let runs = [summary("runs/tiny", RunCondition::Running), summary("b", RunCondition::Killed), young];
        let expected = [
            "run        state        step    loss  steps/s             time  last written",
            "runs/tiny  running  450/1500  0.0413       12  1 min 25 s left       3 s ago",
            "b          killed   450/1500  0.0413       12       1 min 15 s       3 s ago",
            "c          unknown         0       -        -              0 s       3 s ago",
        ];
        assert_eq!(table(&runs, 1e9 + 3.0), expected);
        let validated = [RunSummary { validation_loss: Some(0.5), ..summary("a", RunCondition::Finished) }, runs[1].clone()];
        let lines = table(&validated, 1e9);
        assert!(lines[0].contains("validation") && lines[1].contains("0.5000") && lines[2].contains("  -  "), "{lines:#?}");
        assert!(table(&[], 0.0).is_empty());
    }

    #[test]
    fn scores_have_columns() {
        let score = |last: f64, lowest: f64| {
            let at = |value| ScoreAt { step: 1, value };
            ScoreSummary { last: at(last), lowest: at(lowest), highest: at(9e9) }
        };
        let named = |scores: &[(&str, ScoreSummary)]| RunSummary {
            scores: scores.iter().map(|(name, score)| ((*name).to_string(), *score)).collect(),
            ..summary("a", RunCondition::Finished)
        };
        let runs = [
            named(&[("i3d_fvd", score(151.237, 148.0)), ("taste", score(3.0, 1.0))]),
            named(&[("i3d_fvd", score(9.5, 9.5))]),
            named(&[]),
        ];
        let expected = [
            "run  state         step    loss               i3d_fvd  taste  steps/s",
            "a    finished  450/1500  0.0413  151.24 (best 148.00)   3.00       12",
            "a    finished  450/1500  0.0413           9.50 (best)      -       12",
            "a    finished  450/1500  0.0413                     -      -       12",
        ];
        for (line, expected) in table(&runs, 1e9).iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
    }
}
