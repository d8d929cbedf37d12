//! Schemes of naming frames, each listed in the order that people expect.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::sort;

/// Names are separated by `|`; `.png` is added to names without an extension.
const SCHEMES: &[&str] = &[
    // Counters with and without leading zeros.
    "0|1|2|9|10|11|99|100",
    "00000|00001|00010|00100",
    "1|02|3|10",
    "frame1|frame2|frame10|frame100",
    "frame_1|frame_2|frame_10",
    "frame-1|frame-2|frame-10",
    "frame.1|frame.2|frame.10",
    "frame 1|frame 2|frame 10",
    "frame0001|frame0002|frame0010",
    "frame_9999|frame_10000|frame_10001",
    "f9z|f10z",
    "2_left|10_left",
    "9-a|10-a|11-a",
    "18446744073709551615|18446744073709551616|340282366920938463463374607431768211456",
    "a99999999999999999999999999999999999999999|a100000000000000000000000000000000000000000",
    "x00000000000000000000000000000000000000000000000000000001|x2|x0000000000000000000000000000000000000000000000010",
    // File managers and browsers.
    "img|img (1)|img (2)|img (10)",
    "img (0)|img (1)|img (9)|img (10)|img (11)",
    "img(1)|img(2)|img(10)",
    "photo|photo copy|photo copy 2|photo copy 10",
    "photo - Copy|photo - Copy (2)|photo - Copy (10)",
    "image[1]|image[2]|image[10]",
    "download|download(1)|download(2)|download(12)",
    "a#1|a#2|a#10",
    "page 1 of 12|page 2 of 12|page 10 of 12",
    "1 of 10|2 of 10|10 of 10",
    // ffmpeg, VLC, Blender, OpenCV, game recorders.
    "out001|out002|out999|out1000",
    "img-0001|img-0002|img-0010",
    "thumb0001|thumb0010|thumb0100",
    "scene00001|scene00026|scene00101",
    "vlcsnap-2024-01-02-10h03m05s009|vlcsnap-2024-01-02-10h03m05s123|vlcsnap-2024-01-02-10h03m06s001",
    "vlcsnap-00001|vlcsnap-00010",
    "0001|0250|9999|10000",
    "render_0001|render_0240",
    "shot010_0001|shot010_0002|shot020_0001",
    "cam1_0001|cam1_0010|cam2_0001|cam10_0001",
    "frame0|frame1|frame2|frame20",
    "mpv-shot0001|mpv-shot0002|mpv-shot0011",
    "Screenshot (1)|Screenshot (2)|Screenshot (15)",
    "screen-0|screen-1|screen-11",
    // Phones and cameras.
    "IMG_0001|IMG_0002|IMG_0010",
    "IMG_9998|IMG_9999|IMG_10000",
    "DSC00001|DSC00002|DSC00100",
    "DSCF1001|DSCF1002",
    "P1010001|P1010002|P1010010",
    "100_0001|100_0002|101_0001",
    "GOPR0001|GOPR0002|GOPR0010",
    "IMG_20240102_100305|IMG_20240102_100306|IMG_20240103_000000",
    "IMG_20240102_100305|IMG_20240102_100305_1|IMG_20240102_100305_2|IMG_20240102_100305_10",
    "IMG_20240102_100305_BURST1|IMG_20240102_100305_BURST2|IMG_20240102_100305_BURST10",
    "PXL_20240102_100305123|PXL_20240102_100305999|PXL_20240102_100306001",
    "00000IMG_00000_BURST20240102100305|00001IMG_00001_BURST20240102100305|00010IMG_00010_BURST20240102100305",
    "WhatsApp Image 2024-01-02 at 10.03.05|WhatsApp Image 2024-01-02 at 10.03.06",
    // Dates and times.
    "2023-12-31|2024-01-01|2024-01-02|2024-10-01",
    "2024-1-2|2024-1-10|2024-2-1|2024-10-1",
    "2024.1.2|2024.1.10|2024.2.1|2024.10.1",
    "20231231|20240101|20241001",
    "2024-01-02T10-03-05|2024-01-02T10-03-06|2024-01-02T11-00-00",
    "2024-01-02 9.03.05|2024-01-02 10.03.05|2024-01-02 10.03.06",
    "10h3m5s|10h3m12s|10h12m1s",
    "t9s|t10s|t61s",
    "00-00-09|00-00-10|00-01-00",
    "00_00_01_000|00_00_01_040|00_00_02_000",
    // Seconds, milliseconds and nanoseconds since 1970; the last ones are longer.
    "1305031102|1305031103|1305031104",
    "1305031102.900000|1305031102.940000|1305031103.020000",
    "1305031102.175304|1305031102.211214|1305031103.000001",
    "1403636579763555584|1403636579813555456|1403636579863555584",
    "999999999|1000000000",
    "999|1000|1040|1080",
    // Fractions, printed with and without trailing zeros.
    "0|0.04|0.08|0.12|0.2|0.24|1|1.04",
    "0.0|0.04|0.08|0.12|0.16|0.2|0.24|1.0|1.04|10.0",
    "0.25|0.5|0.75|1|1.25",
    "t_0.25_a|t_0.5_a|t_0.75_a|t_1.25_a",
    "t1_a|t1.5_a|t2_a|t2.25_a",
    "t1_a|t1.5_a|t2_a|t2.5_a",
    "0.00|0.25|0.50|0.75|1.00|10.00",
    "0.333|0.6666|0.7",
    "1305031102.9|1305031102.94|1305031102.98|1305031103.02|1305031103.1",
    "1.25f|1.5e|2.5e|10.5e",
    "9.97s|10.0s|10.03s|10.1s",
    "x0.05_y0.5|x0.5_y0.05|x0.5_y0.5",
    // Counters with a dot between them.
    "0.9|0.10|0.11",
    "1.1|1.2|1.9|1.10|1.11|2.1|2.10",
    "scene1.1|scene1.9|scene1.10|scene2.1",
    "1.08|1.09|1.10|1.99|1.100",
    "v1.2.3|v1.2.10|v1.10.1|v2.0.0",
    "1.9.0|1.10.0|1.10.1",
    "v1|v1.5|v1.5.2|v1.6",
    // Several numbers.
    "s1_f1|s1_f2|s1_f10|s2_f1|s10_f1",
    "a1b2c3|a1b2c10|a1b10c1|a2b1c1",
    "1-1|1-2|1-10|2-1|10-1",
    "1_10|2_9|10_1",
    "clip2 frame1|clip2 frame9|clip2 frame10|clip10 frame1",
    "(1,1)|(1,2)|(1,10)|(2,1)",
    "x=1,y=9|x=1,y=10|x=2,y=1",
    "view0_t0|view0_t1|view0_t10|view1_t0",
    "1of12|2of12|10of12",
    "left_1|left_2|left_10|right_1|right_2",
    "1280x720_1|1280x720_2|1280x720_10",
    "video_720p_9|video_720p_10",
    "take3-final2-009|take3-final2-010|take3-final10-001",
    "-1CfQ0pFa4E_1_frames_9|-1CfQ0pFa4E_1_frames_10",
    "1-0ToIYmpd8#000002#000118.mp4_1|1-0ToIYmpd8#000002#000118.mp4_2|1-0ToIYmpd8#000002#000118.mp4_10",
    "v_ApplyEyeMakeup_g01_c01_1|v_ApplyEyeMakeup_g01_c01_2|v_ApplyEyeMakeup_g01_c01_10",
    // Letters.
    "a|b|c|z",
    "A|b|C|d",
    "IMG_1|img_2|IMG_3|img_10",
    "frame1a|frame1b|frame2a|frame10a",
    "frame1|frame1 edited|frame2",
    "1|1a|2|10",
    "\u{e4}1|\u{e4}2|\u{e4}10",
    "\u{7b2c}1\u{5e27}|\u{7b2c}2\u{5e27}|\u{7b2c}10\u{5e27}",
    // Different extensions, and extensions after a number.
    "1.png|2.jpg|3.jpeg|10.png",
    "1.JPG|2.jpg|10.JPG",
    "1.jpg|1.png|2.jpg",
    "frame.mp4_1|frame.mp4_2|frame.mp4_10",
    // The same number in several spellings.
    "1|2|03|3|4",
    "001|01|1|2",
];

/// The names of a scheme as files.
fn files(scheme: &str) -> Vec<PathBuf> {
    let named = |name: &str| {
        let has_ending = ["png", "jpg", "jpeg"].iter().any(|ending| name.to_lowercase().ends_with(&format!(".{ending}")));
        if has_ending { name.to_string() } else { format!("{name}.png") }
    };
    scheme.split('|').map(|name| Path::new("folder 9").join(named(name))).collect()
}

#[test]
fn frames_are_in_the_order_that_people_expect() {
    assert!(SCHEMES.len() >= 100, "{}", SCHEMES.len());
    for scheme in SCHEMES {
        let expected = files(scheme);
        for turn in 0..expected.len() {
            let mut sorted = expected.clone();
            sorted.rotate_left(turn);
            sorted.reverse();
            sort(&mut sorted);
            assert_eq!(sorted, expected, "{scheme}");
        }
    }
}

proptest! {
    /// Counters in any format with any text around them.
    #[test]
    fn counters_are_ordered_by_value(
        numbers in prop::collection::btree_set(any::<u64>(), 1..12), width in 0_usize..24, head in "[a-z_ (.-]{0,6}", tail in "[a-z_ )-]{0,4}"
    ) {
        let expected: Vec<PathBuf> = numbers.iter().map(|n| PathBuf::from(format!("{head}{n:0width$}{tail}.png"))).collect();
        let mut sorted = expected.clone();
        sorted.reverse();
        sort(&mut sorted);
        prop_assert_eq!(sorted, expected);
    }

    /// Seconds in decimal fractions, as programs print them.
    #[test]
    fn fractions_are_ordered_by_value(steps in prop::collection::btree_set(0_u32..100_000, 1..30)) {
        let seconds = |digits: usize| steps.iter().map(move |step| format!("{:.digits$}", f64::from(*step) / 100.0));
        let shortest = steps.iter().map(|step| (f64::from(*step) / 100.0).to_string());
        for names in [seconds(2).collect::<Vec<_>>(), seconds(6).collect()] {
            let expected: Vec<PathBuf> = names.iter().map(|name| PathBuf::from(format!("t{name}.png"))).collect();
            let mut sorted = expected.clone();
            sorted.reverse();
            sort(&mut sorted);
            prop_assert_eq!(sorted, expected);
        }
        // The names without trailing zeros, except when only multiples of ten hundredths have two digits.
        let expected: Vec<PathBuf> = shortest.map(|name| PathBuf::from(format!("{name}.png"))).collect();
        let mut sorted = expected.clone();
        sorted.reverse();
        sort(&mut sorted);
        prop_assert_eq!(sorted, expected);
    }

    /// The order of any names does not depend on the order in which they were found.
    #[test]
    fn the_order_does_not_depend_on_the_input_order(mut names in prop::collection::btree_set("[aB01.() ]{0,6}", 0..12).prop_map(|set| set.into_iter().collect::<Vec<_>>()), seed in any::<u64>()) {
        let files = |names: &[String]| names.iter().map(|name| PathBuf::from(format!("{name}.png"))).collect::<Vec<_>>();
        let mut first = files(&names);
        sort(&mut first);
        let len = names.len().max(1);
        names.rotate_left(seed as usize % len);
        names.reverse();
        let mut second = files(&names);
        sort(&mut second);
        prop_assert_eq!(first, second);
    }
}
