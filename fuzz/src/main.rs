//! Feeds damaged files to readers until the time is up, or one of them panics.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use latte::text::Tokenizer;
use latte::weights::{Pretrained, TensorSource, WeightFiles};

/// A reader, how it wants its file to be called, and the folder and ending of those that it starts from.
struct Target {
    name: &'static str,
    file: &'static str,
    read: fn(&Path),
    corpus: &'static [(&'static str, &'static str)],
}

const TARGETS: &[Target] = &[
    Target { name: "pickle", file: "weights.pt", read: weights, corpus: &[("testdata/weights", "pt")] },
    Target {
        name: "safetensors_header",
        file: "weights.safetensors",
        read: weights,
        corpus: &[("testdata/golden", "safetensors"), ("fuzz/corpus/safetensors_header", "safetensors")],
    },
    Target { name: "spiece", file: "spiece.model", read: spiece, corpus: &[("fuzz/corpus/spiece", "model")] },
];

/// Longer files only make a run slower.
const MOST_BYTES: u64 = 64 << 10;
/// No file of this size may keep a reader busy for longer.
const SLOW: Duration = Duration::from_secs(5);

/// Opens the file and reads every tensor.
fn weights(path: &Path) {
    if let Ok(files) = WeightFiles::open(path) {
        for name in files.names() {
            let _ = files.raw(&name);
            // A tensor of zeros may be large; a few bytes may not ask for much.
            if files.num_values(&name).is_some_and(|n| n < 1 << 22) {
                let _ = files.tensor(&name);
            }
        }
        if let Ok(found) = Pretrained::new(files) {
            let _ = (found.kind(), found.dtypes());
        }
    }
}

/// Opens the tokenizer and makes ids of texts: ASCII, accents apart and joined, other scripts, what no piece matches.
fn spiece(path: &Path) {
    let Some(Ok(tokenizer)) = path.parent().map(Tokenizer::from_spiece) else { return };
    for text in
        ["", "a cat", "aaa  <sep>b</s> <extra_id_0>", "e\u{301}\u{e9} \u{fb01}\u{2126} \u{732b} \u{1f408}\u{200d}\u{2b1b}"]
    {
        let _ = tokenizer.encode(text, 120);
    }
    let _ = tokenizer.ids(&"ab\u{e9} ".repeat(500));
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(target) = args.first().and_then(|name| TARGETS.iter().find(|t| t.name == *name)) else {
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        println!("expected a target ({}), then seconds (60) and a seed (0), or a file to read once", names.join(", "));
        return ExitCode::from(2);
    };
    let number = |n: usize, default: u64| args.get(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let told = match args.get(1).filter(|arg| Path::new(arg).is_file()) {
        Some(file) => once(target, Path::new(file)).map(|()| "nothing panicked or was slow".to_string()),
        None => fuzz(target, Duration::from_secs(number(1, 60)), number(2, 0))
            .map(|runs| format!("{runs} inputs, none panicked or was slow")),
    };
    match told {
        Ok(what) => {
            println!("{}: {what}", target.name);
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{}: {what}", target.name);
            ExitCode::FAILURE
        }
    }
}

/// Reads one file, as it was found by a run before.
fn once(target: &'static Target, file: &Path) -> Result<(), String> {
    Place::new(target)?.read(&std::fs::read(file).map_err(|e| e.to_string())?)
}

fn fuzz(target: &'static Target, time: Duration, seed: u64) -> Result<u64, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut corpus = Vec::new();
    for (folder, ending) in target.corpus {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == *ending)) {
            if file.metadata().is_ok_and(|m| m.len() < MOST_BYTES) {
                corpus.push(std::fs::read(file).map_err(|e| e.to_string())?);
            }
        }
    }
    if corpus.is_empty() {
        return Err("there is nothing to start from".into());
    }
    let place = Place::new(target)?;
    let mut chance = Chance(seed);
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < time {
        let input = damaged(&corpus, &mut chance);
        if let Err(what) = place.read(&input) {
            let artifacts = root.join("fuzz/artifacts");
            let kept = artifacts.join(format!("{}-{seed}-{runs}", target.name));
            std::fs::create_dir_all(&artifacts).and_then(|()| std::fs::write(&kept, &input)).map_err(|e| e.to_string())?;
            return Err(format!("input {runs} {what}: {}", kept.display()));
        }
        runs += 1;
    }
    Ok(runs)
}

/// A folder for one input at a time, under the name that the reader wants.
struct Place {
    target: &'static Target,
    folder: PathBuf,
}

impl Place {
    fn new(target: &'static Target) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("latte-fuzz-{}-{}", target.name, std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        Ok(Self { target, folder })
    }

    /// Whether the reader takes the input in its stride.
    fn read(&self, input: &[u8]) -> Result<(), String> {
        let path = self.folder.join(self.target.file);
        std::fs::write(&path, input).map_err(|e| e.to_string())?;
        let (began, read) = (Instant::now(), self.target.read);
        catch_unwind(|| read(&path)).map_err(|_panic| "panicked")?;
        if began.elapsed() > SLOW { Err("is slow".into()) } else { Ok(()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays behind would only take space.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A file of the corpus with a few changes: bits, bytes, numbers, pieces cut out, doubled, or taken from another file.
fn damaged(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = corpus[chance.below(corpus.len())].clone();
    for _ in 0..=chance.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = chance.below(bytes.len());
        let len = 1 + chance.below(16.min(bytes.len() - at));
        match chance.below(8) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.below(256) as u8,
            2 => {
                const EXTREMES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
                let number = EXTREMES[chance.below(EXTREMES.len())].to_le_bytes();
                for (byte, new) in bytes[at..].iter_mut().zip(number).take([1, 2, 4, 8][chance.below(4)]) {
                    *byte = new;
                }
            }
            3 => {
                bytes.drain(at..at + len);
            }
            4 => {
                let piece = bytes[at..at + len].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[chance.below(corpus.len())];
                let from = chance.below(other.len());
                let piece = &other[from..other.len().min(from + 1 + chance.below(64))];
                bytes.splice(at..at + len.min(piece.len()), piece.iter().copied());
            }
            6 => bytes.truncate(at),
            _ => {
                // A digit of a JSON header, a letter of a pickle.
                if bytes[at].is_ascii_digit() {
                    bytes[at] = b'0' + chance.below(10) as u8;
                } else {
                    bytes[at] = b"()[]{}.0aetsuRbQcqrhjXBKMJ\x80\x81\x85\x86\x87\x88\x8a\x8c\x93\x94"[chance.below(33)];
                }
            }
        }
    }
    bytes
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
