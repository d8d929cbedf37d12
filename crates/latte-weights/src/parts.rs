//! Chooses one of several sets of weights in a file, and strips the prefixes that wrappers put before the names of tensors.
//!
//! Only this file knows both: [`choose`] finds class models, parts of a text-to-video folder, autoencoders, text encoders and
//! detectors.
//!
//! A stored name begins with a *path*: the keys of the dictionaries that hold the weights (`state_dict.ema_model`). Wrappers
//! (`module`, `_orig_mod` …) may stand anywhere in it, in any order. The model's own name follows the path. Tensors with the same
//! path are a set. The chosen set is the best one whose names are those of a known model; an average is better than the weights
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::source::listed;

/// Modules that wrap others and put their own name into the names of all parameters: compiled, sharded, checkpointed ones.
const WRAPPERS: [&str; 4] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];
/// A wrapper only in front of a model's own names, which may contain the same word.
const PARALLEL: &str = "module";
/// Words that keys of weights consist of, besides the word for an average: `state_dict`, `model_state_dict`, `network` …
const WORDS: [&str; 14] = [
    "model",
    "module",
    "net",
    "network",
    "generator",
    "state",
    "dict",
    "weights",
    "params",
    "online",
    "student",
    "raw",
    "shadow",
    "weight",
];
/// The word for an average in a key: `ema`, `ema_model`, `model_ema`, `params_ema` …
const AVERAGE: &str = "ema";
/// Keys of averages without that word.
const AVERAGES: [&str; 6] = ["shadow", "swa", "swa_model", "averaged_model", "average_model", "avg_model"];
/// Under the key of an average: the key of the weights that are averaged.
const ONLINE: &str = "online_model";
/// The key of averages that are a list without names: only the program that wrote them knows which tensor is which.
const UNNAMED: &str = "shadow_params";
/// The number of models that were averaged so far, stored beside the average's weights.
const NUM_AVERAGED: &str = "n_averaged";
/// The prefix of the autoencoder's names in a file that holds a whole Stable Diffusion model.
pub const STABLE_DIFFUSION_AUTOENCODER: &str = "first_stage_model.";
/// The prefix of the denoiser's names there. Its `model` is no key of a checkpoint.
pub(super) const STABLE_DIFFUSION_DENOISER: &str = "model.diffusion_model.";
/// The key under which some training programs put everything else.
const OUTER: &str = "state_dict";
/// Names in older files, and the current names.
const RENAMED: [(&str, &str); 1] = [("time_embed", "temp_embed")];
/// The number of sets that a message shows.
const MAX_SHOWN: usize = 6;

/// Whether tensors with these names are the wanted ones.
pub type IsWanted = dyn Fn(&[&str]) -> bool;

/// Selects a set of weights. The default is the best set of any known model.
#[derive(Default, Clone, Copy)]
pub struct PartChoice<'c> {
    /// The key of the set, or the path to it (`state_dict.ema_model`).
    pub key: Option<&'c str>,
    /// Whether names are those of the wanted network; `None`: of any that [`Pretrained::kind`](crate::Pretrained::kind) knows.
    pub is_wanted: Option<&'c IsWanted>,
}

impl std::fmt::Debug for PartChoice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartChoice").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A set of weights.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// The keys in front of its names, with dots; empty for the outermost dictionary.
    pub(super) path: String,
    /// The model's name of each tensor, and its name in the file.
    pub(super) names: BTreeMap<String, String>,
    /// Whether it is an average.
    pub(super) is_average: bool,
}

/// The chosen set.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) set: Set,
    /// A note on the choice, if there were several sets.
    pub(super) note: Option<String>,
}

/// Chooses among the tensors with the names `stored`; `is_known` recognises the names of a known model.
///
/// # Errors
///
/// If two tensors get the same name, there is no set under the wanted key, or only averages without names.
pub(super) fn choose(
    stored: &[String],
    wanted: PartChoice<'_>,
    is_known: &dyn Fn(&BTreeMap<String, String>) -> bool,
) -> Result<Chosen, String> {
    let is_good = |set: &Set| match wanted.is_wanted {
        Some(is_wanted) => is_wanted(&set.names.keys().map(String::as_str).collect::<Vec<_>>()),
        None => is_known(&set.names),
    };
    let mut sets = sets(stored)?;
    if let Some(key) = wanted.key {
        let within = under_key(stored, &sets, key)?;
        let set = best(within, &is_good);
        return Ok(Chosen { set, note: None });
    }
    if let Some(whole) = whole_stable_diffusion(stored, &sets, &is_good) {
        return Ok(Chosen { set: whole?, note: None });
    }
    let unnamed = sets.iter().position(|set| set.names.keys().any(|name| is_unnamed(name))).map(|at| {
        let path = &sets[at].path;
        if path.is_empty() { UNNAMED.to_string() } else { format!("{path}.{UNNAMED}") }
    });
    let best_of_all = sets.iter().map(|set| rank(set, &sets, &is_good)).enumerate().max_by(|a, b| a.1.cmp(&b.1));
    let set = sets.swap_remove(best_of_all.map_or(0, |(at, _)| at));
    if let Some(unnamed) = &unnamed
        && set.names.keys().any(|name| is_unnamed(name))
    {
        let what = "is a list of tensors without names, as some trainers keep averages; save it under the names of the model";
        return Err(format!("`{unnamed}` {what}"));
    }
    let note = note(&set, &sets, unnamed.as_deref());
    Ok(Chosen { set, note })
}

/// All sets, by path; the outermost first, even if it has no names.
fn sets(stored: &[String]) -> Result<Vec<Set>, String> {
    let mut sets: BTreeMap<String, Set> = BTreeMap::from([(String::new(), Set::default())]);
    let mut parallel = BTreeSet::new();
    for name in stored {
        let Split { path, own, is_parallel } = split(name);
        if is_parallel {
            parallel.insert(path.clone());
        }
        let set = sets.entry(path.clone()).or_insert_with(|| Set { is_average: is_average(&path), path, ..Set::default() });
        if let Some(other) = set.names.insert(own.clone(), name.clone()) {
            return Err(format!("both `{other}` and `{name}` are called `{own}`"));
        }
    }
    for path in parallel {
        // PyTorch's `AveragedModel`.
        if let Some(set) = sets.get_mut(&path)
            && set.names.remove(NUM_AVERAGED).is_some()
        {
            set.is_average = true;
        }
    }
    Ok(sets.into_values().collect())
}

/// A stored name, taken apart.
struct Split {
    path: String,
    own: String,
    is_parallel: bool,
}

fn split(name: &str) -> Split {
    let mut rest: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    let mut path: Vec<&str> = Vec::new();
    let mut is_parallel = false;
    // The last part always belongs to the model.
    while rest.len() > 1 && is_key(rest[0]) {
        let key = rest.remove(0);
        if key == PARALLEL {
            is_parallel = true;
        } else {
            path.push(key);
        }
    }
    let own = rest.join(".");
    let own = RENAMED.iter().find(|(old, _)| *old == own).map_or(own, |(_, new)| (*new).to_string());
    Split { path: path.join("."), own, is_parallel }
}

/// Whether `part` is a key of weights, or a wrapper.
fn is_key(part: &str) -> bool {
    part != UNNAMED && (is_average_key(part) || part.split('_').all(|word| WORDS.contains(&word.to_ascii_lowercase().as_str())))
}

fn is_average_key(part: &str) -> bool {
    AVERAGES.contains(&part) || part.split('_').any(|word| word.eq_ignore_ascii_case(AVERAGE))
}

fn is_average(path: &str) -> bool {
    path.split('.').any(is_average_key) && !path.split('.').any(|key| key == ONLINE)
}

fn is_unnamed(name: &str) -> bool {
    name.strip_prefix(UNNAMED).is_some_and(|rest| rest.starts_with('.'))
}

/// The rank of a set, higher is better: wanted weights, then averages, then the longer set, then the shorter path.
fn rank<'s>(set: &'s Set, all: &[Set], is_good: &dyn Fn(&Set) -> bool) -> (bool, bool, bool, usize, std::cmp::Reverse<&'s str>) {
    let longest = all.iter().filter(|set| !set.path.is_empty()).map(|set| set.names.len()).max().unwrap_or(0);
    // For unknown names: weights under a key go before their surroundings (an optimiser's moments), and an average must have about
    // as many tensors as the longest set.
    let is_set = !set.path.is_empty() && 2 * set.names.len() >= longest;
    let good = is_good(set);
    (good, good || is_set, set.is_average, set.names.len(), std::cmp::Reverse(&set.path))
}

fn best(mut sets: Vec<Set>, is_good: &dyn Fn(&Set) -> bool) -> Set {
    let best = sets.iter().map(|set| rank(set, &sets, is_good)).enumerate().max_by(|a, b| a.1.cmp(&b.1)).map_or(0, |(at, _)| at);
    if sets.is_empty() { Set::default() } else { sets.swap_remove(best) }
}

/// The sets under `key`: the set with that path, the one whose path ends with it, or all tensors with that prefix.
fn under_key(stored: &[String], sets: &[Set], key: &str) -> Result<Vec<Set>, String> {
    let begin = format!("{key}.");
    let ends = format!(".{key}");
    let paths: Vec<&str> =
        sets.iter().map(|set| set.path.as_str()).filter(|path| *path == key || path.ends_with(&ends)).collect();
    let paths = if paths.contains(&key) { vec![key] } else { paths };
    match paths.as_slice() {
        [one] => {
            let names = stored.iter().filter(|name| split(name).path == *one).cloned().collect::<Vec<_>>();
            return self::sets(&names).map(|sets| sets.into_iter().filter(|set| set.path == *one).collect());
        }
        [] => {}
        several => {
            let paths: Vec<String> = several.iter().map(|path| format!("`{path}`")).collect();
            return Err(format!("several sets of weights are called `{key}`: {}; give the whole path", paths.join(", ")));
        }
    }
    let within: Vec<String> = stored.iter().filter_map(|name| name.strip_prefix(&begin)).map(String::from).collect();
    if within.is_empty() {
        let mut keys: Vec<String> = sets
            .iter()
            .filter(|set| !set.path.is_empty())
            .map(|set| format!("`{}` ({} tensors)", set.path, set.names.len()))
            .collect();
        if keys.is_empty() {
            keys.push("none: its tensors lie in no dictionary".into());
        }
        return Err(format!("has no set of weights called `{key}`; there are {}", listed(&keys, MAX_SHOWN)));
    }
    let mut sets = self::sets(&within)?;
    for set in &mut sets {
        set.is_average |= is_average(key);
        set.path = if set.path.is_empty() { key.to_string() } else { format!("{begin}{}", set.path) };
        for name in set.names.values_mut() {
            *name = format!("{begin}{name}");
        }
    }
    Ok(sets)
}

/// All tensors, if they are those of a whole Stable Diffusion model in one file, whose networks have their own prefixes.
fn whole_stable_diffusion(stored: &[String], sets: &[Set], is_good: &dyn Fn(&Set) -> bool) -> Option<Result<Set, String>> {
    let plain = |name: &String| name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".");
    let outer = format!("{OUTER}.");
    let has = |prefix: &str| stored.iter().any(|name| plain(name).starts_with(prefix));
    let outer = [outer.as_str(), ""].into_iter().find(|outer| {
        let has = |network: &str| has(&format!("{outer}{network}"));
        // Some training programs store the autoencoder beside another known model.
        let is_other = |set: &Set| is_good(set) && !set.names.keys().any(|name| name.starts_with(STABLE_DIFFUSION_AUTOENCODER));
        has(STABLE_DIFFUSION_DENOISER) || has(STABLE_DIFFUSION_AUTOENCODER) && !sets.iter().any(is_other)
    })?;
    let mut whole = Set { path: outer.trim_end_matches('.').to_string(), ..Set::default() };
    for name in stored {
        let plain = plain(name);
        let Some(own) = plain.strip_prefix(outer) else { continue };
        if let Some(other) = whole.names.insert(own.to_string(), name.clone()) {
            return Some(Err(format!("both `{other}` and `{name}` are called `{own}`")));
        }
    }
    Some(Ok(whole))
}

/// A note on the choice, if there was one: the other sets with the same names, and the averages that were not chosen.
fn note(chosen: &Set, others: &[Set], unnamed: Option<&str>) -> Option<String> {
    let described = |path: &str| if path.is_empty() { "the outermost dictionary".to_string() } else { format!("`{path}`") };
    let mut left: Vec<String> = Vec::new();
    for other in others.iter().filter(|other| !other.names.is_empty()) {
        let same = other.names.keys().filter(|name| chosen.names.contains_key(*name)).count();
        let (path, len) = (described(&other.path), other.names.len());
        let is_like = 2 * len >= chosen.names.len();
        if same > 0 && same == len {
            left.push(format!("{path} ({len} tensors of the same names)"));
        } else if same > 0 {
            left.push(format!("{path} ({len} tensors, {same} of them of the same names)"));
        } else if other.is_average && is_like && !chosen.is_average {
            left.push(format!("{path} ({len} tensors under names that are not the model's, perhaps its average)"));
        }
    }
    left.extend(unnamed.map(|path| format!("`{path}` (an average without names)")));
    if left.is_empty() {
        return None;
    }
    let what = if chosen.is_average { "averaged weights" } else { "weights" };
    Some(format!(
        "the {what} in {} are taken ({} tensors); left are {}",
        described(&chosen.path),
        chosen.names.len(),
        listed(&left, MAX_SHOWN)
    ))
}
