//! Finds libavcodec and its functions.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// `AVCodec`, `AVCodecContext`: only the library looks inside.
#[repr(C)]
pub(crate) struct Opaque {
    _private: [u8; 0],
}

/// How an `AVPacket` begins.
#[repr(C)]
pub(crate) struct Packet {
    buffer: *mut c_void,
    pub(crate) pts: i64,
    dts: i64,
    pub(crate) data: *mut u8,
    pub(crate) size: c_int,
}

/// How an `AVFrame` begins.
#[repr(C)]
pub(crate) struct FrameHead {
    pub(crate) data: [*mut u8; 8],
    pub(crate) linesize: [c_int; 8],
    extended_data: *mut *mut u8,
    pub(crate) width: c_int,
    pub(crate) height: c_int,
    num_samples: c_int,
    pub(crate) format: c_int,
    /// Kind of picture and shape of pixels. Until FFmpeg 7 there was a fourth number, where now there is a gap.
    unused: [c_int; 4],
    pub(crate) pts: i64,
}

/// What an `AVERROR_EOF` is.
pub(crate) const END: c_int = -0x2046_4F45;

/// The versions whose structures are known to begin as above: FFmpeg 5 to 9. A library whose number is not here is not used.
const MAJORS: std::ops::RangeInclusive<u32> = 59..=63;

/// The functions of the library.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) version: unsafe extern "C" fn() -> c_uint,
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
    set_log_level: unsafe extern "C" fn(c_int),
}

/// The library, if one is found: loaded once, and never unloaded.
pub(crate) fn library() -> Option<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref()
}

/// The library's version as it counts itself, `59.37.100` for FFmpeg 5.1; `None` if none is found.
pub fn version() -> Option<String> {
    // SAFETY: takes nothing, returns a number.
    let version = unsafe { (library()?.version)() };
    Some(format!("{}.{}.{}", version >> 16, version >> 8 & 0xFF, version & 0xFF))
}

#[cfg(not(unix))]
fn load() -> Option<Library> {
    None
}

#[cfg(unix)]
fn load() -> Option<Library> {
    let candidates = match std::env::var("LATTE_LIBAVCODEC") {
        // Set to nothing that can be loaded, it switches the library off.
        Ok(set) if !set.is_empty() => vec![set],
        _ => MAJORS.rev().flat_map(|n| [format!("libavcodec.so.{n}"), format!("libavcodec.{n}.dylib")]).collect(),
    };
    let library = candidates.into_iter().find_map(|name| {
        let name = std::ffi::CString::new(name).ok()?;
        // SAFETY: the name is a string. Loading runs the initialisers of the library, which is the system's own, or the one
        // that the user names.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        // SAFETY: the handle is one that `dlopen` gave, and is never closed.
        (!handle.is_null()).then(|| unsafe { Library::from_handle(handle) }).flatten()
    })?;
    // SAFETY: takes nothing, returns a number.
    let major = unsafe { (library.version)() } >> 16;
    if !MAJORS.contains(&major) {
        return None;
    }
    const QUIET: c_int = -8;
    // SAFETY: sets a number. Errors are told by what functions return, and not on the terminal.
    unsafe { (library.set_log_level)(QUIET) };
    Some(library)
}

#[cfg(unix)]
impl Library {
    /// Looks up all functions; those of libavutil are found through libavcodec, which needs it.
    ///
    /// # Safety
    ///
    /// `handle` is an open handle of `dlopen` that stays open.
    unsafe fn from_handle(handle: *mut c_void) -> Option<Self> {
        macro_rules! function {
            ($name:literal) => {{
                // SAFETY: the handle is open, by the contract of this function, and the name ends in 0.
                let address = unsafe { libc::dlsym(handle, concat!($name, "\0").as_ptr().cast()) };
                if address.is_null() {
                    return None;
                }
                // SAFETY: the function of this name has this signature in all versions that are used.
                unsafe { std::mem::transmute::<*mut c_void, _>(address) }
            }};
        }
        Some(Self {
            version: function!("avcodec_version"),
            find_decoder: function!("avcodec_find_decoder_by_name"),
            alloc_context: function!("avcodec_alloc_context3"),
            free_context: function!("avcodec_free_context"),
            open: function!("avcodec_open2"),
            send_packet: function!("avcodec_send_packet"),
            receive_frame: function!("avcodec_receive_frame"),
            alloc_packet: function!("av_packet_alloc"),
            new_packet: function!("av_new_packet"),
            unref_packet: function!("av_packet_unref"),
            free_packet: function!("av_packet_free"),
            alloc_frame: function!("av_frame_alloc"),
            free_frame: function!("av_frame_free"),
            set_option: function!("av_opt_set"),
            format_name: function!("av_get_pix_fmt_name"),
            set_log_level: function!("av_log_set_level"),
        })
    }
}
