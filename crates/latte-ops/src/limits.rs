//! What this machine can do at most, measured: the figures that operations are compared with.

use std::time::Instant;

use rayon::prelude::*;

use crate::backend::cpu::vectorised::vectorised;

vectorised! {
    /// Products and sums in registers alone: `rounds` times 12 vectors of 16 values.
    fn fused_products(rounds: usize, factor: f32) -> f32 {
        #[inline(always)]
        fn product_sum(a: f32, b: f32, c: f32) -> f32 {
            // Where a fused product is no instruction, it is not what kernels use either.
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

/// How many f32 operations (a product and a sum are two) all threads together do in a second, in registers.
pub fn flops() -> f64 {
    const ROUNDS: usize = 2_000_000;
    let threads = rayon::current_num_threads();
    let start = Instant::now();
    let sum: f32 =
        (0..threads).into_par_iter().with_max_len(1).map(|_| fused_products(ROUNDS, std::hint::black_box(0.999))).sum();
    std::hint::black_box(sum);
    (threads * ROUNDS * 12 * 8 * 2) as f64 / start.elapsed().as_secs_f64()
}

/// How many bytes all threads together read and write in a second, from memory to memory.
pub fn bytes_per_second() -> f64 {
    const LEN: usize = 16 << 20; // values: 64 MiB, more than any cache of a laptop
    let from = vec![1f32; LEN];
    let mut to = vec![0f32; LEN];
    let piece = LEN / rayon::current_num_threads();
    let mut copy = || to.par_chunks_mut(piece).zip(from.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
    copy(); // The first pass makes the pages.
    let start = Instant::now();
    copy();
    (2 * LEN * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
}
