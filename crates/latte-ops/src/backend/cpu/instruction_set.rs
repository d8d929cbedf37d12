//! Which vector instructions the kernels use, found at run time.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The name of the environment variable that limits the instruction set, for tests and comparisons.
pub const VARIABLE: &str = "LATTE_INSTRUCTION_SET";

/// The families of vector instructions that the CPU kernels know, each a superset of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum InstructionSet {
    /// The instructions that every processor of the architecture has.
    Portable,
    /// AVX2 and FMA: 8 values of f32.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): 16 values of f32.
    Avx512,
    /// AVX-512 with products of pairs of bfloat16 (AVX-512-BF16).
    Avx512Bf16,
}

impl InstructionSet {
    /// All instruction sets, the smallest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The largest instruction set that this processor has.
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 && is_x86_feature_detected!("avx512bf16") {
                return Self::Avx512Bf16;
            }
            if avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// The instruction set in use: [`InstructionSet::detected`], or a smaller one that the environment variable [`VARIABLE`] or
    /// [`InstructionSet::limit`] selects.
    pub fn current() -> Self {
        let limit = LIMIT.load(Ordering::Relaxed);
        match Self::ALL.get(usize::from(limit)) {
            Some(&limit) => limit,
            None => default(),
        }
    }

    /// Limits all threads to `limit` from now on, or to a smaller set if this processor has only that; `None` removes the limit.
    pub fn limit(limit: Option<Self>) {
        LIMIT.store(limit.map_or(u8::MAX, |limit| limit.min(Self::detected()) as u8), Ordering::Relaxed);
    }

    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for InstructionSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == text)
            .ok_or_else(|| format!("expected one of {}, got \"{text}\"", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The limit that [`InstructionSet::limit`] set; `u8::MAX` if there is none.
static LIMIT: AtomicU8 = AtomicU8::new(u8::MAX);

/// The instruction set of the processor, limited by the environment. An unknown name limits nothing here: the program reports it at
/// its start.
fn default() -> InstructionSet {
    static DEFAULT: OnceLock<InstructionSet> = OnceLock::new();
    *DEFAULT.get_or_init(|| {
        let wanted = std::env::var(VARIABLE).ok().and_then(|name| name.parse().ok());
        let detected = InstructionSet::detected();
        wanted.map_or(detected, |wanted: InstructionSet| wanted.min(detected))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Runs `f` while no other test changes the instruction set: for tests that compare results bit for bit.
    pub(crate) fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        f()
    }

    /// Runs `f` once with each instruction set that this processor has, one test at a time, and reports the sets that it lacks.
    pub(crate) fn with_each<R>(mut f: impl FnMut(InstructionSet) -> R) -> Vec<R> {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (has, has_not): (Vec<_>, Vec<_>) =
            InstructionSet::ALL.into_iter().partition(|&set| set <= InstructionSet::detected());
        for set in has_not {
            needs::not_run(&set.to_string(), "kernels for it are not run");
        }
        has.into_iter()
            .map(|set| {
                InstructionSet::limit(Some(set));
                let result = f(set);
                InstructionSet::limit(None);
                result
            })
            .collect()
    }

    #[test]
    fn names_and_order() {
        for set in InstructionSet::ALL {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert!("sse9".parse::<InstructionSet>().is_err_and(|e| e.contains("avx512-bf16") && e.contains("sse9")));
        assert!(InstructionSet::Portable < InstructionSet::Avx2 && InstructionSet::Avx512 < InstructionSet::Avx512Bf16);
    }

    #[test]
    fn a_limit_is_kept_to() {
        let seen = with_each(|set| (set, InstructionSet::current()));
        assert!(!seen.is_empty() && seen.iter().all(|(set, current)| set == current), "{seen:?}");
    }
}
