//! `nexus-cli`: run a node, see two of them at work, measure them.

#![forbid(unsafe_code)]

mod actors;
mod args;
mod bench;
mod child;
mod commands;
mod console;
mod http;
mod measure;
mod own_node;
mod payload;
mod target;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, BenchCommand, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if let Some(threads) = arguments.threads {
        runtime.worker_threads(threads);
    }
    let result = match runtime.build() {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments.command));
            // Dropped, it would wait for a read of the standard input, which may never end.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(anyhow::Error::from(error).context("no runtime")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has gone; there is nobody to tell.
        Err(error) if console::is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            console::error(&console::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(options) => commands::demo::run(options).await,
        Command::Node(options) => commands::node::run(options).await,
        Command::Endpoints(options) => commands::endpoints::run(options).await,
        Command::Ping(options) => commands::ping::run(options).await,
        Command::Bench { command: BenchCommand::Local(options) } => bench::local::run(options).await,
        Command::Bench { command: BenchCommand::Remote(options) } => bench::remote::run(options).await,
        Command::FloorPeer => bench::floor::serve().await,
    }
}
