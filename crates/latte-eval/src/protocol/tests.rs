//! Every field of every protocol, and what is refused.

use std::collections::BTreeSet;

use super::*;

#[test]
fn protocols_are_what_their_programs_do() {
    let named = |name, task| Protocol::named(name, task, Some(3)).unwrap();
    let frechet = |covariance| Statistic::Frechet { covariance };
    let latte = named("latte", Task::Fvd);
    assert_eq!(latte.statistic, frechet(Covariance::Biased));
    let real = latte.real.unwrap();
    assert_eq!((real.stride, latte.fake.stride, real.most, real.choice), (3, 1, Some(2048), Choice::Random));
    assert_eq!((real.short, latte.fake.short, latte.fake.start), (ShortVideos::LeftOut, ShortVideos::Refused, StartRule::First));
    assert_eq!(named("styleganv", Task::Fvd).fake.choice, Choice::First);
    let tf = named("tf-fvd", Task::Fvd);
    assert_eq!((tf.statistic, tf.preparation.resize), (frechet(Covariance::Unbiased), Resize::TfBilinear));
    assert_eq!((tf.batch_norm_eps, named("videogpt", Task::Fvd).batch_norm_eps), (Some(1e-3), Some(1e-5)));
    let preparations = ["pytorch-fid", "torch-fidelity", "clean-fid", "latte"].map(|name| named(name, Task::Fid).preparation);
    assert_eq!(preparations, [HALF, TF, CLEAN, TF]);
    let scores = [("torch-fidelity", Task::Is), ("latte", Task::Is), ("latte", Task::VideoIs)]
        .map(|(name, task)| named(name, task).statistic);
    // Latte draws frames at random, so its splits do not consist of neighbouring frames.
    let score = |shuffle_seed| Statistic::InceptionScore { splits: 10, shuffle_seed };
    assert_eq!(scores, [score(Some(2020)), score(Some(0)), score(Some(42))]);
    assert_eq!(named("styleganv", Task::Is).statistic, score(None));
    assert_eq!(named("latte", Task::Fid).fake.most, Some(50_000));
}

#[test]
fn every_field_of_every_protocol_is_as_listed() {
    // Name: resize of clips, epsilon, covariance, maximum of clips, choice, start of real clips, length rule, rounding, framing.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Told(Resize, f64, bool, Option<usize>, Choice, StartRule, LengthRule, [Rounding; 2], Option<FrameTransform>);
    let half = Resize::HalfPixelBilinear;
    let (near, first, random) = ([Rounding::Nearest; 2], Choice::First, Choice::Random);
    let styleganv = Told(half, 1e-3, true, Some(2048), first, StartRule::Random, LengthRule::WholeStrides, near, None);
    let of_clips: [(&str, Told); 6] = [
        ("styleganv", styleganv),
        ("styleganv-jpeg75", Told { 8: Some(FrameTransform::LanczosCropJpeg(75)), ..styleganv }),
        ("latte", Told { 4: random, ..styleganv }),
        ("latte-jpeg75", Told { 4: random, 8: Some(FrameTransform::CropLanczosJpeg(75)), ..styleganv }),
        ("tf-fvd", Told(Resize::TfBilinear, 1e-3, false, None, first, StartRule::First, LengthRule::Span, near, None)),
        (
            "videogpt",
            Told(
                Resize::ShortSideBilinear,
                1e-5,
                false,
                Some(256),
                random,
                StartRule::Anywhere,
                LengthRule::Span,
                [Rounding::DownFromHalf, Rounding::Down],
                None,
            ),
        ),
    ];
    for (name, told) in of_clips {
        let protocol = Protocol::named(name, Task::Fvd, Some(3)).unwrap();
        let (real, fake) = (protocol.real.unwrap(), protocol.fake);
        let found = Told(
            protocol.preparation.resize,
            protocol.batch_norm_eps.unwrap(),
            protocol.statistic == Statistic::Frechet { covariance: Covariance::Biased },
            real.most,
            real.choice,
            real.start,
            real.length_rule,
            [real.rounding, fake.rounding],
            protocol.framing.map(|framing| framing.transform),
        );
        assert_eq!(found, told, "{name}");
        assert_eq!(protocol.preparation.values, ValueMap::MinusOneToOne, "{name}");
        assert_eq!((fake.most, fake.choice, fake.start), (real.most, real.choice, StartRule::First), "{name}");
        assert_eq!((real.short, fake.short, fake.stride), (ShortVideos::LeftOut, ShortVideos::Refused, 1), "{name}");
        assert_eq!((protocol.frames, protocol.output.as_str()), (16, "logits"), "{name}");
    }
    // Name: preparation, covariance, maximum of generated frames, maximum of real ones for KID, shuffle seed for IS.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Frames<'a>(Preparation, bool, Option<usize>, &'a str, &'a str);
    let of_nvidia = Frames(TF, true, Some(50_000), "Some(1000000)", "None");
    let of_frames: [(&str, Frames<'_>); 8] = [
        ("styleganv", of_nvidia),
        ("styleganv-jpeg75", of_nvidia),
        ("nvidia", of_nvidia),
        ("latte", Frames { 4: "Some(0)", ..of_nvidia }),
        ("latte-jpeg75", Frames { 4: "Some(0)", ..of_nvidia }),
        ("pytorch-fid", Frames(HALF, false, None, "-", "-")),
        ("torch-fidelity", Frames(TF, false, None, "None", "Some(2020)")),
        ("clean-fid", Frames(CLEAN, false, None, "None", "-")),
    ];
    for (name, told) in of_frames {
        let fid = Protocol::named(name, Task::Fid, None).unwrap();
        let shuffle = |protocol: Protocol| match protocol.statistic {
            Statistic::InceptionScore { shuffle_seed, splits: 10 } => shuffle_seed,
            other => panic!("{other:?}"),
        };
        let kid = Protocol::named(name, Task::Kid, None).map(|kid| format!("{:?}", kid.real.unwrap().most));
        let score = Protocol::named(name, Task::Is, None).map(|score| format!("{:?}", shuffle(score)));
        let [kid, score] = [kid, score].map(|said| said.unwrap_or("-".into()));
        let found = Frames(
            fid.preparation,
            fid.statistic == Statistic::Frechet { covariance: Covariance::Biased },
            fid.fake.most,
            &kid,
            &score,
        );
        assert_eq!(found, told, "{name}");
        let real = fid.real.unwrap();
        assert_eq!((fid.frames, real.most, real.start, fid.fake.start), (1, None, StartRule::Every, StartRule::Every));
        assert_eq!((fid.batch_norm_eps, fid.output.as_str()), (Some(1e-3), "2048"));
    }
    let all: BTreeSet<&str> = of_clips.iter().map(|(name, _)| *name).chain(of_frames.iter().map(|(name, _)| *name)).collect();
    assert_eq!(all, Protocol::names().collect());
}

#[test]
fn a_size_is_part_of_some_programs_and_a_change_of_others() {
    let at = |name: &str, size| Protocol::named(name, Task::Fvd, Some(1)).unwrap().at_size(size).unwrap();
    let framing = |name: &str, size| {
        let protocol = at(name, size);
        let framing = protocol.framing.unwrap();
        (protocol.name, framing.size[1], framing.transform)
    };
    assert_eq!(framing("latte", 64), ("latte (changed)".into(), 64, FrameTransform::CropResize));
    assert_eq!(framing("latte-jpeg75", 64), ("latte-jpeg75".into(), 64, FrameTransform::CropLanczosJpeg(75)));
    assert_eq!(framing("videogpt", 64), ("videogpt".into(), 64, FrameTransform::ShortSide));
    assert_eq!(Protocol::named("latte-jpeg75", Task::Fvd, Some(1)).unwrap().framing.unwrap().size, [256, 256]);
    assert!(at("videogpt", 64).at_size(0).is_err());
}

#[test]
fn styleganv_requires_a_stride_after_the_last_frame() {
    assert_eq!((LengthRule::Span.frames(16, 3), LengthRule::WholeStrides.frames(16, 3)), (46, 48));
    assert_eq!((LengthRule::Span.frames(16, 1), LengthRule::WholeStrides.frames(16, 1)), (16, 16));
}

#[test]
fn the_real_stride_is_required_and_unknown_pairs_are_refused() {
    let said = |name, task, stride| Protocol::named(name, task, stride).unwrap_err().to_string();
    assert!(said("latte", Task::Fvd, None).contains("real stride"));
    assert!(said("latte", Task::Fvd, Some(0)).contains("at least 1"));
    assert!(Protocol::named("latte", Task::Fid, None).is_ok() && Protocol::named("latte", Task::VideoIs, None).is_ok());
    assert!(
        said("pytorch-fid", Task::Is, None)
            .contains("latte or latte-jpeg75 or styleganv or styleganv-jpeg75 or torch-fidelity or nvidia")
    );
    assert!(said("lattee", Task::Fvd, Some(1)).contains("clean-fid"));
}

#[test]
fn a_changed_protocol_is_marked_and_survives_json() {
    let latte = Protocol::named("latte", Task::Fvd, Some(3)).unwrap();
    assert_eq!(latte.changed(|_| {}).name, "latte");
    let fewer = latte.changed(|p| p.frames = 10).changed(|p| p.seed = 1);
    assert_eq!(fewer.name, "latte (changed)");
    let text = serde_json::to_string(&fewer).unwrap();
    assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), fewer);
}
