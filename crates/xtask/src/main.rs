//! Checks the source tree: `cargo xtask tidy`.

mod tidy;

use std::process::ExitCode;

const USAGE: &str =
    "usage: cargo xtask tidy\n\n  tidy   test the rules of the source tree: crate boundaries, file sizes, names, links";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => report(tidy::check_tree()),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        _ => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}

fn report(result: anyhow::Result<(usize, Vec<tidy::Problem>)>) -> ExitCode {
    match result {
        Ok((files, problems)) if problems.is_empty() => {
            say(&format!("tidy: {files} files, nothing wrong"));
            ExitCode::SUCCESS
        }
        Ok((_, problems)) => {
            for problem in &problems {
                say(&format!("tidy: {problem}"));
            }
            say(&format!("tidy: {} to mend", problems.len()));
            ExitCode::FAILURE
        }
        Err(e) => {
            say(&format!("tidy: cannot look at the tree: {e:#}"));
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program for the terminal: this is its output")]
fn say(text: &str) {
    println!("{text}");
}
