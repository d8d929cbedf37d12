//! Renamed keys: files and `--set` values with the old name are still read, and the new name is written.

use toml::{Table, Value};

use crate::error::{Error, Result};

/// The section, the old name, the new name.
const RENAMED: [(&str, &str, &str); 3] = [
    ("train", "accumulate", "gradient_accumulation_steps"),
    ("train", "recompute", "activation_checkpointing"),
    ("optimizer", "clip_norm", "max_grad_norm"),
];

/// Gives the keys of a whole configuration their new names.
///
/// # Errors
///
/// If a key occurs under both names.
pub(super) fn rename_keys(table: &mut Table, source_name: &str) -> Result<()> {
    for (section, value) in table.iter_mut() {
        rename_in_section(section, value, source_name)?;
    }
    Ok(())
}

/// As [`rename_keys`], for the value of one section.
pub(super) fn rename_in_section(section: &str, value: &mut Value, source_name: &str) -> Result<()> {
    let Value::Table(keys) = value else { return Ok(()) };
    for (_, old, new) in RENAMED.iter().filter(|(of, ..)| *of == section) {
        let Some(value) = keys.remove(*old) else { continue };
        if keys.insert((*new).to_string(), value).is_some() {
            return Err(both(source_name, section, old, new));
        }
    }
    Ok(())
}

/// The new name of the key `section.name`, if `name` is an old one.
pub(super) fn new_name(section: &str, name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(of, old, _)| (*of, *old) == (section, name)).map(|(.., new)| *new)
}

/// Refuses `--set` values of the same key under both names. The last of several values under one name counts; with two names, the
/// user may not know that they mean the same key.
pub(super) fn refuse_both(overrides: &[String]) -> Result<()> {
    let is_set = |section: &str, name: &str| {
        let key = |setting: &String| setting.split_once('=').map(|(key, _)| key.trim().to_string());
        overrides
            .iter()
            .filter_map(key)
            .any(|key| key.split_once('.').is_some_and(|(s, n)| (s.trim(), n.trim()) == (section, name)))
    };
    match RENAMED.iter().find(|(section, old, new)| is_set(section, old) && is_set(section, new)) {
        Some((section, old, new)) => Err(both("--set", section, old, new)),
        None => Ok(()),
    }
}

fn both(source_name: &str, section: &str, old: &str, new: &str) -> Error {
    let what = format!("set, and `{section}.{old}` too, which is its old name; leave out the old one");
    Error::config(source_name, format!("{section}.{new}"), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainConfig, VaeTrainConfig};

    const CLASS: &str = "[model]\npreset = \"Latte-S/2\"\n[data]\npath = \"videos\"\nsize = 64\n\
                         [train]\nmax_steps = 10\nbatch_size = 2\n[optimizer]\nweight_decay = 0.0\n[output]\nrun = \"runs/x\"\n";
    const VAE: &str = "[autoencoder]\nblock_out_channels = [16, 32]\n[data]\npath = \"videos\"\nsize = 32\n\
                       [train]\nmax_steps = 10\nbatch_size = 2\n[optimizer]\nweight_decay = 0.0\n[output]\nrun = \"runs/x\"\n";

    /// Section, old name, new name, two values.
    const KEYS: [(&str, &str, &str, [&str; 2]); 3] = [
        ("train", "accumulate", "gradient_accumulation_steps", ["2", "3"]),
        ("train", "recompute", "activation_checkpointing", ["\"block\"", "\"none\""]),
        ("optimizer", "clip_norm", "max_grad_norm", ["0.5", "0.25"]),
    ];

    /// Reads a configuration and writes it again.
    type Rewrite = fn(&str, &[&str]) -> Result<String>;

    /// The two kinds of training, each with the keys whose old and new names it reads.
    fn kinds() -> [(&'static str, Rewrite, &'static [&'static str]); 2] {
        fn owned(overrides: &[&str]) -> Vec<String> {
            overrides.iter().map(ToString::to_string).collect()
        }
        [
            (
                CLASS,
                |text, overrides| TrainConfig::from_toml(text, "x.toml", &owned(overrides))?.to_toml(),
                &["accumulate", "recompute", "clip_norm"],
            ),
            (
                VAE,
                |text, overrides| VaeTrainConfig::from_toml(text, "x.toml", &owned(overrides))?.to_toml(),
                &["recompute", "clip_norm"],
            ),
        ]
    }

    #[test]
    fn an_old_name_is_read_as_the_new_one_which_is_written() {
        assert_eq!(KEYS.map(|(section, old, new, _)| (section, old, new)), RENAMED);
        for (least, rewrite, names) in kinds() {
            for (section, old, new, [value, other]) in KEYS.into_iter().filter(|(_, old, ..)| names.contains(old)) {
                let with = |lines: &str| least.replace(&format!("[{section}]\n"), &format!("[{section}]\n{lines}"));
                let set = |name: &str, value: &str| format!("{section}.{name}={value}");
                let expected = rewrite(&with(&format!("{new} = {value}\n")), &[]).unwrap();
                assert!(
                    expected.contains(&format!("\n{new} = {value}\n")) && !expected.contains(&format!("\n{old} =")),
                    "{expected}"
                );
                assert_ne!(expected, rewrite(&with(&format!("{new} = {other}\n")), &[]).unwrap(), "{new}");
                assert_eq!(rewrite(&with(&format!("{old} = {value}\n")), &[]).unwrap(), expected, "{old} in a file");
                for name in [old, new] {
                    assert_eq!(rewrite(least, &[&set(name, value)]).unwrap(), expected, "--set of {name}");
                    // `--set` overrides the file, whichever name each of them uses.
                    for written in [old, new] {
                        let file = with(&format!("{written} = {other}\n"));
                        assert_eq!(
                            rewrite(&file, &[&set(name, value)]).unwrap(),
                            expected,
                            "{written} in a file, --set of {name}"
                        );
                    }
                }
            }
        }
        let section = "optimizer={ clip_norm = 0.5, weight_decay = 0.0 }";
        assert_eq!(kinds()[0].1(CLASS, &[section]).unwrap(), kinds()[0].1(CLASS, &["optimizer.max_grad_norm=0.5"]).unwrap());
    }

    #[test]
    fn both_names_at_once_are_refused() {
        for (least, rewrite, names) in kinds() {
            for (section, old, new, [value, other]) in KEYS.into_iter().filter(|(_, old, ..)| names.contains(old)) {
                let what =
                    format!("{section}.{new}: set, and `{section}.{old}` too, which is its old name; leave out the old one");
                let lines = format!("[{section}]\n{old} = {value}\n{new} = {value}\n");
                let file = least.replace(&format!("[{section}]\n"), &lines);
                assert_eq!(rewrite(&file, &[]).unwrap_err().to_string(), format!("x.toml: {what}"));
                let set = [format!("{section}.{old}={value}"), format!("{section}.{new}={other}")];
                assert_eq!(rewrite(least, &[&set[0], &set[1]]).unwrap_err().to_string(), format!("--set: {what}"));
                let inline = format!("{section}={{ {old} = {value}, {new} = {value} }}");
                assert_eq!(rewrite(least, &[&inline]).unwrap_err().to_string(), format!("--set: {what}"));
            }
        }
    }

    #[test]
    fn an_impossible_value_is_refused_under_the_new_name() {
        let rewrite = kinds()[0].1;
        let message = |setting: &str| rewrite(CLASS, &[setting]).unwrap_err().to_string();
        assert_eq!(message("train.accumulate=0"), "x.toml: train.gradient_accumulation_steps: expected at least 1, got 0");
        assert_eq!(message("optimizer.clip_norm=-1"), "x.toml: optimizer.max_grad_norm: expected a number of at least 0, got -1");
        assert!(message("train.recompute=all").starts_with("x.toml: train.activation_checkpointing: `all` is not a valid value"));
    }
}
