//! One decoder: coded pictures in, planes out.

use std::ffi::{CStr, CString, c_int};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::error::{Error, Result};
use crate::library::{END, FrameHead, Library, Opaque, Packet};

/// What can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264, each coded picture as NAL units after start codes; parameter sets lie before the first.
    H264,
    /// H.265, in the same form.
    H265,
    /// VP9, as containers have it.
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

/// A decoder on one thread.
#[derive(Debug)]
pub struct Decoder {
    library: &'static Library,
    context: NonNull<Opaque>,
    packet: NonNull<Packet>,
    frame: NonNull<FrameHead>,
}

impl Decoder {
    /// A new decoder of this library, as [`Decoder::new`] makes it of the one that was tried out.
    pub(crate) fn with(library: &'static Library, codec: Codec, max_pixels: usize) -> Result<Self> {
        // SAFETY: the name is a string of C.
        let decoder = unsafe { (library.find_decoder)(codec.name().as_ptr()) };
        if decoder.is_null() {
            return Err(Error::NoDecoder(codec.name().to_str().unwrap_or_default()));
        }
        // SAFETY: the decoder is one that the library has, and the three objects belong to `Self`, which frees them.
        let (context, packet, frame) =
            unsafe { ((library.alloc_context)(decoder), (library.alloc_packet)(), (library.alloc_frame)()) };
        let (Some(context), Some(packet), Some(frame)) = (NonNull::new(context), NonNull::new(packet), NonNull::new(frame))
        else {
            // Out of memory, where nothing else would work either: what there is of the three stays.
            return Err(Error::Refused { what: "making a decoder", code: -12 });
        };
        let this = Self { library, context, packet, frame };
        let max_pixels = CString::new(max_pixels.to_string()).unwrap_or_default();
        let options: [(&CStr, &CStr); 5] = [
            // The caller runs as many decoders as there are threads.
            (c"threads", c"1"),
            // Damage is an error, not a picture that looks nearly right.
            (c"err_detect", c"explode"),
            // Pictures wait until their order is certain, where the stream does not say how long they must.
            (c"strict", c"1"),
            // Cropping to the pixel, also where rows then begin at odd addresses.
            (c"flags", c"+unaligned"),
            (c"max_pixels", &max_pixels),
        ];
        for (name, value) in options {
            // SAFETY: the context is ours and alive; the strings are of C, and the library copies what it keeps of them.
            check("setting an option", unsafe { (library.set_option)(context.as_ptr(), name.as_ptr(), value.as_ptr(), 0) })?;
        }
        // SAFETY: the context was made for this decoder and is opened once.
        check("opening a decoder", unsafe { (library.open)(context.as_ptr(), decoder, ptr::null_mut()) })?;
        Ok(this)
    }

    /// Whether damage, from now on, is made up for where that is possible, as the `ffmpeg` program does. For streams that begin
    /// behind pictures to which they refer. At first it is an error.
    ///
    /// # Errors
    ///
    /// If the library does not know the option.
    pub fn tolerate_damage(&mut self, tolerate: bool) -> Result<()> {
        let (name, value) = (c"err_detect", if tolerate { c"0" } else { c"explode" });
        // SAFETY: the context is ours and alive; the strings are of C, and the library copies what it keeps of them.
        check("setting an option", unsafe { (self.library.set_option)(self.context.as_ptr(), name.as_ptr(), value.as_ptr(), 0) })
    }

    /// Takes one coded picture; its decoded picture will have this `tag`. All frames must be taken out after each.
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
        // SAFETY: the packet is alive, and its first fields are where `Packet` has them.
        let (room, size) = unsafe { ((*packet).data, (*packet).size) };
        if room.is_null() || size != len {
            return Err(Error::Untrue(self.library.version.clone()));
        }
        // SAFETY: `new_packet` has made room for `len` bytes there, which nobody else knows yet; the context is open. The
        // library keeps a reference of its own to what it still needs.
        let code = unsafe {
            ptr::copy_nonoverlapping(data.as_ptr(), room, data.len());
            (*packet).pts = tag;
            let code = (self.library.send_packet)(self.context.as_ptr(), packet);
            (self.library.unref_packet)(packet);
            code
        };
        check("decoding", code)
    }

    /// Says that no picture follows.
    ///
    /// # Errors
    ///
    /// If it was said before.
    pub fn finish(&mut self) -> Result<()> {
        // SAFETY: the context is open, and no packet is the sign for the end.
        check("ending", unsafe { (self.library.send_packet)(self.context.as_ptr(), ptr::null()) })
    }

    /// The next picture in order of presentation, once it is certain to be the next.
    ///
    /// # Errors
    ///
    /// If the library finds it damaged, or gives it in a form that is not known here.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        // SAFETY: the context is open and the frame ours; what it held before is let go by the library.
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
        // SAFETY: takes a number, returns a string that is never freed, or null.
        let name = unsafe { (self.library.format_name)(head.format) };
        // SAFETY: a string of C that is never freed.
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
        // SAFETY: the three objects are ours, alive, and used by nobody after this. The frame goes first: it may refer to
        // memory that the context manages.
        unsafe {
            (self.library.free_frame)(&raw mut frame);
            (self.library.free_packet)(&raw mut packet);
            (self.library.free_context)(&raw mut context);
        }
    }
}

/// A decoded picture, until the decoder is used again.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Pixels of a row, cropped as the stream says.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits per sample. Above 8, samples are two bytes, the lower first.
    pub depth: u32,
    /// log2 of luma samples per chroma sample: [horizontally, vertically].
    pub subsampling: [u32; 2],
    /// Luma and both chroma planes (green, blue and red where the stream is in RGB); luma alone for grey pictures.
    pub planes: Vec<Plane<'a>>,
    /// The tag of the coded picture.
    pub tag: i64,
}

/// One plane of a picture: `rows` rows, `stride` bytes apart, each with `row_bytes` bytes that hold samples.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    data: *const u8,
    stride: usize,
    row_bytes: usize,
    rows: usize,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Plane<'a> {
    /// The rows, each without what lies between it and the next.
    pub fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: the library has filled these bytes in, and they stay as they are until the next call of the decoder, which
        // the borrow that `'a` stands for puts off. What lies between rows is not touched: it may never have been written.
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
    /// By the library's name: `yuv` and how chroma is subsampled, `j` for the full range, `p` for planes, and the depth in
    /// bits if it is not 8, `le` for the lower byte first.
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
    fn formats_are_told_by_their_names() {
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
