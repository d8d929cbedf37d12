//! Work that is killed at random moments until it is done.

use std::process::Child;
use std::time::{Duration, Instant};

use latte_model::noise::TorchRng;

/// Starts child processes until one ends by itself, which must succeed. The others are killed with `kill -9` at a random moment
/// within the time `whole` of an undisturbed run; after each kill, `killed` checks the state.
pub(crate) fn until_done(whole: Duration, rng: &mut TorchRng, mut start: impl FnMut() -> Child, mut killed: impl FnMut()) {
    loop {
        let (mut child, until) = (start(), Instant::now() + whole.mul_f32(rng.rand_f32(1)[0]));
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if let Some(status) = ended {
            assert!(status.success());
            return;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed();
    }
}
