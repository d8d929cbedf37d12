//! Changes files that consist of nested boxes and keeps the lengths of the enclosing boxes correct.

use super::{Chance, bytes};

/// The header of a box: its name, the offset behind the length field, and the length of the rest.
type Head = (Vec<u8>, usize, usize);

/// How to parse and write boxes.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Parses the header of the box at the start of these bytes.
    split: fn(&[u8]) -> Option<Head>,
    /// The number of bytes before the inner boxes of a box with this header; `None` if it has no inner boxes.
    inside: fn(&[u8]) -> Option<usize>,
    /// A box with this header and body.
    join: fn(&[u8], &[u8]) -> Vec<u8>,
}

pub(crate) const MP4: Format = Format {
    split: |bytes| {
        let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let name = bytes.get(4..8)?.to_vec();
        let len = if len == 0 { bytes.len() } else { len };
        Some((name, 8, len.min(bytes.len()).checked_sub(8)?))
    },
    inside: |name| match name {
        b"moov" | b"trak" | b"mdia" | b"minf" | b"stbl" | b"edts" | b"dinf" | b"mvex" | b"moof" | b"traf" | b"udta" => Some(0),
        b"meta" => Some(4),
        b"stsd" | b"dref" => Some(8),
        b"avc1" | b"avc3" | b"hev1" | b"hvc1" | b"vp09" => Some(78),
        _ => None,
    },
    join: |name, body| [&(body.len() as u32 + 8).to_be_bytes(), name, body].concat(),
};

pub(crate) const MATROSKA: Format = Format {
    split: |bytes| {
        let name = bytes.first()?.leading_zeros() as usize + 1;
        let first = *bytes.get(name)?;
        let width = first.leading_zeros() as usize + 1;
        let digits = bytes.get(name..name + width)?;
        let unknown = u64::from(first) + 1 == 1 << (9 - width) && digits[1..].iter().all(|digit| *digit == 0xff);
        let number = digits.iter().fold(0_u64, |number, digit| number << 8 | u64::from(*digit));
        let len = if unknown || width > 8 { u64::MAX } else { number & !(1 << (7 * width)) };
        let rest = bytes.len() - name - width;
        Some((bytes[..name].to_vec(), name + width, usize::try_from(len).unwrap_or(rest).min(rest)))
    },
    inside: |name| {
        const MASTERS: [&[u8]; 13] = [
            b"\x1a\x45\xdf\xa3",
            b"\x18\x53\x80\x67",
            b"\x11\x4d\x9b\x74",
            b"\x4d\xbb",
            b"\x15\x49\xa9\x66",
            b"\x16\x54\xae\x6b",
            b"\xae",
            b"\xe0",
            b"\x1f\x43\xb6\x75",
            b"\xa0",
            b"\x1c\x53\xbb\x6b",
            b"\xbb",
            b"\xb7",
        ];
        MASTERS.contains(&name).then_some(0)
    },
    join: |name, body| [name, &(0x1000_0000 | (body.len() as u32 & 0x0fff_ffff)).to_be_bytes(), body].concat(),
};

/// A box: its name, the bytes before the inner boxes, and the inner boxes; or its whole content.
#[derive(Clone)]
struct Node {
    name: Vec<u8>,
    content: Vec<u8>,
    inside: Option<Vec<Self>>,
}

/// Maximum nesting depth, which real files do not exceed.
const DEEPEST: usize = 12;

fn parse(mut bytes: &[u8], format: Format, depth: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Some((name, head, len)) = (format.split)(bytes) {
        let body = &bytes[head..head + len];
        let before = (format.inside)(&name).filter(|before| *before <= body.len() && depth < DEEPEST);
        let (content, inside) = match before {
            Some(before) => (body[..before].to_vec(), Some(parse(&body[before..], format, depth + 1))),
            None => (body.to_vec(), None),
        };
        nodes.push(Node { name, content, inside });
        bytes = &bytes[head + len..];
    }
    nodes
}

fn write(nodes: &[Node], format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Node { name, content, inside } in nodes {
        let body = [&content[..], &write(inside.as_deref().unwrap_or_default(), format)].concat();
        bytes.extend((format.join)(name, &body));
    }
    bytes
}

/// Changes, duplicates, removes, renames or moves one to three boxes.
pub(crate) fn damaged(seed: &[u8], format: Format, chance: &mut Chance) -> Vec<u8> {
    let mut nodes = parse(seed, format, 0);
    for _ in 0..=chance.below(3) {
        change(&mut nodes, chance);
    }
    write(&nodes, format)
}

fn change(nodes: &mut Vec<Node>, chance: &mut Chance) {
    if nodes.is_empty() {
        return;
    }
    let at = chance.below(nodes.len());
    if let Some(inside) = &mut nodes[at].inside
        && !inside.is_empty()
        && !chance.one_in(6)
    {
        return change(inside, chance);
    }
    match chance.below(6) {
        0 => _ = nodes.remove(at),
        1 => {
            let copy = nodes[at].clone();
            nodes.insert(chance.below(nodes.len()), copy);
        }
        2 => {
            let other = chance.below(nodes.len());
            nodes.swap(at, other);
        }
        3 => nodes[at].name = nodes[chance.below(nodes.len())].name.clone(),
        _ => {
            let content = &mut nodes[at].content;
            let before = [content.clone()];
            bytes::change(content, &before, chance);
        }
    }
}
