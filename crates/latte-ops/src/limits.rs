//! The measured limits of this machine, which the speed of operations is compared with.

use std::time::Instant;

use rayon::prelude::*;

use crate::backend::cpu::vectorised::vectorised;

vectorised! {
    /// Fused multiply-adds in registers only: `rounds` times 12 vectors of 16 values.
    fn fused_products(rounds: usize, factor: f32) -> f32 {
        #[inline(always)]
        fn product_sum(a: f32, b: f32, c: f32) -> f32 {
            // If the processor has no fused multiply-add instruction, the kernels do not use one either.
            if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
        }
        let mut sums = [[0.5f32; 8]; 12];
        for _ in 0..rounds {
            for sums in &mut sums {
                for sum in sums {
                    *sum = product_sum(*sum, factor, 0.001);
                }
            }
        }
        sums.iter().flatten().sum()
    }
}

/// The f32 operations per second of all threads together, in registers. A product and a sum count as two.
pub fn flops() -> f64 {
    const ROUNDS: usize = 2_000_000;
    let threads = rayon::current_num_threads();
    let start = Instant::now();
    let sum: f32 =
        (0..threads).into_par_iter().with_max_len(1).map(|_| fused_products(ROUNDS, std::hint::black_box(0.999))).sum();
    std::hint::black_box(sum);
    (threads * ROUNDS * 12 * 8 * 2) as f64 / start.elapsed().as_secs_f64()
}

/// The bytes per second that all threads together read and write, from memory to memory.
pub fn bytes_per_second() -> f64 {
    const LEN: usize = 16 << 20; // values: 64 MiB, more than any cache of a laptop
    let from = vec![1f32; LEN];
    let mut to = vec![0f32; LEN];
    let piece = LEN / rayon::current_num_threads();
    let mut copy = || to.par_chunks_mut(piece).zip(from.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
    copy(); // The first pass allocates the pages.
    let start = Instant::now();
    copy();
    (2 * LEN * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
}
