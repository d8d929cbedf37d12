//! The errors of this crate.

use crate::releases::RELEASES;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. The caller adds the name of the file.
///
/// Not `non_exhaustive`, so that a new variant fails the build wherever variants are matched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No library can be loaded.
    #[error(
        "libavcodec is not found ({0}): install ffmpeg with its shared libraries (`apt-get install ffmpeg`), set \
         LATTE_LIBAVCODEC to the library file, or use another decoder"
    )]
    NotFound(String),
    /// The library lacks a function: it is another library, or was built in an unusual way.
    #[error("the libavcodec that was loaded has no function {0}; set LATTE_LIBAVCODEC to another, or use another decoder")]
    NoFunction(&'static str),
    /// The library has a version whose structures are unknown.
    #[error(
        "libavcodec {codec} with libavutil {util} is not used, because its version is not known here: expected one of {}; set \
         LATTE_LIBAVCODEC to such a library, or use another decoder",
        known()
    )]
    Version {
        /// The version of libavcodec in its own numbering.
        codec: String,
        /// The version of libavutil in its own numbering.
        util: String,
    },
    /// The library does not decode the test clip correctly.
    #[error("libavcodec {0} is not used: it decodes the clip that it is tried on to other pictures; use another decoder")]
    Untrue(String),
    /// The library was built without this decoder.
    #[error("this libavcodec has no decoder `{0}`; use another decoder")]
    NoDecoder(&'static str),
    /// A call of the library failed.
    #[error("libavcodec: {what} failed with code {code}")]
    Refused {
        /// The operation.
        what: &'static str,
        /// The negative error code of the library.
        code: i32,
    },
    /// A decoded picture has an unsupported pixel format.
    #[error("libavcodec gave a picture of {width} × {height} in the format `{format}`, which is not known here")]
    Format {
        /// The library's name of the format.
        format: String,
        /// Width in pixels.
        width: i32,
        /// Height in pixels.
        height: i32,
    },
}

/// Errors of libavcodec for valid but unsupported input: `AVERROR_PATCHWELCOME`, the letters "PAWE" as a number, and the system's
/// `ENOSYS`, both negative.
const UNKNOWN: [i32; 2] = [-0x4557_4150, -38];

impl Error {
    /// Whether the stream may be valid, so that another decoder may decode it.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Refused { code, .. } => UNKNOWN.contains(code),
            _ => true,
        }
    }
}

fn known() -> String {
    let releases = RELEASES.iter().rev().map(|(release, codec, util)| format!("{codec} with {util} (FFmpeg {release})"));
    releases.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn damage_and_unsupported_input_are_different_errors() {
        let refused = |code| Error::Refused { what: "decoding", code };
        // AVERROR_INVALIDDATA, the letters "INDA".
        assert!(!refused(-0x4144_4E49).is_unsupported() && refused(-0x4557_4150).is_unsupported());
        assert!(Error::NoDecoder("h264").is_unsupported());
    }

    #[test]
    fn an_unknown_version_is_reported_with_the_known_ones() {
        let said = Error::Version { codec: "64.2.100".into(), util: "62.1.100".into() }.to_string();
        assert!(said.contains("64.2.100") && said.contains("59 with 57 (FFmpeg 5)") && said.contains("62 with 60"), "{said}");
        assert!(!said.contains('\n') && said.contains("LATTE_LIBAVCODEC"), "{said}");
    }
}
