//! A decoder: takes coded pictures, returns planes.

use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::error::{Error, Result};
use crate::library::{END, FrameHead, Library, Opaque, Packet};

/// The supported codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264; each coded picture as NAL units with start codes; parameter sets come before the first picture.
    H264,
    /// H.265, in the same form.
    H265,
    /// VP9 in the format of containers.
    Vp9,
}

impl Codec {
    fn name(self) -> &'static CStr {
        match self {
            Self::H264 => c"h264",
            Self::H265 => c"hevc",
            Self::Vp9 => c"vp9",
        }
    }
}

/// A decoder, which stays on one thread.
#[derive(Debug)]
pub struct Decoder {
    library: &'static Library,
    context: NonNull<Opaque>,
    packet: NonNull<Packet>,
    frame: NonNull<FrameHead>,
}

impl Decoder {
    /// Creates a decoder of this library; [`Decoder::new`] uses the verified one.
    pub(crate) fn with(library: &'static Library, codec: Codec, max_pixels: usize) -> Result<Self> {
        // SAFETY: the name is a C string.
        let decoder = unsafe { (library.find_decoder)(codec.name().as_ptr()) };
        if decoder.is_null() {
            return Err(Error::NoDecoder(codec.name().to_str().unwrap_or_default()));
        }
        // SAFETY: the decoder comes from the library, and the three objects belong to `Self`, which frees them.
        let (context, packet, frame) =
            unsafe { ((library.alloc_context)(decoder), (library.alloc_packet)(), (library.alloc_frame)()) };
        let (Some(context), Some(packet), Some(frame)) = (NonNull::new(context), NonNull::new(packet), NonNull::new(frame))
        else {
            // Out of memory: leaking the objects that exist does not matter then.
            return Err(Error::Refused { what: "making a decoder", code: -12 });
        };
        let this = Self { library, context, packet, frame };
        let max_pixels = CString::new(max_pixels.to_string()).unwrap_or_default();
        let options: [(&CStr, &CStr); 5] = [
            // The caller runs one decoder per thread.
            (c"threads", c"1"),
            // Damage must be an error, not an almost correct picture.
            (c"err_detect", c"explode"),
            // If the stream does not state its reordering delay, pictures are held back until their order is certain.
            (c"strict", c"1"),
            // Exact cropping, even if rows then begin at unaligned addresses.
            (c"flags", c"+unaligned"),
            (c"max_pixels", &max_pixels),
        ];
        for (name, value) in options {
            // SAFETY: the context is ours and alive; the arguments are C strings, which the library copies.
            check("setting an option", unsafe { (library.set_option)(context.as_ptr(), name.as_ptr(), value.as_ptr(), 0) })?;
        }
        // SAFETY: the context was allocated for this decoder and is opened once.
        check("opening a decoder", unsafe { (library.open)(context.as_ptr(), decoder, ptr::null_mut()) })?;
        Ok(this)
    }

    /// Sets whether damage is concealed if possible, as the `ffmpeg` program does, for streams whose first pictures refer to
    /// missing ones. By default, damage is an error.
    ///
    /// # Errors
    ///
    /// If the library does not support the option.
    pub fn tolerate_damage(&mut self, tolerate: bool) -> Result<()> {
        let (name, value) = (c"err_detect", if tolerate { c"0" } else { c"explode" });
        // SAFETY: the context is ours and alive; the arguments are C strings, which the library copies.
        check("setting an option", unsafe { (self.library.set_option)(self.context.as_ptr(), name.as_ptr(), value.as_ptr(), 0) })
    }

    /// Decodes one coded picture; the decoded picture gets this `tag`. The caller must fetch all frames after each call.
    ///
    /// # Errors
    ///
    /// If the library finds the picture damaged.
    pub fn push(&mut self, data: &[u8], tag: i64) -> Result<()> {
        let Ok(len) = c_int::try_from(data.len()) else {
            return Err(Error::Refused { what: "making room for a picture", code: -22 });
        };
        let packet = self.packet.as_ptr();
        // SAFETY: the packet is ours, alive and empty.
        check("making room for a picture", unsafe { (self.library.new_packet)(packet, len) })?;
        // SAFETY: the packet is alive, and its first fields have the layout of `Packet`.
        let (room, size) = unsafe { ((*packet).data, (*packet).size) };
        if room.is_null() || size != len {
            return Err(Error::Untrue(self.library.version.clone()));
        }
        // SAFETY: `new_packet` has allocated `len` bytes there, to which no other reference exists; the context is open. The
        // library keeps its own reference to what it still needs.
        let code = unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), room, data.len());
            (*packet).pts = tag;
            let code = (self.library.send_packet)(self.context.as_ptr(), packet);
            (self.library.unref_packet)(packet);
            code
        };
        check("decoding", code)
    }

    /// Signals the end of the stream.
    ///
    /// # Errors
    ///
    /// If it was called before.
    pub fn finish(&mut self) -> Result<()> {
        // SAFETY: the context is open, and a null packet signals the end.
        check("ending", unsafe { (self.library.send_packet)(self.context.as_ptr(), ptr::null()) })
    }

    /// The next picture in presentation order, as soon as the order is certain.
    ///
    /// # Errors
    ///
    /// If the picture is damaged or has an unsupported pixel format.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        // SAFETY: the context is open and the frame ours; the library releases its former contents.
        let code = unsafe { (self.library.receive_frame)(self.context.as_ptr(), self.frame.as_ptr()) };
        if code == END || code == -AGAIN {
            return Ok(None);
        }
        check("decoding", code)?;
        self.frame().map(Some)
    }

    fn frame(&self) -> Result<Frame<'_>> {
        // SAFETY: the frame is ours and alive, and the library has filled it in.
        let head = unsafe { self.frame.as_ref() };
        // SAFETY: takes a number and returns a static string or null.
        let name = unsafe { (self.library.format_name)(head.format) };
        // SAFETY: a static C string.
        let name = if name.is_null() { "none" } else { unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default() };
        let unknown = || Error::Format { format: name.to_string(), width: head.width, height: head.height };
        let format = Format::named(name).ok_or_else(unknown)?;
        let (Ok(width), Ok(height)) = (usize::try_from(head.width), usize::try_from(head.height)) else {
            return Err(unknown());
        };
        if width == 0 || height == 0 {
            return Err(unknown());
        }
        let mut planes = Vec::with_capacity(format.num_planes);
        for (index, (&data, &stride)) in head.data.iter().zip(&head.linesize).take(format.num_planes).enumerate() {
            let [x, y] = if index == 0 { [0, 0] } else { format.subsampling };
            let row_bytes = width.div_ceil(1 << x) * if format.depth > 8 { 2 } else { 1 };
            let rows = height.div_ceil(1 << y);
            let stride = usize::try_from(stride).ok().filter(|&s| s >= row_bytes && !data.is_null()).ok_or_else(unknown)?;
            planes.push(Plane { data, stride, row_bytes, rows, frame: PhantomData });
        }
        Ok(Frame { width, height, depth: format.depth, subsampling: format.subsampling, planes, tag: head.pts })
    }
}

fn check(what: &'static str, code: c_int) -> Result<()> {
    if code < 0 { Err(Error::Refused { what, code }) } else { Ok(()) }
}

#[cfg(unix)]
const AGAIN: c_int = libc::EAGAIN;
#[cfg(not(unix))]
const AGAIN: c_int = 11;

impl Drop for Decoder {
    fn drop(&mut self) {
        let (mut context, mut packet, mut frame) = (self.context.as_ptr(), self.packet.as_ptr(), self.frame.as_ptr());
        // SAFETY: the three objects are ours, alive, and not used afterwards. The frame is freed first: it may refer to memory that
        // the context manages.
        unsafe {
            (self.library.free_frame)(&raw mut frame);
            (self.library.free_packet)(&raw mut packet);
            (self.library.free_context)(&raw mut context);
        }
    }
}

/// A decoded picture, valid until the next call of the decoder.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Width in pixels, after the cropping of the stream.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Bits per sample. Above 8, samples are two bytes, little-endian.
    pub depth: u32,
    /// log2 of luma samples per chroma sample: [horizontally, vertically].
    pub subsampling: [u32; 2],
    /// Luma and both chroma planes (green, blue and red for RGB streams); only luma for grey pictures.
    pub planes: Vec<Plane<'a>>,
    /// The tag of the coded picture.
    pub tag: i64,
}

/// One plane of a picture: `rows` rows of `row_bytes` bytes each, `stride` bytes apart.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    data: *const u8,
    stride: usize,
    row_bytes: usize,
    rows: usize,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Plane<'a> {
    /// The rows, without the padding between them.
    pub fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: the library has written these bytes, and they stay unchanged until the next call of the decoder, which the
        // lifetime `'a` prevents. The padding between rows, which may be uninitialised, is not read.
        (0..self.rows).map(move |row| unsafe { std::slice::from_raw_parts(self.data.add(row * self.stride), self.row_bytes) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    depth: u32,
    subsampling: [u32; 2],
    num_planes: usize,
}

impl Format {
    /// Parses the library's name of a format: `yuv` with the chroma subsampling, `j` for full range, `p` for planar, the depth in
    /// bits if it is not 8, `le` for little-endian.
    fn named(name: &str) -> Option<Self> {
        let depth = |rest: &str| match rest {
            "" => Some(8),
            _ => rest.strip_suffix("le")?.parse().ok().filter(|d| (9..=16).contains(d)),
        };
        if let Some(rest) = name.strip_prefix("gray") {
            return Some(Self { depth: depth(rest)?, subsampling: [1, 1], num_planes: 1 });
        }
        if let Some(rest) = name.strip_prefix("gbrp") {
            return Some(Self { depth: depth(rest)?, subsampling: [0, 0], num_planes: 3 });
        }
        let rest = name.strip_prefix("yuvj").or_else(|| name.strip_prefix("yuv"))?;
        let (chroma, rest) = rest.split_at_checked(4)?;
        let subsampling = match chroma {
            "420p" => [1, 1],
            "422p" => [1, 0],
            "440p" => [0, 1],
            "444p" => [0, 0],
            _ => return None,
        };
        Some(Self { depth: depth(rest)?, subsampling, num_planes: 3 })
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn formats_are_parsed_from_their_names() {
        let format = |depth, subsampling, num_planes| Some(Format { depth, subsampling, num_planes });
        assert_eq!(Format::named("yuv420p"), format(8, [1, 1], 3));
        assert_eq!(Format::named("yuvj422p"), format(8, [1, 0], 3));
        assert_eq!(Format::named("yuv444p10le"), format(10, [0, 0], 3));
        assert_eq!(Format::named("gray12le"), format(12, [1, 1], 1));
        assert_eq!(Format::named("gbrp"), format(8, [0, 0], 3));
        for unknown in ["nv12", "yuv420p10be", "yuva420p", "yuv411p", "yuv", "rgb24", "none", "gray16be", "yuv420pé"] {
            assert_eq!(Format::named(unknown), None, "{unknown}");
        }
    }
}
