//! Watches a reader for panics that are caught elsewhere, and for hangs.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Limit of processor time for a file of a few KiB, in ticks of 1/100 s (processor time, because other work may run on the
/// machine). A large picture that takes 2 seconds on a fast processor takes 6 on a slow, shared one; an endless reader exceeds any
/// limit.
const TICKS: u64 = 2000;
/// A reader that only waits is detected after this many checks in which it used almost no processor time.
const LOOKS: u64 = 300;
const IDLE_TICKS: u64 = 5;
const LOOK: Duration = Duration::from_millis(200);

/// The first panic in this repository's code since [`begin`].
static PANIC: Mutex<Option<String>> = Mutex::new(None);
/// The number of started and finished inputs: odd while one is being read.
static READING: AtomicU64 = AtomicU64::new(0);

/// Records panics in this repository's code, even if they are caught. Decoders of other projects may panic where the program
/// catches it; a panic that is not caught ends the child and is noticed by that.
pub(crate) fn panics() {
    // The first decoding wraps the panic hook of the process. After that, this hook sees every panic first.
    let _ = latte_video::read_image(std::env::current_exe().unwrap_or_default());
    let others = take_hook();
    set_hook(Box::new(move |info| {
        if let (Some(place), Ok(mut first)) = (place_in_ours(info), PANIC.lock()) {
            first.get_or_insert(format!("panicked: {info} [{place}]").replace('\n', " "));
        }
        others(info);
    }));
}

/// The location of a panic, if it is in a crate of this repository.
fn place_in_ours(info: &PanicHookInfo<'_>) -> Option<String> {
    let place = info.location()?;
    let file = place.file();
    if file.starts_with("crates/") || file.starts_with("fuzz/") {
        return Some(place.to_string());
    }
    if file.contains("/registry/") || file.contains("/git/checkouts/") {
        return None;
    }
    // The panic is in the standard library: find the caller.
    let trace = Backtrace::force_capture().to_string();
    let functions = trace.lines().filter_map(|line| line.split_once(": ").filter(|(n, _)| n.trim().parse::<u32>().is_ok()));
    let caller = functions.map(|(_, function)| function.trim_start_matches('<')).find(|function| {
        const LIBRARY: [&str; 8] =
            ["std::", "core::", "alloc::", "rust_begin_unwind", "__rust", "latte_fuzz::watch", "latte_fuzz::child", "_R"];
        !LIBRARY.iter().any(|library| function.starts_with(library))
    })?;
    caller.starts_with("latte").then(|| caller.to_string())
}

/// Marks the start of an input.
pub(crate) fn begin() {
    READING.fetch_add(1, Ordering::SeqCst);
}

/// Marks the end of an input.
pub(crate) fn end() -> Result<(), String> {
    READING.fetch_add(1, Ordering::SeqCst);
    let panic = PANIC.lock().ok().and_then(|mut panic| panic.take());
    panic.map_or(Ok(()), Err)
}

/// Ends the process if one input takes too long.
pub(crate) fn time() {
    std::thread::spawn(|| {
        let (mut input, mut begin, mut window, mut looks) = (0, 0, 0, 0);
        loop {
            std::thread::sleep(LOOK);
            let now = READING.load(Ordering::SeqCst);
            let ticks = processor_ticks();
            if now != input || now.is_multiple_of(2) {
                (input, begin, window, looks) = (now, ticks, ticks, 0);
                continue;
            }
            looks += 1;
            let waits = looks == LOOKS && ticks - window < IDLE_TICKS;
            if ticks - begin > TICKS || waits {
                give_up();
            }
            if looks == LOOKS {
                (window, looks) = (ticks, 0);
            }
        }
    });
}

#[expect(clippy::print_stdout, clippy::exit, reason = "the reading thread does not end, so this thread must report it and stop")]
fn give_up() {
    println!("an input took more than 20 seconds of processor time, or waits endlessly");
    // The parent handles a closed pipe.
    let _ = std::io::stdout().flush();
    std::process::exit(1);
}

/// Processor time of all threads of this process in ticks; 0 if the system does not report it.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may contain any characters.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
