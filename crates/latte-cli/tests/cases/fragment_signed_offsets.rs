//! The case `testdata/cases/fragment-signed-offsets`.

use std::fs;

use super::case;
use super::decoders::ways_to_decode;

#[test]
fn fragments_hold_the_same_frames_in_the_same_order() {
    for (decoder, environment) in ways_to_decode() {
        let place = case("fragment-signed-offsets");
        fs::create_dir(place.path("in")).unwrap();
        for name in ["cmaf.mp4", "same_frames.mp4"] {
            fs::rename(place.path(name), place.path("in").join(name)).unwrap();
        }
        let args = ["data", "frames", "--path", "in", "--out", "out", "--decoder", decoder];
        let output = place.command(&args).envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{decoder} {environment:?}: {}", String::from_utf8_lossy(&output.stderr));
        let frame = |video: &str, index: usize| fs::read(place.path(&format!("out/{video}/{index:05}.png"))).unwrap();
        for index in 0..75 {
            let (a, b) = (frame("cmaf", index), frame("same_frames", index));
            assert!(a == b, "{decoder} {environment:?}: frame {index} is another");
        }
        assert!(!place.path("out/cmaf/00075.png").exists());
    }
}
