//! A run that is killed and resumed ends with the same bits as one that is not killed.
//!
//! This program is its own child process: with `LATTE_TRAIN_CHILD` set it trains and stalls at a given step, so that the parent can
//! kill it there.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "run/bits.rs"]
mod bits;
#[path = "run/kills.rs"]
mod kills;
mod run;
#[path = "run/weights.rs"]
mod weights;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bits::bits;
use latte_model::checkpoint::CheckpointFolder;
use latte_model::noise::TorchRng;
use latte_ops::CancelToken;
use latte_train::tasks::{ClassTask, class};
use latte_train::{Outcome, Progress, RunCondition, RunSummary, Start, StepEvent, Trainer, TrainingProgress, read_metrics};
use libtest_mimic::{Arguments, Trial};

const FOLDER: &str = "LATTE_TRAIN_CHILD";
/// With this variable set, the child does not stall.
const TO_THE_END: &str = "LATTE_TRAIN_CHILD_TO_THE_END";
/// Frequent checkpoints, so that kills hit them.
const OFTEN: [&str; 1] = ["output.checkpoint_every=2"];
/// The checkpoint is at 10: these steps are lost, and must be repeated and recorded again.
const STALL_AT: u64 = 13;

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        if std::env::var_os(TO_THE_END).is_some() {
            finish(&folder, "killed", &OFTEN);
            return ExitCode::SUCCESS;
        }
        stall(&folder);
    }
    let mut arguments = Arguments::from_args();
    // A kill comes at a share of the time that an undisturbed run takes.
    arguments.test_threads.get_or_insert(1);
    let test = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = vec![
        test("a_killed_run_resumes_bit_for_bit", killed),
        test("a_run_that_is_killed_anywhere_ends_as_an_undisturbed_one", killed_anywhere),
        test("a_learning_timestep_sampler_resumes_bit_for_bit", learning_sampler),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// The child: trains until step [`STALL_AT`] has been recorded, then waits to be killed.
fn stall(folder: &Path) -> ! {
    struct Stall;
    impl Progress for Stall {}
    impl TrainingProgress for Stall {
        fn step(&mut self, event: &StepEvent) {
            if event.record.step == STALL_AT {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }
    let config = run::config(&folder.join("data"), &folder.join("killed"), &[]);
    let outcome =
        class(config).and_then(|task| Trainer::open(task, Start::Fresh)).and_then(|mut t| t.run(&CancelToken::new(), &mut Stall));
    panic!("the child was to stall, but: {outcome:?}");
}

fn finish(folder: &Path, name: &str, overrides: &[&str]) -> Trainer<ClassTask> {
    let config = run::config(&folder.join("data"), &folder.join(name), overrides);
    let mut trainer = Trainer::open(class(config).unwrap(), Start::Auto).unwrap();
    let outcome = trainer.run(&CancelToken::new(), &mut latte_train::NoProgress).unwrap();
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    trainer
}

fn killed() {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    let mut child = Command::new(std::env::current_exe().unwrap()).env(FOLDER, dir.path()).spawn().unwrap();
    let metrics = dir.path().join("killed/metrics.jsonl");
    // On a machine of any speed, the child gets there or ends.
    while !std::fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() as u64 == STALL_AT) {
        assert!(child.try_wait().unwrap().is_none(), "the child never came to step {STALL_AT}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SIGKILL: no code of the child runs after it.
    let condition = || RunSummary::read(&dir.path().join("killed")).unwrap().condition;
    assert_eq!(condition(), RunCondition::Running);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(condition(), RunCondition::Killed);
    // As if it had been killed while writing a checkpoint and a line of the log.
    let half = dir.path().join("killed/checkpoints/.unfinished-0000020");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("model.safetensors"), b"half").unwrap();
    std::fs::OpenOptions::new().append(true).open(&metrics).unwrap().write_all(b"{\"step\":14,\"lo").unwrap();

    let resumed = finish(dir.path(), "killed", &[]);
    assert_eq!(resumed.resumed_from().unwrap(), dir.path().join("killed/checkpoints/0000010"));
    assert!(!half.exists());
    let straight = finish(dir.path(), "straight", &[]);
    assert_eq!(straight.resumed_from(), None);
    assert_same(dir.path(), "killed", "straight");
}

/// Kills with -9 at random moments until the run is done, and repeats this until there were 20 kills.
fn killed_anywhere() {
    const KILLS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    finish(dir.path(), "straight", &OFTEN);
    let child = || {
        let program = std::env::current_exe().unwrap();
        Command::new(program).env(FOLDER, dir.path()).env(TO_THE_END, "1").spawn().unwrap()
    };
    let started = Instant::now();
    assert!(child().wait().unwrap().success());
    let whole_run = started.elapsed();
    assert_same(dir.path(), "killed", "straight");

    let mut rng = TorchRng::new(20);
    let (mut kills, mut with_checkpoint) = (0, 0);
    while kills < KILLS {
        std::fs::remove_dir_all(dir.path().join("killed")).unwrap();
        kills::until_done(whole_run, &mut rng, child, || {
            kills += 1;
            let newest = CheckpointFolder::of_run(&dir.path().join("killed")).latest().unwrap();
            with_checkpoint += usize::from(newest.is_some());
        });
        assert_same(dir.path(), "killed", "straight");
    }
    assert!(with_checkpoint > 0, "of {kills} kills, none came after a checkpoint");
}

fn learning_sampler() {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    // 4 times of 4 clips per step: the history is full, and draws depend on losses, before the run is stopped at step 15.
    let learning = [
        "train.timestep_sampler=loss_second_moment",
        "diffusion.num_timesteps=4",
        "diffusion.noise_schedule=squaredcos_cap_v2",
        "output.checkpoint_every=15",
    ];
    finish(dir.path(), "straight", &learning);
    // The learning rate depends on `max_steps`, so the cancel token stops the run instead.
    struct StopAt15<'a>(&'a CancelToken);
    impl Progress for StopAt15<'_> {}
    impl TrainingProgress for StopAt15<'_> {
        fn step(&mut self, event: &StepEvent) {
            if event.record.step == 15 {
                self.0.cancel();
            }
        }
    }
    let config = run::config(&dir.path().join("data"), &dir.path().join("killed"), &learning);
    let stop = CancelToken::new();
    let outcome = Trainer::open(class(config).unwrap(), Start::Fresh).unwrap().run(&stop, &mut StopAt15(&stop)).unwrap();
    assert!(matches!(outcome, Outcome::Stopped { step: 15, .. }), "{outcome:?}");
    finish(dir.path(), "killed", &learning);
    assert_same(dir.path(), "killed", "straight");
}

/// The last checkpoints of both runs have the same bits, and their logs the same steps.
fn assert_same(folder: &Path, one: &str, other: &str) {
    let load = |name: &str| weights::last_checkpoint(&folder.join(name));
    let (a, b) = (load(one), load(other));
    assert_eq!((a.run.step, b.run.step), (20, 20));
    assert_eq!(a.run, b.run);
    let sets = [
        ("weights", &a.state.weights, &b.state.weights),
        ("ema", &a.state.ema, &b.state.ema),
        ("first moments", &a.state.first_moments, &b.state.first_moments),
        ("second moments", &a.state.second_moments, &b.state.second_moments),
    ];
    for (what, a, b) in sets {
        let values = bits(a);
        assert!(values == bits(b), "{what} differ");
        assert!(values.iter().any(|&v| v != 0), "{what} are all zero");
    }
    assert_ne!(bits(&a.state.weights), bits(&a.state.ema));
    let log = |name: &str| read_metrics(&folder.join(name).join("metrics.jsonl")).unwrap();
    let (a, b) = (log(one), log(other));
    assert_eq!(a.iter().map(|r| r.step).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(
            (a.step, a.loss, a.parts.get("mse"), a.parts.get("vb"), a.grad_norm, a.lr),
            (b.step, b.loss, b.parts.get("mse"), b.parts.get("vb"), b.grad_norm, b.lr)
        );
    }
}
