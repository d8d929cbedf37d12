//! Checks a planned score before a detector processes the first clip, so that hours of work do not end with an error that was
//! predictable.

use latte_textfile::named;

use crate::clips::{ClipSelection, SetReport};
use crate::detector::Kind;
use crate::features::{FeatureOrigin, FeatureSet};
use crate::metric::{
    Covariance, check_extrapolated, check_neighbours, check_pairs, check_resamples, check_splits, check_unbiased,
};
use crate::protocol::{Framing, Protocol, Sampling, Statistic};
use crate::request::{ScoreOptions, SetFeatures};
use crate::{Error, Result};

/// Minimum number of clips for a meaningful score.
const MIN_CLIPS: usize = 64;

/// A set before its features are extracted.
#[derive(Debug, Clone, Copy)]
pub enum Planned<'a> {
    /// A list of clips.
    Clips(&'a SetReport),
    /// The contents of a file.
    File(&'a SetFeatures),
}

impl<'a> Planned<'a> {
    fn report(self) -> &'a SetReport {
        match self {
            Self::Clips(report) => report,
            Self::File(set) => set.report(),
        }
    }

    fn features(self) -> Option<&'a FeatureSet> {
        match self {
            Self::File(SetFeatures::Each(set)) => Some(set),
            _ => None,
        }
    }

    fn is_moments(self) -> bool {
        matches!(self, Self::File(SetFeatures::Moments(..)))
    }
}

/// Returns the errors that [`score`](crate::score::score) would give for these sets, as far as they do not depend on the features.
///
/// # Errors
///
/// If the sets do not match each other or the protocol, are too small for the options, or lack what the options need.
pub fn check(protocol: &Protocol, real: Option<Planned<'_>>, fake: Planned<'_>, options: &ScoreOptions) -> Result<()> {
    needs(protocol, real.is_some())?;
    if fake.is_moments() {
        return Err(only_moments(fake.report()));
    }
    if let Some(real) = real.filter(|real| real.is_moments())
        && !matches!(protocol.statistic, Statistic::Frechet { .. })
    {
        return Err(needs_features(protocol, real.report()));
    }
    for (set, sampling, role) in [(Some(fake), Some(&protocol.fake), "generated"), (real, protocol.real.as_ref(), "real")] {
        if let (Some(features), Some(sampling)) = (set.and_then(Planned::features), sampling) {
            check_protocol(protocol, sampling, features, role)?;
        }
    }
    if let Some(real) = real {
        same_size(real.report(), fake.report())?;
    }
    let counted = real.filter(|real| !real.is_moments());
    too_few(protocol, "generated", fake.report(), options)?;
    if let Some(real) = counted {
        too_few(protocol, "real", real.report(), options)?;
    }
    let fewest = counted.map_or(usize::MAX, |real| real.report().clips).min(fake.report().clips);
    match &protocol.statistic {
        Statistic::Frechet { covariance } => {
            if *covariance == Covariance::Unbiased {
                check_unbiased(fewest)?;
            }
            if counted.is_some() {
                options.neighbours.map_or(Ok(()), |neighbours| check_neighbours(neighbours, fewest))?;
                options.resamples.map_or(Ok(()), check_resamples)?;
                if options.infinity {
                    check_extrapolated(fake.report().clips)?;
                }
            }
            Ok(())
        }
        Statistic::Kernel(_) => check_pairs(fewest),
        Statistic::InceptionScore { splits, .. } => check_splits(fewest, *splits),
    }
}

/// Checks that real clips are given exactly if the protocol needs them.
pub(crate) fn needs(protocol: &Protocol, has_real: bool) -> Result<()> {
    if protocol.task.needs_real() == has_real {
        return Ok(());
    }
    let what =
        if has_real { "compares with no real clips; leave them out" } else { "compares with real clips, and there are none" };
    Err(Error::refused(protocol.task.name(), what))
}

/// The error for generated clips of which only the moments are known.
pub(crate) fn only_moments(report: &SetReport) -> Error {
    let what = "only mean and covariance; of the generated clips features are needed: give the clips themselves";
    Error::refused(report.path.display().to_string(), what)
}

/// The error for real clips of which only the moments are known, if the protocol needs features.
pub(crate) fn needs_features(protocol: &Protocol, report: &SetReport) -> Error {
    let what =
        format!("only mean and covariance, and {} needs features of every clip; give the clips themselves", protocol.task.name());
    Error::refused(report.path.display().to_string(), what)
}

/// The name of the items of a set, and their usual number.
pub(crate) fn items(protocol: &Protocol) -> (&'static str, &'static str) {
    if protocol.frames == 1 { ("frames", "50,000") } else { ("clips", "2048") }
}

/// Returns an error if a set is too small for a meaningful score.
pub(crate) fn too_few(protocol: &Protocol, role: &str, report: &SetReport, options: &ScoreOptions) -> Result<()> {
    let n = report.clips;
    if n >= MIN_CLIPS || options.allow_few {
        return Ok(());
    }
    let (items, usual) = items(protocol);
    let more = if role == "real" { "Take" } else { "Generate" };
    let what = format!(
        "{n} {items}; {} of fewer than {MIN_CLIPS} says nothing. {more} more (usual are {usual}), or measure these all the same, for a \
         trial, with --allow-few",
        protocol.task.name()
    );
    Err(Error::refused(format!("{role} set {}", report.path.display()), what))
}

/// Returns an error if the frames of the sets differ in size.
pub(crate) fn same_size(real: &SetReport, fake: &SetReport) -> Result<()> {
    match (real.frame_size, fake.frame_size) {
        (Some([h, w]), Some([fh, fw])) if (h, w) != (fh, fw) => {
            let what = format!(
                "real ones have {w} × {h} pixels, generated ones {fw} × {fh}: the distance would measure the resizing; give one size \
                 that both are brought to (--size)"
            );
            Err(Error::refused("frames", what))
        }
        _ => Ok(()),
    }
}

/// Returns an error if features do not match the protocol, and a warning if only the selection of clips differs.
pub(crate) fn check_protocol(protocol: &Protocol, sampling: &Sampling, set: &FeatureSet, role: &str) -> Result<Option<String>> {
    let FeatureOrigin { detector, preparation, set: clips } = &set.origin;
    let differs = |what: &str, of_set: String, of_protocol: String| {
        let subject = format!("features of the {role} set {}", clips.path.display());
        let what = format!(
            "{what} {of_set}, and the protocol asks for {of_protocol}; extract the features again, or change the protocol"
        );
        Err(Error::refused(subject, what))
    };
    let kind = detector.kind.strip_prefix("random_").unwrap_or(&detector.kind);
    if let Some(other) = Kind::from_name(kind).filter(|kind| *kind != protocol.task.detector()) {
        return differs("were taken from", other.name().into(), protocol.task.detector().name().into());
    }
    if let Some(eps) = detector.batch_norm_eps.filter(|eps| Some(*eps) != protocol.batch_norm_eps) {
        let asked = protocol.batch_norm_eps.map_or("none".into(), |eps| eps.to_string());
        return differs("are of batch normalisations with an epsilon of", eps.to_string(), asked);
    }
    if *preparation != protocol.preparation {
        return differs("are of pixels prepared by", named(preparation), named(&protocol.preparation));
    }
    if clips.frames != protocol.frames {
        return differs("are of clips whose number of frames is", clips.frames.to_string(), protocol.frames.to_string());
    }
    if let Some(stride) = clips.stride.filter(|stride| *stride != sampling.stride) {
        return differs("are of clips of frames with a stride of", stride.to_string(), sampling.stride.to_string());
    }
    let asked = ClipSelection::by(protocol, sampling);
    let framing = clips.selection.map(|selection| selection.framing).filter(|framing| *framing != asked.framing);
    let size = protocol.framing.map(|framing| framing.size).zip(clips.frame_size).filter(|(asked, size)| asked != size);
    if framing.is_some() || size.is_some() {
        let of = |framing: Option<Framing>, size: Option<[usize; 2]>| match (framing, size) {
            (Some(Framing { size: [h, w], transform }), _) => format!("{w} × {h} by {}", named(&transform)),
            (None, Some([h, w])) => format!("{w} × {h} as they are"),
            (None, None) => "frames as they are".into(),
        };
        return differs(
            "are of frames brought to",
            of(clips.selection.and_then(|selection| selection.framing), clips.frame_size),
            of(asked.framing, None),
        );
    }
    if let Some(selection) = clips.selection.filter(|selection| selection.rounding != asked.rounding) {
        return differs("are of frames rounded to bytes by", named(&selection.rounding), named(&asked.rounding));
    }
    let others = clips.selection.filter(|selection| *selection != asked);
    Ok(others.map(|selection| {
        let (selection, asked) = (named(&selection), named(&asked));
        format!("the {role} clips were chosen otherwise than the protocol says: {selection}; it asks for {asked}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::tests::set;
    use crate::protocol::Task;

    fn report(clips: usize) -> SetReport {
        set(clips).origin.set
    }

    fn said(task: Task, real: Option<&SetReport>, fake: &SetReport, options: ScoreOptions) -> String {
        let stride = matches!(task, Task::Fvd | Task::Kvd).then_some(1);
        let protocol = Protocol::named("latte", task, stride).unwrap();
        check(&protocol, real.map(Planned::Clips), Planned::Clips(fake), &options)
            .map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn counts_are_checked_before_features_are_extracted() {
        let few = ScoreOptions { allow_few: true, ..ScoreOptions::default() };
        let fvd = |real: usize, fake: usize, options: ScoreOptions| said(Task::Fvd, Some(&report(real)), &report(fake), options);
        assert_eq!(fvd(64, 64, ScoreOptions::default()), "");
        for (real, fake, role) in [(63, 300, "real set"), (300, 63, "generated set")] {
            let said = fvd(real, fake, ScoreOptions::default());
            assert!(said.contains(role) && said.contains("63 clips") && said.contains("--allow-few"), "{said}");
            assert_eq!(fvd(real, fake, few), "");
        }
        assert!(fvd(3, 300, ScoreOptions { neighbours: Some(3), ..few }).contains("3 neighbours of 3 items"));
        assert!(fvd(300, 300, ScoreOptions { resamples: Some(19), ..few }).contains("at least 20"));
        assert!(fvd(300, 44, ScoreOptions { infinity: true, ..few }).contains("at least 45"));
        assert!(said(Task::Kvd, Some(&report(1)), &report(9), few).contains("at least two"));
        assert!(said(Task::Is, None, &report(1), few).contains("cannot be split"));
        let other = SetReport { frame_size: Some([8, 9]), ..report(64) };
        let said_of_sizes = said(Task::Fvd, Some(&report(64)), &other, few);
        assert!(said_of_sizes.contains("9 × 8") && said_of_sizes.contains("--size"), "{said_of_sizes}");
        assert!(said(Task::Fvd, None, &report(64), few).contains("there are none"));
        assert!(said(Task::Is, Some(&report(64)), &report(64), few).contains("leave them out"));
    }
}
