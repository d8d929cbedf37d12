//! Atomic writing: files are written under a temporary name, then renamed, so that a file is complete or does not exist.
//!
//! A separate crate, because writers of weights and writers of videos need it, and neither may depend on the other.

mod atomic;
mod unfinished;

pub use atomic::{temporary_beside, write_atomically, write_renamed, write_unsynced};
pub use unfinished::UnfinishedFolder;
