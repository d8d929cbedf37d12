//! TensorBoard event files: the numbers and images of a run.
//!
//! A process writes one file. When a run resumes from a checkpoint, a new file starts with the next step, and TensorBoard drops the
//! events of older files for that step and later ones, because the run repeats them. So files are only appended to, with a single
//! write per record; after a power cut only the last record of a file can be incomplete, and readers stop there.

mod framing;
mod message;
mod of_run;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use message::EncodedImage;
pub use of_run::RunEvents;

use crate::error::{Error, Result};
use crate::run::status::{host, now};
use framing::framed;
use message::{What, event};

const PREFIX: &str = "events.out.tfevents.";

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    folder: PathBuf,
    first_step: u64,
    /// Opened with the first event, so that a process without events leaves no file.
    open: Option<(PathBuf, File)>,
}

impl EventWriter {
    /// A writer of a new file in `folder`, for a process whose first step is `first_step`: this step and later ones in other files
    /// of the folder become invalid.
    pub fn new(folder: &Path, first_step: u64) -> Self {
        Self { folder: folder.to_path_buf(), first_step, open: None }
    }

    /// Adds a number.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn scalar(&mut self, tag: &str, value: f64, step: u64) -> Result<()> {
        self.scalars(&[(tag, value)], step, now())
    }

    /// Adds the numbers of one step, each under its tag. They are stored as f32. `time` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn scalars<S: AsRef<str>>(&mut self, scalars: &[(S, f64)], step: u64, time: f64) -> Result<()> {
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (tag.as_ref(), *value)).collect();
        self.append(&event(time, step, &What::Scalars(&scalars)))
    }

    /// Adds an image.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn image(&mut self, tag: &str, image: EncodedImage<'_>, step: u64) -> Result<()> {
        self.append(&event(now(), step, &What::Image(tag, image)))
    }

    /// Waits until everything is on disk.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn sync(&self) -> Result<()> {
        match &self.open {
            Some((path, file)) => file.sync_all().map_err(Error::io(path)),
            None => Ok(()),
        }
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        let (path, file) = match &mut self.open {
            Some(open) => open,
            None => {
                let begun = begin(&self.folder, self.first_step)?;
                self.open.insert(begun)
            }
        };
        // One write: readers see a complete record or none.
        file.write_all(&framed(event)).map_err(Error::io(&*path))
    }
}

/// Creates a file whose name sorts after all others: TensorBoard reads files in the order of their names.
fn begin(folder: &Path, first_step: u64) -> Result<(PathBuf, File)> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut newest = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let seconds = name.to_string_lossy().strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
        newest = newest.max(seconds.unwrap_or(0));
    }
    // Later than all others, also if the clock was set back or less than a second has passed.
    let seconds = (now() as u64).max(newest + 1);
    let path = folder.join(format!("{PREFIX}{seconds:010}.{}.{}", host(), std::process::id()));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io(&path))?;
    let mut start = framed(&event(now(), 0, &What::FileVersion));
    start.extend(framed(&event(now(), first_step, &What::SessionStart)));
    if let Err(e) = file.write_all(&start) {
        // Otherwise each attempt on a full disk would leave an empty file.
        let _ = std::fs::remove_file(&path);
        return Err(Error::io(&path)(e));
    }
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_in_the_order_in_which_they_were_begun() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = dir.path().join(format!("{PREFIX}4000000000.elsewhere.1"));
        std::fs::write(&ahead, b"").unwrap();
        let mut names = vec![ahead];
        for step in [1, 5, 3] {
            let mut writer = EventWriter::new(dir.path(), step);
            assert!(writer.open.is_none());
            writer.scalar("a", 1.0, step).unwrap();
            writer.sync().unwrap();
            names.push(writer.open.unwrap().0);
        }
        assert!(names.is_sorted() && names.iter().all(|name| name.is_file()), "{names:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
