//! Computes a score from the features of two sets, and records everything that it depends on, with warnings.

use serde::{Deserialize, Serialize};

use crate::clips::SetReport;
use crate::detector::Identity;
use crate::features::FeatureSet;
use crate::metric::{
    Extrapolation, Features, Frechet, Interval, Manifolds, Moments, bootstrap_frechet, frechet, frechet_at_infinity,
    frechet_of_moments, inception_score, kernel_distance, manifolds,
};
use crate::plan::check_protocol;
use crate::protocol::{Protocol, Statistic};
use crate::{Error, Result, plan};

pub use crate::request::{ScoreOptions, SetFeatures};

/// With fewer clips, scores differ strongly from those of many clips.
const FEW: usize = 256;
/// Sets without a brighter pixel are black, or have another range of values.
const DARK: u8 = 1;

/// A score with everything that it depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `fvd`, `fid`, …
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Its parts and additional measures.
    #[serde(flatten)]
    pub parts: Parts,
    /// The whole protocol.
    pub protocol: Protocol,
    /// The detector and its weights.
    pub detector: Identity,
    /// The real clips, if the protocol uses any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<SetReport>,
    /// The generated clips.
    pub fake: SetReport,
    /// Reasons to doubt the score.
    pub warnings: Vec<String>,
    /// The version of this program.
    pub version: String,
}

/// The parts of a score, and additional measures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The terms of a Fréchet distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frechet: Option<Frechet>,
    /// The standard deviation of a mean over subsets or splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// The number of features per subset of a kernel distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset_size: Option<usize>,
    /// A 95 % interval from resampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The extrapolation to infinitely many generated clips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infinity: Option<Extrapolation>,
    /// Precision, recall, density and coverage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifolds: Option<Manifolds>,
}

/// Computes the score of `protocol`.
///
/// # Errors
///
/// If the features do not match the protocol (another detector, epsilon, preparation, number of frames, stride or size), the sets
/// do not match each other, are too small or black, or the statistic needs data that a set lacks.
pub fn score(protocol: &Protocol, real: Option<&SetFeatures>, fake: &SetFeatures, options: &ScoreOptions) -> Result<Score> {
    plan::needs(protocol, real.is_some())?;
    let SetFeatures::Each(generated) = fake else { return Err(plan::only_moments(fake.report())) };
    let features = generated.output(&protocol.output)?;
    let mut warnings = doubts(protocol, real, generated, options)?;
    let (value, mut parts) = statistic(protocol, real, features)?;
    warnings.extend(parts.frechet.as_ref().and_then(negative));
    match (&protocol.statistic, real) {
        (Statistic::Frechet { covariance }, Some(SetFeatures::Each(real))) => {
            let real = real.output(&protocol.output)?;
            let seed = protocol.seed as u32;
            // The slowest measure comes last, so that errors of the others are reported early.
            parts.manifolds = options.neighbours.map(|k| manifolds(real, features, k)).transpose()?;
            parts.infinity = options.infinity.then(|| frechet_at_infinity(real, features, *covariance, seed)).transpose()?;
            parts.interval = options.resamples.map(|n| bootstrap_frechet(real, features, *covariance, n, seed)).transpose()?;
        }
        _ if options.resamples.is_some() || options.infinity || options.neighbours.is_some() => {
            warnings.push(
                "intervals, extrapolation and neighbours need a Fréchet distance and the features of both sets: left out".into(),
            );
        }
        _ => {}
    }
    Ok(Score {
        metric: protocol.task.name().into(),
        value,
        parts,
        protocol: protocol.clone(),
        detector: generated.origin.detector.clone(),
        real: real.map(|set| set.report().clone()),
        fake: generated.origin.set.clone(),
        warnings,
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// The features of every clip, if there are any.
fn each(set: Option<&SetFeatures>) -> Option<&FeatureSet> {
    match set {
        Some(SetFeatures::Each(set)) => Some(set),
        _ => None,
    }
}

fn statistic(protocol: &Protocol, real: Option<&SetFeatures>, fake: &Features) -> Result<(f64, Parts)> {
    let none = Parts::default();
    match (&protocol.statistic, real) {
        (Statistic::Frechet { covariance }, Some(real)) => {
            let distance = match real {
                SetFeatures::Each(real) => frechet(real.output(&protocol.output)?, fake, *covariance)?,
                SetFeatures::Moments(real, _) => frechet_of_moments(real, &Moments::of(fake)?, *covariance)?,
            };
            Ok((distance.value, Parts { frechet: Some(distance), ..none }))
        }
        (Statistic::Kernel(options), Some(SetFeatures::Each(real))) => {
            let found = kernel_distance(real.output(&protocol.output)?, fake, options)?;
            Ok((found.mean, Parts { deviation: Some(found.deviation), subset_size: Some(found.subset_size), ..none }))
        }
        (Statistic::InceptionScore { splits, shuffle_seed }, None) => {
            let found = inception_score(fake, *splits, *shuffle_seed)?;
            Ok((found.mean, Parts { deviation: Some(found.deviation), ..none }))
        }
        (_, Some(SetFeatures::Moments(_, report))) => Err(plan::needs_features(protocol, report)),
        _ => Err(Error::refused(protocol.task.name(), "its statistic cannot be computed from these sets")),
    }
}

/// The term of the covariances cannot be negative; rounding may make it negative by this fraction.
const ROUNDED: f64 = 1e-6;

fn negative(distance: &Frechet) -> Option<String> {
    let Frechet { covariances, traces, .. } = *distance;
    (covariances < -ROUNDED * traces).then(|| {
        format!(
            "the part of the covariances is negative ({covariances:e}), which is more than rounding: the covariances are unsound"
        )
    })
}

/// Returns an error if the sets do not match each other, and the reasons to doubt the score.
fn doubts(protocol: &Protocol, real: Option<&SetFeatures>, fake: &FeatureSet, options: &ScoreOptions) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    warnings.extend(check_protocol(protocol, &protocol.fake, fake, "generated")?);
    if let (Some(SetFeatures::Each(real)), Some(sampling)) = (real, &protocol.real) {
        warnings.extend(check_protocol(protocol, sampling, real, "real")?);
    }
    let (items, usual) = plan::items(protocol);
    let d = fake.output(&protocol.output)?.width();
    plan::too_few(protocol, "generated", &fake.origin.set, options)?;
    if let Some(SetFeatures::Each(real)) = real {
        let (one, other) = (&real.origin, &fake.origin);
        if !one.detector.is_same(&other.detector) {
            let what = format!(
                "the detector differs: {} of the real set, {} of the generated one; take features of both from one",
                one.detector, other.detector
            );
            return Err(Error::refused("features", what));
        }
        plan::same_size(&one.set, &other.set)?;
        plan::too_few(protocol, "real", &one.set, options)?;
    }
    for (role, set) in [("generated", Some(fake)), ("real", each(real))] {
        if let Some(set) = set.filter(|set| set.brightest <= DARK) {
            let what =
                "no pixel is brighter than 1 of 255: they are black, or values from 0 to 1 were stored where 0 to 255 belong";
            let subject = format!("{role} set {}", set.origin.set.path.display());
            if role == "real" || !options.allow_dark {
                return Err(Error::refused(subject, what));
            }
            warnings.push(format!("{subject}: {what}"));
        }
    }
    let sets = real.into_iter().map(|set| ("real", set.report())).chain([("generated", &fake.origin.set)]);
    for (role, set) in sets.clone() {
        let clips = set.clips;
        if role == "real" && matches!(real, Some(SetFeatures::Moments(..))) && clips == 0 {
            warnings
                .push("the file of the real set does not say how many clips it is based on, nor which protocol was used".into());
        } else if matches!(protocol.statistic, Statistic::Frechet { .. }) && clips <= d {
            warnings.push(format!("{clips} {role} {items} for features of {d} values: the covariance has no full rank, and the distance is far too large to compare with others"));
        } else if clips < FEW {
            warnings.push(format!(
                "{clips} {role} {items}: the number is not to be compared with published ones (usual are {usual} and more)"
            ));
        }
        if set.too_short > 0 {
            warnings.push(format!("{} of {} {role} videos are too short and left out", set.too_short, set.videos));
        }
        if let Some(first) = set.unreadable.first() {
            warnings.push(format!(
                "{} {role} videos or clips cannot be read and are left out; the first: {first}",
                set.unreadable.len()
            ));
        }
        warnings.extend(set.passed_over.clone());
    }
    let counts: Vec<usize> = sets.map(|(_, set)| set.clips).collect();
    if let [real, fake] = counts[..]
        && real != fake
        && real > 0
    {
        warnings
            .push(format!("{real} real and {fake} generated {items}: distances of sets of unequal size are biased differently"));
    }
    if fake.origin.detector.kind.starts_with("random") {
        warnings.push(format!(
            "{} has random weights: its numbers compare runs of one program with each other, and with nothing that was published",
            fake.origin.detector.kind
        ));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::ClipSelection;
    use crate::features::tests::set;
    use crate::protocol::{Framing, Task};

    fn each(rows: usize) -> SetFeatures {
        let mut set = set(rows);
        // All rows differ.
        let values = (0..rows * 3).map(|i| ((i * i + i) % 97) as f32).collect();
        set.outputs.insert("logits".into(), Features::new(values, 3, "x").unwrap());
        SetFeatures::Each(Box::new(set))
    }

    fn with(set: SetFeatures, change: impl FnOnce(&mut FeatureSet)) -> SetFeatures {
        let SetFeatures::Each(mut set) = set else { panic!("features of each clip") };
        change(&mut set);
        SetFeatures::Each(set)
    }

    fn fvd() -> Protocol {
        Protocol::named("latte", Task::Fvd, Some(1)).unwrap()
    }

    #[test]
    fn a_score_records_all_that_it_depends_on() {
        let options = ScoreOptions { resamples: Some(20), infinity: true, neighbours: Some(3), ..ScoreOptions::default() };
        let found = score(&fvd(), Some(&each(300)), &each(280), &options).unwrap();
        assert!(found.value > 0.0 && found.parts.frechet.unwrap().value == found.value);
        assert!(found.parts.interval.is_some() && found.parts.infinity.is_some() && found.parts.manifolds.is_some());
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        assert!(found.warnings[0].contains("300 real and 280"));
        let text = serde_json::to_string(&found).unwrap();
        // Parsed numbers may differ in the last bit.
        let read: Score = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (read.protocol, read.detector, read.real, read.fake),
            (found.protocol, found.detector, found.real, found.fake)
        );
        for key in ["\"stride\"", "\"seed 1\"", "\"covariance\":\"biased\"", "\"too_short\"", "\"resize\"", "\"seed\""] {
            assert!(text.contains(key), "{key}: {text}");
        }
    }

    #[test]
    fn sets_that_do_not_match_are_refused() {
        let said = |real: SetFeatures, fake: SetFeatures| {
            score(&fvd(), Some(&real), &fake, &ScoreOptions::default()).unwrap_err().to_string()
        };
        assert!(said(each(300), each(63)).contains("63 clips"));
        assert!(said(each(63), each(300)).contains("63 clips"));
        assert!(
            said(each(300), with(each(300), |s| s.origin.detector.weights = "other".into())).contains(
                "the detector differs: test (weights seed 1) of the real set, test (weights other) of the generated one"
            )
        );
        assert!(said(with(each(300), |s| s.origin.set.frame_size = Some([8, 9])), each(300)).contains("9 × 8"));
        // The same weights from a file with another name match.
        let copy = with(each(300), |s| s.origin.detector.source = "copy".into());
        assert!(score(&fvd(), Some(&each(300)), &copy, &ScoreOptions::default()).is_ok());
        assert!(score(&fvd(), None, &each(300), &ScoreOptions::default()).is_err());
        let is = Protocol::named("latte", Task::Is, None).unwrap();
        assert!(score(&is, Some(&each(300)), &each(300), &ScoreOptions::default()).is_err());
    }

    /// A change of a set, and a part of the expected message.
    type Change = (fn(&mut FeatureSet), &'static str);

    #[test]
    fn features_that_are_not_what_the_protocol_asks_for_are_refused_on_either_side() {
        let changes: [Change; 8] = [
            (|s| s.origin.set.frames = 10, "frames is 10, and the protocol asks for 16"),
            (|s| s.origin.set.stride = Some(2), "stride of 2, and the protocol asks for 1"),
            (|s| s.origin.preparation.resize = crate::resize::Resize::TfBilinear, "resize tf_bilinear, values "),
            (|s| s.origin.preparation.values = crate::detector::ValueMap::ZeroToOne, "values zero_to_one, and the protocol"),
            (|s| s.origin.detector.batch_norm_eps = Some(1e-5), "0.00001, and the protocol asks for 0.001"),
            (|s| s.origin.detector.kind = "c3d".into(), "c3d, and the protocol asks for i3d"),
            (|s| s.origin.detector.kind = "random_c3d".into(), "c3d, and the protocol asks for i3d"),
            (|s| s.brightest = 1, "0 to 1"),
        ];
        let few = ScoreOptions { allow_few: true, ..ScoreOptions::default() };
        let said = |real: &SetFeatures, fake: &SetFeatures| score(&fvd(), Some(real), fake, &few).unwrap_err().to_string();
        for (change, expected) in changes {
            let changed = with(each(300), change);
            for (real, fake, role) in [(&changed, &each(300), "real set"), (&each(300), &changed, "generated set")] {
                let said = said(real, fake);
                assert!(said.contains(expected) && said.contains(role), "{said}");
            }
        }
        // Frames were cropped to the size that they have now, but the protocol does not change the size.
        let sized =
            fvd().changed(|p| p.framing = Some(Framing { size: [8, 8], transform: latte_video::Transform::CropResize.into() }));
        let of = |protocol: &Protocol| {
            let selection = ClipSelection::by(protocol, &protocol.fake);
            with(each(300), |s| s.origin.set.selection = Some(selection))
        };
        assert!(said(&each(300), &of(&sized)).contains("8 × 8 by crop_resize, and the protocol asks for frames as they are"));
        let larger =
            fvd().changed(|p| p.framing = Some(Framing { size: [16, 16], transform: latte_video::Transform::CropResize.into() }));
        let refused = score(&larger, Some(&each(300)), &each(300), &few).unwrap_err().to_string();
        assert!(refused.contains("8 × 8 as they are, and the protocol asks for 16 × 16"), "{refused}");
        let lower = fvd().changed(|p| p.fake.rounding = crate::framing::Rounding::Down);
        assert!(said(&each(300), &of(&lower)).contains("rounded to bytes by down, and the protocol asks for nearest"));
        // Other clips of the same kind can be compared, with a warning.
        let first = fvd().changed(|p| p.seed = 9);
        let warnings = score(&fvd(), Some(&each(300)), &of(&first), &few).unwrap().warnings;
        assert!(
            warnings.iter().any(|w| w.contains("generated clips were chosen otherwise") && w.contains("seed 9, start ")),
            "{warnings:?}"
        );
        assert!(score(&fvd(), Some(&each(300)), &of(&fvd()), &few).unwrap().warnings.is_empty());
    }

    #[test]
    fn black_clips_of_a_model_in_training_are_scored_and_real_ones_never() {
        let options = ScoreOptions { allow_dark: true, ..ScoreOptions::default() };
        let dark = || with(each(300), |s| s.brightest = 0);
        let found = score(&fvd(), Some(&each(300)), &dark(), &options).unwrap();
        assert!(found.warnings.iter().any(|w| w.contains("they are black")), "{:?}", found.warnings);
        assert!(score(&fvd(), Some(&dark()), &each(300), &options).is_err());
    }

    #[test]
    fn a_negative_covariance_term_beyond_rounding_is_an_error() {
        let of = |covariances: f64| negative(&Frechet { value: covariances, means: 0.0, covariances, traces: 100.0 });
        assert!(of(-2e-4).unwrap().contains("-2e-4") && of(-0.5e-4).is_none() && of(3.0).is_none());
    }

    #[test]
    fn doubts_are_reported() {
        let few = ScoreOptions { allow_few: true, ..ScoreOptions::default() };
        let fake = with(each(10), |s| {
            s.origin.detector.kind = "random_i3d".into();
            s.origin.set.unreadable = vec!["a.mp4: cut off".into()];
        });
        let real = with(each(3), |s| {
            s.origin.detector.kind = "random_i3d".into();
            s.origin.set.too_short = 7;
        });
        let warnings = score(&fvd(), Some(&real), &fake, &few).unwrap().warnings.join("\n");
        let expected = [
            "3 real clips for features of 3 values",
            "10 generated clips",
            "7 of 3 real",
            "a.mp4",
            "random weights",
            "3 real and 10",
        ];
        for part in expected {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        // Four clips are too few for a full-rank covariance of four values, in either set.
        let warnings =
            |real: usize, fake: usize| score(&fvd(), Some(&each(real)), &each(fake), &few).unwrap().warnings.join("\n");
        assert!(warnings(300, 3).contains("3 generated clips for features") && !warnings(4, 4).contains("for features"));
        assert!(warnings(255, 255).contains("255 real clips: ") && warnings(256, 256).is_empty());
    }

    #[test]
    fn moments_of_other_programs_give_a_distance_only() {
        let report = SetReport { clips: 0, ..set(1).origin.set };
        let moments = |report: SetReport| {
            SetFeatures::Moments(
                Box::new(
                    Moments::from_covariance(vec![40.0; 3], vec![900.0, 0.0, 0.0, 0.0, 900.0, 0.0, 0.0, 0.0, 900.0], "m")
                        .unwrap(),
                ),
                Box::new(report),
            )
        };
        let found = score(&fvd(), Some(&moments(report.clone())), &each(300), &ScoreOptions::default()).unwrap();
        assert!(found.value > 0.0 && found.warnings.iter().any(|w| w.contains("does not say")));
        let kvd = Protocol::named("latte", Task::Kvd, Some(1)).unwrap();
        assert!(score(&kvd, Some(&moments(report.clone())), &each(300), &ScoreOptions::default()).is_err());
        assert!(score(&fvd(), Some(&each(300)), &moments(report), &ScoreOptions::default()).is_err());
    }
}
