//! The supported releases of FFmpeg.

use std::ffi::c_uint;

/// Major versions of FFmpeg, libavcodec and the matching libavutil. Their structures have the same first fields on 64-bit systems.
/// Other releases are not used, because their structures are unknown.
pub(crate) const RELEASES: [(u32, u32, u32); 4] = [(8, 62, 60), (7, 61, 59), (6, 60, 58), (5, 59, 57)];

/// Whether libavcodec and libavutil of these versions (major · 2¹⁶ + minor · 2⁸ + micro) belong to one supported release.
#[cfg_attr(not(all(unix, target_pointer_width = "64")), expect(dead_code, reason = "nothing is loaded here"))]
pub(crate) fn is_known(codec: c_uint, util: c_uint) -> bool {
    RELEASES.iter().any(|&(_, known_codec, known_util)| (codec >> 16, util >> 16) == (known_codec, known_util))
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn only_pairs_of_one_release_are_known() {
        let version = |major: u32| (major << 16) + (37 << 8) + 100;
        for (codec, util) in [(59, 57), (60, 58), (61, 59), (62, 60)] {
            assert!(is_known(version(codec), version(util)), "{codec} {util}");
        }
        for (codec, util) in [(58, 56), (59, 58), (62, 59), (63, 61), (0, 0)] {
            assert!(!is_known(version(codec), version(util)), "{codec} {util}");
        }
    }
}
