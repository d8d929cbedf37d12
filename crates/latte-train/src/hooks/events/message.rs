//! The protocol buffers of an event file, written field by field. The field numbers are those of TensorFlow's `event.proto` and
//! `summary.proto`.

/// The contents of an event.
#[derive(Debug)]
pub(super) enum What<'a> {
    /// The first event of a file: the version of its layout.
    FileVersion,
    /// The process starts at the event's step; TensorBoard drops the events of earlier processes for this step and later ones.
    SessionStart,
    /// Numbers by tag.
    Scalars(&'a [(&'a str, f64)]),
    /// An image by tag.
    Image(&'a str, EncodedImage<'a>),
}

/// An encoded image: the bytes of a PNG or GIF file (TensorBoard plays a GIF).
#[derive(Debug, Clone, Copy)]
pub struct EncodedImage<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// The layout of event files since 2015, the second of two; it supports session starts.
const FILE_VERSION: &str = "brain.Event:2";
/// `SessionLog.SessionStatus.START`.
const START: u64 = 1;
/// Red, green and blue in `Summary.Image.colorspace`.
const RGB: u64 = 3;

/// An `Event`. `time` is in seconds since 1970.
pub(super) fn event(time: f64, step: u64, what: &What<'_>) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, time);
    event.integer(2, step);
    match what {
        What::FileVersion => event.bytes(3, FILE_VERSION.as_bytes()),
        What::SessionStart => {
            let mut log = Message::default();
            log.integer(1, START);
            event.bytes(7, &log.0);
        }
        What::Scalars(scalars) => {
            let mut summary = Message::default();
            for (tag, value) in *scalars {
                let mut entry = Message::default();
                entry.bytes(1, tag.as_bytes());
                entry.float(2, *value as f32);
                summary.bytes(1, &entry.0);
            }
            event.bytes(5, &summary.0);
        }
        What::Image(tag, image) => {
            let mut picture = Message::default();
            picture.integer(1, image.height as u64);
            picture.integer(2, image.width as u64);
            picture.integer(3, RGB);
            picture.bytes(4, image.bytes);
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.bytes(4, &picture.0);
            let mut summary = Message::default();
            summary.bytes(1, &entry.0);
            event.bytes(5, &summary.0);
        }
    }
    event.0
}

/// A message while it is written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const EIGHT_BYTES: u64 = 1;
    const LENGTH_AND_BYTES: u64 = 2;
    const FOUR_BYTES: u64 = 5;

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, Self::VARINT);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, Self::EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, Self::FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
    }

    /// A text, bytes, or another message.
    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, Self::LENGTH_AND_BYTES);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }
}
