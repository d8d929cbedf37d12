//! Feeds damaged files to all readers of foreign files, until the time is over or a reader fails.

mod child;
mod damage;
mod parent;
mod targets;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use targets::{TARGETS, Target};

const USAGE: &str = "usage: latte-fuzz TARGET[,TARGET…] [SECONDS [SEED]]   SECONDS (60) for each target; `all` is every target
       latte-fuzz TARGET FILE                      reads one file
       latte-fuzz list                             the names of all targets";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [child::OPTION, rest @ ..] = &args[..] {
        return child::main(rest);
    }
    let asked = match args[..] {
        ["list"] => {
            for target in TARGETS {
                say(target.name);
            }
            Ok(true)
        }
        [names] => fuzz(names, "60", "0"),
        [name, file] if Path::new(file).is_file() => Target::named(name).map(|target| parent::once(target, Path::new(file))),
        [names, seconds] => fuzz(names, seconds, "0"),
        [names, seconds, seed] => fuzz(names, seconds, seed),
        _ => Err(USAGE.to_string()),
    };
    match asked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            say(&what);
            ExitCode::from(2)
        }
    }
}

/// Runs targets one after the other; returns whether all passed.
fn fuzz(names: &str, seconds: &str, seed: &str) -> Result<bool, String> {
    let number = |text: &str, what: &str| text.parse::<u64>().map_err(|e| format!("{what} {text}: {e}\n{USAGE}"));
    let (seconds, seed) = (Duration::from_secs(number(seconds, "seconds")?), number(seed, "seed")?);
    let targets: Vec<&Target> = match names {
        "all" => TARGETS.iter().collect(),
        names => names.split(',').map(Target::named).collect::<Result<_, _>>()?,
    };
    let mut passed = true;
    for target in targets {
        passed &= parent::fuzz(target, seconds, seed);
    }
    Ok(passed)
}

#[expect(clippy::print_stdout, reason = "a program for the terminal: this is its output")]
fn say(text: &str) {
    println!("{text}");
}
