//! Counts the pictures at the start of a stream for which ffmpeg gives no frame.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Packet, command, number, run, url};
use crate::byte_range::ByteRange;
use crate::{Error, Result};

/// Coded pictures and decoded frames, in the order in which ffprobe lists them.
#[derive(Debug, Default, Deserialize)]
struct Start {
    #[serde(default)]
    packets_and_frames: Vec<Event>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event {
    Packet {
        pts_time: Option<String>,
        #[serde(default)]
        flags: String,
    },
    Frame {
        best_effort_timestamp_time: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// Number of coded pictures at the start, in presentation order, for which ffmpeg gives no frame.
pub(super) fn lost_at_start(byte_range: &ByteRange, stream: usize) -> Result<usize> {
    let path = &byte_range.path;
    let mut num_packets = 64;
    loop {
        let mut command = command(path, "ffprobe")?;
        command.args(["-v", "error", "-threads", "1", "-select_streams", &stream.to_string(), "-of", "json"]);
        command.args(["-read_intervals", &format!("%+#{num_packets}"), "-show_entries"]);
        command.arg("packet=pts_time,flags:frame=best_effort_timestamp_time").arg(url(byte_range));
        let (json, _) = run(path, command, 1 << 16)?;
        let start: Start =
            serde_json::from_slice(&json).map_err(|e| Error::ffmpeg(path, format!("ffprobe's answer is not clear: {e}")))?;
        if let Some(lost) = start.lost(num_packets) {
            return Ok(lost);
        }
        num_packets *= 8;
    }
}

impl Start {
    /// Number of pictures at the start without a frame; `None` if `num_packets` coded pictures are too few to tell.
    fn lost(&self, num_packets: usize) -> Option<usize> {
        // ffmpeg holds back at most this many pictures after its first frame: then every lost picture at the start is known.
        const DELAY: usize = 32;
        let (mut shown, mut frames, mut read, mut first_frame) = (Vec::new(), Vec::new(), 0, None);
        for event in &self.packets_and_frames {
            match event {
                Event::Packet { pts_time, flags } => {
                    read += 1;
                    if !flags.contains('D') {
                        shown.push(number(pts_time.as_deref()));
                    }
                }
                Event::Frame { best_effort_timestamp_time: time } => {
                    first_frame.get_or_insert(read);
                    frames.push(number(time.as_deref()));
                }
                Event::Other => {}
            }
        }
        let is_all = read < num_packets;
        if !is_all && first_frame.is_none_or(|at| at + DELAY > read) {
            return None;
        }
        let missing = shown.len().saturating_sub(frames.len());
        let Some(first) = frames.iter().flatten().copied().reduce(f64::min) else { return Some(missing) };
        // Other missing frames are damage, which is reported when they are requested.
        let before = shown.iter().flatten().filter(|&&time| time < first - 1e-6).count();
        let timeless = |times: &[Option<f64>]| times.iter().filter(|time| time.is_none()).count();
        Some(missing.min(before + timeless(&shown).saturating_sub(timeless(&frames))))
    }
}

/// Removes the first `count` pictures, in presentation order, from `shown`. Pictures without a time come first: containers store
/// them so.
pub(super) fn leave_out_first(shown: &mut Vec<&Packet>, count: usize) {
    if count == 0 {
        return;
    }
    let mut order: Vec<usize> = (0..shown.len()).collect();
    let time = |&i: &usize| shown[i].time().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let lost: BTreeSet<usize> = order.into_iter().take(count).collect();
    let mut index = 0;
    shown.retain(|_| {
        index += 1;
        !lost.contains(&(index - 1))
    });
}

#[cfg(test)]
mod tests {
    use super::Start;

    fn lost(events: &str, num_packets: usize) -> Option<usize> {
        // `p3`: a coded picture with time 3; `f3`: a frame; without a number: no time; `d3`: a picture that an edit list hides.
        let event = |e: &str| {
            let (kind, time) = e.split_at(1);
            let (kind, field, flags) = match kind {
                "f" => ("frame", "best_effort_timestamp_time", ""),
                "d" => ("packet", "pts_time", "KD"),
                _ => ("packet", "pts_time", "K_"),
            };
            let time = if time.is_empty() { String::new() } else { format!(", \"{field}\": \"{time}\"") };
            format!("{{\"type\": \"{kind}\", \"flags\": \"{flags}\"{time}}}")
        };
        let events: Vec<String> = events.split(' ').map(event).collect();
        let start: Start = serde_json::from_str(&format!("{{\"packets_and_frames\": [{}]}}", events.join(", "))).unwrap();
        start.lost(num_packets)
    }

    #[test]
    fn frames_that_are_lost_at_the_start_are_counted() {
        assert_eq!(lost("p0 p2 f0 p1 f1 f2", 64), Some(0));
        assert_eq!(lost("p3 p1 p2 p4 f3 f4", 64), Some(2));
        // The pictures before the first frame have no time; an edit list hides one.
        assert_eq!(lost("p0 p p p1 f0 f1", 64), Some(2));
        assert_eq!(lost("d0 p1 p2 f1 f2", 64), Some(0));
        // No times at all.
        assert_eq!(lost("p p p f f", 64), Some(1));
        // A picture that is missing later is damage.
        assert_eq!(lost("p0 p1 p2 p3 f0 f1 f3", 64), Some(0));
        // Too early to tell whether frames are missing.
        assert_eq!(lost("p0 p1 p2", 3), None);
        assert_eq!(lost("p0 p1 f0 f1", 2), None);
        assert_eq!(lost("p0 p1", 64), Some(2));
    }
}
