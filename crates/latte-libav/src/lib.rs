//! Decodes coded pictures with the system's libavcodec.
//!
//! The library is loaded at run time: it is neither needed for building nor shipped, and without it only this decoder is
//! unavailable. The interface takes coded pictures and returns planes; containers, times and colours are the caller's task. This
//! crate exists only to contain the `unsafe` code of that interface.
//!
//! Only the first fields of structures are accessed, and the library allocates them. FFmpeg 5 to 8 have the same layout; a library
//! of another release is never used. The version number alone is not trusted: before its first use, a library must decode a clip of
//! three pictures with known pixels, sizes and order ([`version`]).
//!
//! A [`Decoder`] stays on the thread that created it; each thread may have its own.
//!
//! ```
//! use latte_libav::{Codec, Decoder};
//!
//! if latte_libav::version().is_ok() {
//!     let mut decoder = Decoder::new(Codec::H264, 1 << 22)?;
//!     // decoder.push(coded_picture, tag)?; while let Some(frame) = decoder.next_frame()? { … }
//!     assert!(decoder.next_frame()?.is_none());
//! }
//! # Ok::<(), latte_libav::Error>(())
//! ```

#![expect(unsafe_code, reason = "calls a library of C, and exists to do so in one place")]

mod check;
mod decoder;
mod error;
mod library;
mod releases;

pub use check::version;
pub use decoder::{Codec, Decoder, Frame, Plane};
pub use error::{Error, Result};
