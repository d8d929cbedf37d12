//! The files of a run folder: its lock and status, its logs, and a summary of them.

pub(crate) mod loss_parts;
pub(crate) mod record;
pub(crate) mod status;
pub(crate) mod summary;
