//! Reads and writes video files: decoding, clip windows, transforms, encoding.
//!
//! A video is a file (mp4, mkv, webm; with the `ffmpeg` program installed, every format that it reads) or a folder of image files.
//! [`Video::open`] reads its metadata, [`ClipWindow`] selects frames, [`Video::frames`] decodes just those into a [`Clip`] of u8
//! RGB, [`transform`] converts to floats of training size, and [`encode`] writes files. [`results`] names generated files.
//! [`dataset`] lists the videos of a data set and checks it. Nothing has to be installed: this crate itself decodes H.264, H.265
//! and VP9, and encodes H.264. If libavcodec is installed, it decodes the same files in half the time ([`Decoder`]).
//!
//! Shape letters: `f` frames, `h` height, `w` width; a clip is `[f, h, w, 3]`, a transformed one `[f, 3, h, w]`.
//!
//! ```
//! use latte_video::{Clip, ClipWindow, Decoder, FrameRule, Video, encode};
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("grey.mp4");
//! let clip = Clip::new(vec![128; 20 * 32 * 32 * 3], [20, 32, 32, 3], 8.0)?;
//! encode::write_mp4(&path, &clip, &encode::Mp4Options::default())?;
//!
//! let video = Video::open(&path, Decoder::BuiltIn)?;
//! let window = ClipWindow { num_frames: 4, frame_interval: 3, rule: FrameRule::ExactStride };
//! let indices = window.indices(video.info().num_frames, 2)?;
//! assert_eq!(indices, [2, 5, 8, 11]);
//! let excerpt = video.frames(&indices)?;
//! assert_eq!(excerpt.shape(), [4, 32, 32, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builtin;
mod byte_range;
mod clip;
mod colour;
mod error;
mod extension;
mod ffmpeg;
mod find;
mod frame_folder;
mod image_file;
mod info;
mod media_location;
mod natural;
mod orientation;
mod panic_guard;
mod video;
mod window;

pub mod dataset;
pub mod encode;
pub mod results;
pub mod transform;

pub use clip::Clip;
pub use error::{Error, Result};
pub use ffmpeg::is_available as ffmpeg_is_available;
pub use find::find_videos;
pub use image_file::read_image;
pub use info::VideoInfo;
pub use latte_libav::version as libavcodec_version;
pub use latte_progress::{NoProgress, Progress, Stage};
pub use transform::Transform;
pub use video::{Decoder, Video};
pub use window::{ClipWindow, FrameRule};
