//! What can go wrong with the library.

use crate::releases::RELEASES;

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in this crate. The caller knows the file, and adds its name.
///
/// Not `non_exhaustive`: the compiler tells everybody who decides by variant of a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No library can be loaded.
    #[error(
        "libavcodec is not found ({0}): install ffmpeg with its shared libraries (`apt-get install ffmpeg`), set \
         LATTE_LIBAVCODEC to the library file, or use another decoder"
    )]
    NotFound(String),
    /// The library lacks a function, so it is another one or built in an unusual way.
    #[error("the libavcodec that was loaded has no function {0}; set LATTE_LIBAVCODEC to another, or use another decoder")]
    NoFunction(&'static str),
    /// The library is of a version whose structures are not known.
    #[error(
        "libavcodec {codec} with libavutil {util} is not used, because its version is not known here: expected one of {}; set \
         LATTE_LIBAVCODEC to such a library, or use another decoder",
        known()
    )]
    Version {
        /// As libavcodec counts itself.
        codec: String,
        /// As libavutil counts itself.
        util: String,
    },
    /// The library does not decode the clip that it is tried on as it should.
    #[error("libavcodec {0} is not used: it decodes the clip that it is tried on to other pictures; use another decoder")]
    Untrue(String),
    /// The library was built without this decoder.
    #[error("this libavcodec has no decoder `{0}`; use another decoder")]
    NoDecoder(&'static str),
    /// The library refused something; the code is its own.
    #[error("libavcodec: {what} failed with code {code}")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// A negative number, as `ffmpeg` has it.
        code: i32,
    },
    /// A decoded picture that is not laid out as anything known here.
    #[error("libavcodec gave a picture of {width} × {height} in the format `{format}`, which is not known here")]
    Format {
        /// The library's name of the format.
        format: String,
        /// Pixels of a row.
        width: i32,
        /// Rows.
        height: i32,
    },
}

/// What libavcodec says to valid input of a kind that it does not know: `AVERROR_PATCHWELCOME`, the letters of "PAWE" as a number,
/// and `ENOSYS` of the system, both negative.
const UNKNOWN: [i32; 2] = [-0x4557_4150, -38];

impl Error {
    /// Whether the stream may be whole, and another decoder may decode it.
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
    fn damage_is_told_from_what_is_unknown() {
        let refused = |code| Error::Refused { what: "decoding", code };
        // AVERROR_INVALIDDATA, the letters of "INDA".
        assert!(!refused(-0x4144_4E49).is_unsupported() && refused(-0x4557_4150).is_unsupported());
        assert!(Error::NoDecoder("h264").is_unsupported());
    }

    #[test]
    fn an_unknown_version_is_told_with_those_that_are_known() {
        let said = Error::Version { codec: "64.2.100".into(), util: "62.1.100".into() }.to_string();
        assert!(said.contains("64.2.100") && said.contains("59 with 57 (FFmpeg 5)") && said.contains("62 with 60"), "{said}");
        assert!(!said.contains('\n') && said.contains("LATTE_LIBAVCODEC"), "{said}");
    }
}
