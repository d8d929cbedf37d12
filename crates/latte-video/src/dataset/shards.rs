//! WebDataset shards: tar archives in which the first part of a member's name is the key of its sample.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::braces::expand;
use super::classes::Classes;
use super::manifest::{CAPTIONS, LABELS};
use super::names::{clean, make_unique};
use super::table::Cell;
use super::tar::{Kind, Member, Members};
use super::{Dataset, Item, MediaLocation, Skipped, json};
use crate::find::VIDEO_EXTENSIONS;
use crate::{Error, Result};

impl Dataset {
    /// Reads WebDataset shards: a folder of `.tar` files, one `.tar` file, or a pattern such as `shards/train-{00000..00146}.tar`
    /// or `{a,b}.tar`. Nothing is unpacked: an item is a byte range of its shard.
    ///
    /// Members whose names are the same up to the first dot form a sample: a video (`.mp4`, `.webm`, `.mkv` …) and, optionally, its
    /// caption (`.txt` or `.caption`), its label (`.cls`) and more (`.json`: `caption`, `text`, `prompt` or `name`; `label`,
    /// `class` or `category`). A separate file takes precedence over `.json`. The name of an item is the name of its shard without
    /// `.tar` followed by the key: `00000/000000012`. Shards are in the order of their names or of the pattern, samples in the
    /// order of the archive. Labels are numbered as by [`Dataset::from_manifest`].
    ///
    /// Skipped and listed are: samples without a video or with an unreadable caption, label or JSON; links; compressed archives;
    /// and everything behind the damage in a damaged archive. Only headers are read, once per shard.
    ///
    /// # Errors
    ///
    /// If there is no shard, a shard of the pattern is missing, the labels are numbers with gaps or numbers with a few names among
    /// them ([`Error::Labels`]), or no shard holds a video.
    pub fn from_shards(path: impl AsRef<Path>) -> Result<(Self, Skipped)> {
        let path = path.as_ref();
        let (mut items, mut labels, mut skipped) = (Vec::new(), Vec::new(), Skipped::default());
        let shards = shards(path, &mut skipped)?;
        let common = common_folder(&shards);
        for shard in &shards {
            let name = shard.strip_prefix(&common).unwrap_or(shard).with_extension("");
            let name = clean(&name.to_string_lossy());
            match samples(shard, &mut skipped) {
                Ok(samples) => {
                    for (key, sample) in samples {
                        let Some(video) = sample.video else { continue };
                        let place = MediaLocation::Archived {
                            archive: shard.clone(),
                            offset: video.offset,
                            length: video.length,
                            name: video.name,
                        };
                        let name = format!("{name}/{}", clean(&key));
                        items.push(Item { name, place, label: None, caption: sample.caption, info: None });
                        labels.push(sample.label);
                    }
                }
                // One unreadable shard among many must not make the others unusable.
                Err(e) if shards.len() > 1 => skipped.add(e),
                Err(e) => return Err(e),
            }
        }
        if items.is_empty() {
            let what = format!("no video can be used in any of the shards ({}){}", shards.len(), skipped.first());
            return Err(Error::folder(path, what));
        }
        let classes =
            Classes::of(&labels, &|at| format!("of {}", items[at].name)).map_err(|e| Error::labels(Error::folder(path, e)))?;
        for (item, label) in items.iter_mut().zip(&labels) {
            item.label = label.as_deref().and_then(|label| classes.number(label));
        }
        // Keys that differ only in dots and slashes become the same name; their locations differ.
        make_unique(&mut items);
        Ok((Self { root: path.to_path_buf(), items, classes: classes.into_names() }, skipped))
    }
}

/// The archives that `path` stands for, in order.
fn shards(path: &Path, skipped: &mut Skipped) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if path.is_dir() {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| Error::io(path, e))? {
            let entry = entry.map_err(|e| Error::io(path, e))?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            let ending = name.rsplit('.').next().unwrap_or_default();
            if ending == "tar" && !name.starts_with('.') && entry.file_name().is_some_and(|name| name.to_str().is_none()) {
                skipped.add(Error::folder(&entry, "its name is no Unicode; rename it"));
            } else if ending == "tar" && !name.starts_with('.') {
                found.push(entry);
            } else if ending == "tgz" || name.contains(".tar.") {
                skipped.add(Error::unsupported(&entry, COMPRESSED));
            }
        }
        found.sort();
        if found.is_empty() {
            return Err(Error::folder(path, format!("no .tar file in this folder{}", skipped.first())));
        }
        return Ok(found);
    }
    let pattern = path.to_string_lossy();
    if !pattern.contains('{') {
        let what = "no such file or folder; expected a .tar file, a folder of them, or a pattern as shard-{00000..00009}.tar";
        return Err(Error::folder(path, what));
    }
    let found: Vec<PathBuf> = expand(&pattern).map_err(|e| Error::folder(path, e))?.into_iter().map(PathBuf::from).collect();
    let missing: Vec<&PathBuf> = found.iter().filter(|f| !f.is_file()).collect();
    if let Some(first) = missing.first() {
        let what = format!(
            "{} of the {} files that this pattern means are missing, {} first",
            missing.len(),
            found.len(),
            first.display()
        );
        return Err(Error::folder(path, what));
    }
    Ok(found)
}

const COMPRESSED: &str = "a compressed archive, in which no video can be found without unpacking all; \
                          write it without compression (videos are compressed themselves)";

/// The deepest folder that contains all shards.
fn common_folder(shards: &[PathBuf]) -> PathBuf {
    let mut common = shards[0].parent().unwrap_or(Path::new("")).to_path_buf();
    while !shards.iter().all(|shard| shard.starts_with(&common)) && common.pop() {}
    common
}

/// The folder of the shards at `path` (a folder, a file or a pattern).
pub(super) fn folder(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    let has_brace = |path: &&Path| path.to_string_lossy().contains('{');
    path.ancestors().skip(1).find(|above| !has_brace(above) || above.exists()).unwrap_or(Path::new(""))
}

/// The members of one key.
#[derive(Debug, Default)]
struct Sample {
    video: Option<Member>,
    caption: Option<String>,
    label: Option<String>,
    /// Caption and label.
    json: Option<[(&'static str, Cell); 2]>,
    /// Why the sample cannot be used.
    wrong: Option<String>,
    /// The extensions of its members, for the message about a missing video.
    endings: Vec<String>,
}

/// The usable samples of a shard, in the order of their first members.
fn samples(shard: &Path, skipped: &mut Skipped) -> Result<Vec<(String, Sample)>> {
    let mut file = File::open(shard).map_err(|e| Error::io(shard, e))?;
    let len = file.metadata().map_err(|e| Error::io(shard, e))?.len();
    let mut head = Vec::new();
    file.by_ref().take(6).read_to_end(&mut head).map_err(|e| Error::io(shard, e))?;
    if [b"\x1F\x8B".as_slice(), b"\x28\xB5\x2F\xFD", b"\xFD7zXZ\0", b"BZh"].iter().any(|magic| head.starts_with(magic)) {
        return Err(Error::unsupported(shard, COMPRESSED));
    }
    let file = File::open(shard).map_err(|e| Error::io(shard, e))?;
    let mut members = Members::new(file, len);
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut samples: Vec<(String, Sample)> = Vec::new();
    loop {
        let member = match members.next() {
            Ok(Some(member)) => member,
            Ok(None) => {
                if !members.is_closed() {
                    skipped.add(Error::damaged(shard, "it lacks the mark of an archive's end; samples may be missing"));
                }
                break;
            }
            Err(what) => {
                skipped.add(Error::damaged(shard, what));
                break;
            }
        };
        let Some((key, ending)) = split(&member.name) else { continue };
        match member.kind {
            Kind::File => {}
            Kind::Folder | Kind::Other => continue,
            Kind::Link => {
                skipped.add(Error::unsupported(&shard.join(&member.name), "a link; links inside archives are not followed"));
                continue;
            }
        }
        let place = *places.entry(key.to_string()).or_insert_with(|| {
            samples.push((key.to_string(), Sample::default()));
            samples.len() - 1
        });
        let ending = ending.to_ascii_lowercase();
        let sample = &mut samples[place].1;
        if let Err(what) = sample.take(&ending, &member, &mut members) {
            sample.wrong.get_or_insert(format!("its .{ending} is {what}"));
        }
    }
    for (key, sample) in &mut samples {
        let wrong = sample.finish();
        if let Some(what) = wrong {
            sample.video = None;
            skipped.add(Error::unsupported(&shard.join(&*key), what));
        }
    }
    samples.retain(|(_, sample)| sample.video.is_some());
    Ok(samples)
}

/// Splits a member's name into key and extension at the first dot of the last part of the path. Hidden files belong to no sample.
fn split(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[file..].find('.')?;
    (dot > 0).then(|| (&name[..file + dot], &name[file + dot + 1..]))
}

impl Sample {
    /// Reads a member into the sample; the error says what is wrong with it.
    fn take(&mut self, ending: &str, member: &Member, members: &mut Members<File>) -> std::result::Result<(), String> {
        self.endings.push(ending.to_string());
        let twice = || Err("there twice".to_string());
        match ending {
            "txt" | "caption" if self.caption.is_some() => twice(),
            "txt" | "caption" => {
                self.caption = Some(text(members.contents(member)?)?);
                Ok(())
            }
            "cls" if self.label.is_some() => twice(),
            "cls" => {
                self.label = Some(text(members.contents(member)?)?);
                Ok(())
            }
            "json" if self.json.is_some() => twice(),
            "json" => {
                self.json = Some(json(&members.contents(member)?)?);
                Ok(())
            }
            _ if !VIDEO_EXTENSIONS.contains(&ending.rsplit('.').next().unwrap_or_default()) => Ok(()),
            // A gif beside a video is a preview of the same clip.
            _ if is_gif(ending) && self.video.is_some() => Ok(()),
            _ if self.video.as_ref().is_some_and(|video| !is_gif(&video.name)) => {
                Err("a second video, and only one can be the sample's".to_string())
            }
            _ => {
                self.video = Some(member.clone());
                Ok(())
            }
        }
    }

    /// Fills in from the JSON what has no separate file; returns why the sample cannot be used, if it cannot.
    fn finish(&mut self) -> Option<String> {
        let [caption, label] = self.json.take().unwrap_or_default();
        for (own, (name, cell)) in [(&mut self.caption, caption), (&mut self.label, label)] {
            *own = own.take().filter(|text| !text.is_empty());
            match cell {
                Cell::Text(text) => *own = own.take().or(Some(text)),
                Cell::Unfit(what) if own.is_none() => {
                    let what = format!("`{name}` in its .json should be text or a number, it is {what}");
                    self.wrong.get_or_insert(what);
                }
                Cell::Unfit(_) | Cell::Missing => {}
            }
        }
        if self.video.is_none() && self.wrong.is_none() {
            return Some(format!("a sample without a video; it has .{}", self.endings.join(", .")));
        }
        self.wrong.take()
    }
}

fn is_gif(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|ending| ending.eq_ignore_ascii_case("gif"))
}

fn text(bytes: Vec<u8>) -> std::result::Result<String, String> {
    let text = latte_textfile::decode(bytes).map_err(|e| format!("no UTF-8 text: {e}"))?;
    Ok(text.trim().to_string())
}

/// Caption and label from a sample's JSON, with their keys.
fn json(bytes: &[u8]) -> std::result::Result<[(&'static str, Cell); 2], String> {
    latte_textfile::refuse_wide(bytes).map_err(|e| format!("no UTF-8 text: {e}"))?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let members = json::members(bytes).map_err(|e| format!("no JSON object: {e}"))?;
    // If a key occurs twice, the last value counts.
    let value =
        |name: &str| members.iter().rev().find(|(key, _)| key == name).map_or(Cell::Missing, |(_, value)| json::cell(value));
    Ok([CAPTIONS, LABELS].map(|names| {
        let mut cells = names.iter().map(|&name| (name, value(name)));
        cells.find(|(_, cell)| *cell != Cell::Missing).unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_the_first_dot_of_the_last_part() {
        for (name, expected) in [
            ("000.mp4", Some(("000", "mp4"))),
            ("./a.b/c.left.mp4", Some(("a.b/c", "left.mp4"))),
            ("a/.hidden.mp4", None),
            ("a/no_ending", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }

    #[test]
    fn shards_are_named_below_the_folder_that_they_share() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(common_folder(&paths(&["d/a/0.tar", "d/a/1.tar"])), Path::new("d/a"));
        assert_eq!(common_folder(&paths(&["d/a/0.tar", "d/b/0.tar"])), Path::new("d"));
        assert_eq!(common_folder(&paths(&["x.tar"])), Path::new(""));
    }
}
