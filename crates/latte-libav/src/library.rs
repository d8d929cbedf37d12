//! Loads libavcodec and its functions.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// `AVCodec`, `AVCodecContext`: only the library accesses their fields.
#[repr(C)]
pub(crate) struct Opaque {
    _private: [u8; 0],
}

/// The first fields of an `AVPacket`. The library allocates and frees it, so the rest does not matter.
#[repr(C)]
pub(crate) struct Packet {
    buffer: *mut c_void,
    pub(crate) pts: i64,
    dts: i64,
    pub(crate) data: *mut u8,
    pub(crate) size: c_int,
}

/// The first fields of an `AVFrame`. The library allocates and frees it, so the rest does not matter.
#[repr(C)]
pub(crate) struct FrameHead {
    pub(crate) data: [*mut u8; 8],
    pub(crate) linesize: [c_int; 8],
    extended_data: *mut *mut u8,
    pub(crate) width: c_int,
    pub(crate) height: c_int,
    num_samples: c_int,
    pub(crate) format: c_int,
    /// Picture type and pixel aspect ratio: three numbers and a gap, which held a fourth number until FFmpeg 7.
    unused: MaybeUninit<[c_int; 4]>,
    pub(crate) pts: i64,
}

/// The value of `AVERROR_EOF`: the letters "EOF " as a number, negative.
pub(crate) const END: c_int = -0x2046_4F45;

/// The functions of the library.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) version: String,
    pub(crate) find_decoder: unsafe extern "C" fn(*const c_char) -> *const Opaque,
    pub(crate) alloc_context: unsafe extern "C" fn(*const Opaque) -> *mut Opaque,
    pub(crate) free_context: unsafe extern "C" fn(*mut *mut Opaque),
    pub(crate) open: unsafe extern "C" fn(*mut Opaque, *const Opaque, *mut *mut c_void) -> c_int,
    pub(crate) send_packet: unsafe extern "C" fn(*mut Opaque, *const Packet) -> c_int,
    pub(crate) receive_frame: unsafe extern "C" fn(*mut Opaque, *mut FrameHead) -> c_int,
    pub(crate) alloc_packet: unsafe extern "C" fn() -> *mut Packet,
    pub(crate) new_packet: unsafe extern "C" fn(*mut Packet, c_int) -> c_int,
    pub(crate) unref_packet: unsafe extern "C" fn(*mut Packet),
    pub(crate) free_packet: unsafe extern "C" fn(*mut *mut Packet),
    pub(crate) alloc_frame: unsafe extern "C" fn() -> *mut FrameHead,
    pub(crate) free_frame: unsafe extern "C" fn(*mut *mut FrameHead),
    pub(crate) set_option: unsafe extern "C" fn(*mut Opaque, *const c_char, *const c_char, c_int) -> c_int,
    pub(crate) format_name: unsafe extern "C" fn(c_int) -> *const c_char,
}

/// The library, if one of a known version exists: loaded once, and never unloaded.
pub(crate) fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Result<Library>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().map_err(Clone::clone)
}

#[cfg(not(all(unix, target_pointer_width = "64")))]
fn load() -> Result<Library> {
    Err(Error::NotFound("it is looked for on 64-bit Unix only".into()))
}

#[cfg(all(unix, target_pointer_width = "64"))]
fn load() -> Result<Library> {
    let name = |major: u32| {
        if cfg!(target_os = "macos") { format!("libavcodec.{major}.dylib") } else { format!("libavcodec.so.{major}") }
    };
    let candidates = match std::env::var("LATTE_LIBAVCODEC") {
        // Any value that cannot be loaded disables the library.
        Ok(set) if !set.is_empty() => vec![set],
        _ => crate::releases::RELEASES.map(|(_, codec, _)| name(codec)).to_vec(),
    };
    let mut why = None;
    for name in &candidates {
        let Ok(name) = std::ffi::CString::new(name.as_str()) else { continue };
        // SAFETY: the name is a C string. Loading runs the initialisers of the library, which is the system's own or the one that
        // the user names.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if !handle.is_null() {
            // SAFETY: the handle is one that `dlopen` gave, and is never closed.
            return unsafe { Library::from_handle(handle) };
        }
        // SAFETY: null, or a C string that is valid until this thread's next call; it is copied at once.
        why = unsafe { libc::dlerror().as_ref().map(|text| std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()) };
    }
    let why = why.filter(|_| candidates.len() == 1);
    Err(Error::NotFound(why.unwrap_or_else(|| format!("{} cannot be loaded", candidates.join(", ")))))
}

#[cfg(all(unix, target_pointer_width = "64"))]
impl Library {
    /// Looks up all functions, if the version is known; those of libavutil are found through libavcodec, which depends on it.
    ///
    /// # Safety
    ///
    /// `handle` must be an open handle of `dlopen` that stays open.
    unsafe fn from_handle(handle: *mut c_void) -> Result<Self> {
        macro_rules! function {
            ($name:literal: $signature:ty) => {{
                // SAFETY: the handle is open, as the contract of this function requires, and the name ends in 0.
                let address = unsafe { libc::dlsym(handle, concat!($name, "\0").as_ptr().cast()) };
                if address.is_null() {
                    return Err(Error::NoFunction($name));
                }
                // SAFETY: the function of this name has this signature in all versions that are used; the two version functions
                // have it in all versions that exist.
                unsafe { std::mem::transmute::<*mut c_void, $signature>(address) }
            }};
        }
        let codec_version = function!("avcodec_version": unsafe extern "C" fn() -> c_uint);
        let util_version = function!("avutil_version": unsafe extern "C" fn() -> c_uint);
        // SAFETY: both functions take no argument and return a number.
        let (codec, util) = unsafe { (codec_version(), util_version()) };
        let spell = |version: c_uint| format!("{}.{}.{}", version >> 16, version >> 8 & 0xFF, version & 0xFF);
        if !crate::releases::is_known(codec, util) {
            return Err(Error::Version { codec: spell(codec), util: spell(util) });
        }
        const QUIET: c_int = -8;
        let set_log_level = function!("av_log_set_level": unsafe extern "C" fn(c_int));
        // SAFETY: sets a number. Errors are reported by return values, not printed to the terminal.
        unsafe { set_log_level(QUIET) };
        Ok(Self {
            version: spell(codec),
            find_decoder: function!("avcodec_find_decoder_by_name": unsafe extern "C" fn(*const c_char) -> *const Opaque),
            alloc_context: function!("avcodec_alloc_context3": unsafe extern "C" fn(*const Opaque) -> *mut Opaque),
            free_context: function!("avcodec_free_context": unsafe extern "C" fn(*mut *mut Opaque)),
            open: function!("avcodec_open2": unsafe extern "C" fn(*mut Opaque, *const Opaque, *mut *mut c_void) -> c_int),
            send_packet: function!("avcodec_send_packet": unsafe extern "C" fn(*mut Opaque, *const Packet) -> c_int),
            receive_frame: function!("avcodec_receive_frame": unsafe extern "C" fn(*mut Opaque, *mut FrameHead) -> c_int),
            alloc_packet: function!("av_packet_alloc": unsafe extern "C" fn() -> *mut Packet),
            new_packet: function!("av_new_packet": unsafe extern "C" fn(*mut Packet, c_int) -> c_int),
            unref_packet: function!("av_packet_unref": unsafe extern "C" fn(*mut Packet)),
            free_packet: function!("av_packet_free": unsafe extern "C" fn(*mut *mut Packet)),
            alloc_frame: function!("av_frame_alloc": unsafe extern "C" fn() -> *mut FrameHead),
            free_frame: function!("av_frame_free": unsafe extern "C" fn(*mut *mut FrameHead)),
            set_option: function!("av_opt_set": unsafe extern "C" fn(*mut Opaque, *const c_char, *const c_char, c_int) -> c_int),
            format_name: function!("av_get_pix_fmt_name": unsafe extern "C" fn(c_int) -> *const c_char),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written from the library's documented structures, not from the code above.
    #[test]
    #[cfg(all(unix, target_pointer_width = "64"))]
    fn field_offsets_are_those_of_the_library() {
        use std::mem::offset_of;
        assert_eq!([offset_of!(Packet, pts), offset_of!(Packet, data), offset_of!(Packet, size)], [8, 24, 32]);
        assert_eq!(
            [offset_of!(FrameHead, linesize), offset_of!(FrameHead, width), offset_of!(FrameHead, height)],
            [64, 104, 108]
        );
        assert_eq!([offset_of!(FrameHead, format), offset_of!(FrameHead, pts)], [116, 136]);
    }
}
