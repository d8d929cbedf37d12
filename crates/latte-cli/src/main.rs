//! The `latte` command: trains, samples and inspects latent diffusion transformers for video.

mod commands;
mod demo;
mod device;
mod failure;
mod generator;
mod interrupt;
mod memory;
mod output;
mod precision;
mod progress;
mod run_evaluator;
mod terminal;
mod tips;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Trains and samples latent diffusion transformers for video (Latte, arXiv 2401.03048).
///
/// New here? `latte demo` makes a small data set of real video files, trains on it, samples, and measures the result, in
/// one command and without a GPU. Then train on your own videos:
///
///   latte demo
///   latte train --config configs/tiny.toml --set data.path=my-videos
///   latte sample --checkpoint runs/tiny --num 4
#[derive(Debug, Parser)]
#[command(name = "latte", version, verbatim_doc_comment, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::Args),
    Train(commands::train::Args),
    TrainVae(commands::train_vae::Args),
    Encode(commands::encode::Args),
    Runs(commands::runs::Args),
    Plot(commands::plot::Args),
    Sample(commands::sample::Args),
    T2v(commands::t2v::Args),
    Eval(commands::eval::Args),
    Inspect(commands::inspect::Args),
    Convert(commands::convert::Args),
    Data(commands::data::Args),
    Bench(commands::bench::Args),
    Selftest(commands::selftest::Args),
    Completions(commands::completions::Args),
}

/// Steps of training and sampling allocate the same large tensors again and again.
#[global_allocator]
static ALLOCATOR: latte_ops::CachingAllocator = latte_ops::CachingAllocator::new();

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
            tips::correct(&mut error, &Cli::command(), &args);
            return failure::report_usage(&error);
        }
    };
    let result = match cli.command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::TrainVae(args) => commands::train_vae::run(&args),
        Command::Encode(args) => commands::encode::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Plot(args) => commands::plot::run(&args),
        Command::Sample(args) => commands::sample::run(&args),
        Command::T2v(args) => commands::t2v::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Selftest(args) => commands::selftest::run(&args),
        Command::Completions(args) => {
            commands::completions::run(&args, &mut Cli::command());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
