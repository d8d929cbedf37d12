//! What can go wrong with the library.

/// The result of a fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in this crate. The caller knows the file, and adds its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no library that can be used.
    #[error(
        "libavcodec is not found: install ffmpeg as a shared library (`apt-get install ffmpeg`), set LATTE_LIBAVCODEC to the \
         library file, or use another decoder"
    )]
    NotFound,
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
