//! Decodes coded pictures with the system's libavcodec.
//!
//! The library is looked for when the program runs: nothing of it is needed to build, nothing of it is shipped, and where it
//! is missing, only this decoder is. What crosses the border is coded pictures in, planes out; containers, times, colours and
//! everything else are the caller's. This crate exists to hold the `unsafe` code of that border, and nothing else.
//!
//! Of the structures only the first fields are touched, and memory for them is the library's own. They lie alike from FFmpeg 5
//! to 8; a library whose version says another release is never used. Nor is one believed by its version alone: before the first
//! use it decodes a clip of three pictures whose pixels, sizes and order are known ([`version`]).
//!
//! A [`Decoder`] stays on the thread that made it; any number of threads may have decoders of their own.
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
