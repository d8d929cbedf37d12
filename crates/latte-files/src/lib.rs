//! Files that are complete or not there: they are written under another name, then renamed.
//!
//! This is a crate of its own because writers of weights and writers of videos need it, and neither may see the other.

mod atomic;
mod unfinished;

pub use atomic::{temporary_beside, write_atomically, write_renamed, write_unsynced};
pub use unfinished::UnfinishedFolder;
