//! Decodes coded pictures with the system's libavcodec.
//!
//! The library is looked for when the program runs: nothing of it is needed to build, and where it is missing, only this
//! decoder is. What crosses the border is coded pictures in, planes out; containers, times, colours and everything else
//! are the caller's. This crate exists to hold the `unsafe` code of that border, and nothing else.
//!
//! Four functions decode, one frees, and of the structures only the first fields are touched, which have been the same from
//! FFmpeg 5 to 9. That this holds is not believed but tried: before the library is used, it decodes a clip of three pictures
//! whose pixels, size and order are known ([`is_available`]).
//!
//! ```
//! use latte_libav::{Codec, Decoder};
//!
//! if latte_libav::is_available() {
//!     let mut decoder = Decoder::new(Codec::H264)?;
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

pub use check::is_available;
pub use decoder::{Codec, Decoder, Frame, Plane};
pub use error::{Error, Result};
pub use library::version;
