//! The decoders that the cases use.
#![expect(clippy::print_stdout, reason = "says what is not run")]

use latte_video::{ffmpeg_is_available, libavcodec_version};

/// Each installed decoder, and `auto` with others missing: the value of `--decoder`, and the environment.
pub(crate) fn ways_to_decode() -> impl Iterator<Item = (&'static str, &'static [(&'static str, &'static str)])> {
    const NO_LIBRARY: (&str, &str) = ("LATTE_LIBAVCODEC", "/nowhere/libavcodec.so");
    const NO_PROGRAM: (&str, &str) = ("LATTE_FFMPEG", "/nowhere/ffmpeg");
    let mut ways: Vec<(&str, &'static [(&str, &str)])> = vec![
        ("built_in", &[]),
        ("auto", &[]),
        ("auto", &[NO_LIBRARY]),
        ("auto", &[NO_PROGRAM]),
        ("auto", &[NO_LIBRARY, NO_PROGRAM]),
    ];
    if ffmpeg_is_available() {
        ways.push(("ffmpeg", &[]));
    } else {
        println!("NOT RUN: ffmpeg is not found, so its way is not tried on this machine");
    }
    match libavcodec_version() {
        Ok(_) => ways.push(("libavcodec", &[])),
        Err(e) => println!("NOT RUN: libavcodec is not tried on this machine: {e}"),
    }
    ways.into_iter()
}
