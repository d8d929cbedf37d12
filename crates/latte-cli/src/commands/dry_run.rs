//! `latte train --dry-run`: the configuration and the cost of a run.

use latte_train::{Estimate, Portion, TrainConfig, estimate, long_run};

use crate::memory::Meter;
use crate::progress::duration;
use crate::terminal::{note, say};

/// Measures and prints the cost of the run of `config`; writes nothing. The output is a configuration file, with the costs as
/// comments.
///
/// # Errors
///
/// As [`estimate`].
pub(crate) fn dry_run(config: TrainConfig) -> anyhow::Result<()> {
    note("dry run: loading some clips and running some steps; nothing is written");
    let estimate = estimate(config, &Meter)?;
    for message in &estimate.notes {
        note(message);
    }
    say(estimate.config.to_toml()?.trim_end());
    say("");
    for line in lines(&estimate) {
        say(format!("# {line}").trim_end());
    }
    Ok(())
}

fn lines(estimate: &Estimate) -> Vec<String> {
    let Estimate { config, passes_s, update_s, loading_s, .. } = estimate;
    let classes = match estimate.classes.len() {
        0 => String::new(),
        n => format!(" of {n} classes"),
    };
    let epochs = config.train.max_steps as f64 / estimate.steps_per_epoch();
    let mut lines = vec![
        format!("model       {} parameters", estimate.num_trainable),
        format!("data        {} videos{classes}", estimate.num_videos),
        format!(
            "epochs      {:.1} steps each at {} clips a step; {epochs:.1} in {} steps",
            estimate.steps_per_epoch(),
            estimate.clips_per_step,
            config.train.max_steps
        ),
        format!(
            "work        {:.6e} FLOP a step, {:.3e} in all: matmuls forward and backward, by count",
            estimate.step_flops,
            estimate.step_flops * config.train.max_steps as f64
        ),
        format!(
            "speed       {} steps/s: a step takes {}, of which passes {}, optimiser {}, clips {}",
            significant(estimate.steps_per_s()),
            seconds(estimate.step_s()),
            seconds(*passes_s),
            seconds(*update_s),
            seconds(*loading_s)
        ),
        format!("time        {}, without checkpoints and samples", duration(estimate.duration())),
        format!("memory      {} at most, of which videos and clips {}", mib(estimate.memory), mib(estimate.memory_of_clips)),
        format!("disk        {} a checkpoint, {} are kept", mib(estimate.checkpoint), config.output.keep_last),
        String::new(),
        format!("Estimated on this machine as it is now, from {}", measured(estimate)),
    ];
    if let (Some(validation), Some(validation_s)) = (&config.validation, estimate.validation_s) {
        let line = format!("validation  every {} steps, about {} each", validation.every, seconds(validation_s));
        lines.insert(6, line);
    }
    lines.extend(long_run(estimate.duration()).map(|what| format!("warning: {what}")));
    if let Some(available) = Meter::available_bytes()
        && estimate.memory > available
    {
        let what = "less than the run would take: a smaller `train.batch_size` (with a larger \
                    `train.gradient_accumulation_steps`), or `train.activation_checkpointing = \"block\"`, takes less";
        lines.push(format!("warning: {} of memory are free here, {what}", mib(available)));
    }
    lines
}

/// How the figures were measured.
fn measured(estimate: &Estimate) -> String {
    let clips = format!("and from {} loaded clips", estimate.clips_loaded);
    match estimate.portion {
        Portion::Whole => format!("steps of the whole network {clips}."),
        Portion::Part { depths: [shallow, deep], clips: [few, many] } => {
            let of_clips = if few == many { String::new() } else { format!(", each with {few} and {many} clips") };
            format!("steps of the network with {shallow} and with {deep} blocks{of_clips}, extrapolated linearly, {clips}.")
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", significant(1e3 * seconds)) } else { format!("{} s", significant(seconds)) }
}

/// Three significant digits.
fn significant(value: f64) -> String {
    let whole_digits = if value > 0.0 { value.log10().floor() as i32 } else { 0 };
    let decimals = (2 - whole_digits).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.012_345, 0.5, 1.0, 3.456, 98.76, 1234.5].map(significant),
            ["0.0123", "0.500", "1.00", "3.46", "98.8", "1234"]
        );
        assert_eq!([0.002_5, 0.85, 3.7, 0.0].map(seconds), ["2.50 ms", "850 ms", "3.70 s", "0.00 ms"]);
    }
}
