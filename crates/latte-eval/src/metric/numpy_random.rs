//! numpy's `RandomState`: other programs shuffle and choose with it, and their scores depend on its numbers.

const STATE: usize = 624;
const SHIFT: usize = 397;

/// The generator of `numpy.random.RandomState(seed)` (MT19937).
///
/// `latte_model::noise` has the same generator with PyTorch's state around it. This crate must not depend on a model, and thirty
/// lines that are fixed by a paper of 1998 do not justify another crate below both.
#[derive(Debug, Clone)]
pub struct NumpyRandom {
    state: Vec<u32>,
    at: usize,
}

impl NumpyRandom {
    /// The generator of `RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut state = vec![seed];
        for i in 1..STATE as u32 {
            let last = state[i as usize - 1];
            state.push(1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i));
        }
        Self { state, at: STATE }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == STATE {
            for i in 0..STATE {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % STATE] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number from 0 to `most`, inclusive, by the method of numpy's shuffles.
    pub fn interval(&mut self, most: usize) -> usize {
        let most = most.min(u32::MAX as usize) as u32;
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= most {
                return value as usize;
            }
        }
    }

    /// `RandomState.permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.interval(i));
        }
        order
    }

    /// `RandomState.choice(n, size, replace=False)`.
    pub fn choice(&mut self, n: usize, size: usize) -> Vec<usize> {
        let mut order = self.permutation(n);
        order.truncate(size);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_numpys() {
        // numpy 2.4.6: RandomState(2020).permutation(10), then .choice(1000, 5, replace=False).
        let mut random = NumpyRandom::new(2020);
        assert_eq!(random.permutation(10), PERMUTATION);
        assert_eq!(random.choice(1000, 5), CHOICE);
        assert_eq!(NumpyRandom::new(0).interval(0), 0);
    }

    const PERMUTATION: [usize; 10] = [2, 4, 9, 1, 5, 7, 6, 3, 8, 0];
    const CHOICE: [usize; 5] = [358, 763, 430, 530, 677];
}
