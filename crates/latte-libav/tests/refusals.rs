//! Provokes every error of this crate through its public functions and matches variant and fields.
//!
//! `latte-video` converts each into `Unsupported` or `Damaged`, with exit code 2. The library is loaded once per process, so every
//! test runs itself again in a new process with another library, which the C compiler builds here.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::Command;

use latte_libav::{Codec, Decoder, Error, version};

/// The test that provokes the variant. This match fails to compile for a new variant until it has a test.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::NotFound(_) => "a_library_that_is_not_there",
        Error::NoFunction(_) => "a_library_of_something_else",
        Error::Version { .. } => "a_library_of_another_release",
        Error::Untrue(_) => "a_library_that_decodes_nothing",
        Error::NoDecoder(_) => "a_library_without_decoders",
        Error::Refused { .. } => "a_picture_that_is_none",
        Error::Format { .. } => "a_picture_of_an_unknown_format",
    }
}

/// A library with empty versions of all functions that the crate uses.
const STUB: &str = "
    static char it[4096];
    unsigned avcodec_version(void) { return CODEC << 16 | 1; }
    unsigned avutil_version(void) { return UTIL << 16 | 2; }
    void av_log_set_level(int level) {}
    const void *avcodec_find_decoder_by_name(const char *name) { return DECODER; }
    void *avcodec_alloc_context3(const void *codec) { return it; }
    void avcodec_free_context(void **context) {}
    int avcodec_open2(void *context, const void *codec, void **options) { return 0; }
    int avcodec_send_packet(void *context, const void *packet) { return 0; }
    int avcodec_receive_frame(void *context, void *frame) { return -0x20464F45; }
    void *av_packet_alloc(void) { return it; }
    int av_new_packet(void *packet, int size) { *(void **)((char *)packet + 24) = it; *(int *)((char *)packet + 32) = size; return 0; }
    void av_packet_unref(void *packet) {}
    void av_packet_free(void **packet) {}
    void *av_frame_alloc(void) { return it; }
    void av_frame_free(void **frame) {}
    int av_opt_set(void *of, const char *name, const char *value, int flags) { return 0; }
    const char *av_get_pix_fmt_name(int format) { return 0; }
";

/// Makes the system's library report the pixel format `plaid` while a file `plaid` exists in the current folder.
const RENAMED: &str = "
    int access(const char *path, int mode);
    const char *av_get_pix_fmt_name(int format) { return access(\"plaid\", 0) ? \"yuv420p\" : \"plaid\"; }
";

/// Compiles a library; returns whether that succeeded.
fn compile(folder: &Path, source: &str, options: &[&str]) -> bool {
    let code = folder.join("library.c");
    std::fs::write(&code, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-w", "-o"]).arg(folder.join("library.so")).arg(code).args(options);
    cc.output().unwrap().status.success()
}

/// Runs `check` with the library at `library`, in a new process with only the test `name`.
fn with_library(name: &str, library: &Path, check: fn()) {
    const INSIDE: &str = "LATTE_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return check();
    }
    let mut itself = Command::new(std::env::current_exe().unwrap());
    // The temporary folder of the test, so that its files are removed with it.
    let folder = library.parent().filter(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    itself.args(["--exact", name]).current_dir(folder).env(INSIDE, "1").env("LATTE_LIBAVCODEC", library);
    let output = itself.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `check` with a stub compiled with these definitions.
fn with_stub(name: &str, definitions: &[&str], check: fn()) {
    let dir = tempfile::tempdir().unwrap();
    assert!(compile(dir.path(), STUB, definitions));
    with_library(name, &dir.path().join("library.so"), check);
}

/// Runs `check` with the system's library, some of whose functions `source` replaces.
fn with_changed(name: &str, source: &str, check: fn()) {
    let dir = tempfile::tempdir().unwrap();
    let links = |major: &u32| compile(dir.path(), source, &["-Wl,--no-as-needed", &format!("-l:libavcodec.so.{major}")]);
    if [62, 61, 60, 59].iter().any(links) {
        with_library(name, &dir.path().join("library.so"), check);
    } else {
        needs::not_run("libavcodec", "what it refuses");
    }
}

/// The error that says why no library is used.
fn refused() -> Error {
    let error = version().unwrap_err();
    assert_eq!(Decoder::new(Codec::H264, 1 << 20).unwrap_err(), error);
    error
}

#[test]
fn a_library_that_is_not_there() {
    with_library("a_library_that_is_not_there", Path::new("/none/libavcodec.so"), || {
        let error = refused();
        assert_eq!(provoked_by(&error), "a_library_that_is_not_there");
        assert!(matches!(&error, Error::NotFound(why) if why.contains("/none/libavcodec.so")), "{error:?}");
    });
}

#[test]
fn a_library_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    assert!(compile(dir.path(), "int nothing;", &[]));
    with_library("a_library_of_something_else", &dir.path().join("library.so"), || {
        let error = refused();
        assert_eq!(provoked_by(&error), "a_library_of_something_else");
        assert!(matches!(error, Error::NoFunction("avcodec_version")), "{error:?}");
    });
}

#[test]
fn a_library_of_another_release() {
    with_stub("a_library_of_another_release", &["-DCODEC=64", "-DUTIL=62", "-DDECODER=it"], || {
        let error = refused();
        assert_eq!(provoked_by(&error), "a_library_of_another_release");
        assert!(matches!(&error, Error::Version { codec, util } if codec == "64.0.1" && util == "62.0.2"), "{error:?}");
    });
}

#[test]
fn a_library_that_decodes_nothing() {
    with_stub("a_library_that_decodes_nothing", &["-DCODEC=59", "-DUTIL=57", "-DDECODER=it"], || {
        let error = refused();
        assert_eq!(provoked_by(&error), "a_library_that_decodes_nothing");
        assert!(matches!(&error, Error::Untrue(version) if version == "59.0.1"), "{error:?}");
    });
}

#[test]
fn a_library_without_decoders() {
    with_stub("a_library_without_decoders", &["-DCODEC=59", "-DUTIL=57", "-DDECODER=0"], || {
        let error = refused();
        assert_eq!(provoked_by(&error), "a_library_without_decoders");
        assert!(matches!(error, Error::NoDecoder("h264")), "{error:?}");
    });
}

#[test]
fn a_picture_that_is_none() {
    with_changed("a_picture_that_is_none", "int nothing;", || {
        let mut decoder = Decoder::new(Codec::H264, 1 << 20).unwrap();
        decoder.finish().unwrap();
        let error = decoder.push(&[0, 0, 1, 0x65, 0, 0, 0, 0], 0).unwrap_err();
        assert_eq!(provoked_by(&error), "a_picture_that_is_none");
        assert!(matches!(error, Error::Refused { what: "decoding", code } if code < 0), "{error:?}");
        assert!(!error.is_unsupported());
    });
}

#[test]
fn a_picture_of_an_unknown_format() {
    with_changed("a_picture_of_an_unknown_format", RENAMED, || {
        let mut decoder = Decoder::new(Codec::H264, 1 << 20).unwrap();
        std::fs::write("plaid", "").unwrap();
        decoder.push(include_bytes!("../src/check.h264"), 0).unwrap();
        decoder.finish().unwrap();
        let error = decoder.next_frame().unwrap_err();
        assert_eq!(provoked_by(&error), "a_picture_of_an_unknown_format");
        let fits = |format: &str, size| format == "plaid" && size == (40, 24);
        assert!(matches!(&error, Error::Format { format, width, height } if fits(format, (*width, *height))), "{error:?}");
        assert!(error.is_unsupported());
    });
}
