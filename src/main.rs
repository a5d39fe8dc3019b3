//! One arm for each subcommand.

use std::future::Future;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tollgate::cli::account::{self, AccountCommand};
use tollgate::cli::admit::{self, Admit, Answered, Explain};
use tollgate::cli::audit::{self, Audit, Found};

mod serve;

use serve::Serve;
use serve::cashier::Cashier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// May this LLM request run? A rate-limit and credit-gate sidecar.
#[derive(Parser, Debug)]
#[command(version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Tollgate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(Serve),
    Cashier(Cashier),
    Admit(Admit),
    Explain(Explain),
    Account(AccountCommand),
    Audit(Audit),
}

/// Exit status where the answer is no: a request that may not run, sums that are not what the records say.
const NO: u8 = 3;

fn main() -> ExitCode {
    match Tollgate::parse().command {
        Command::Serve(command) => ended(serve::serve(command)),
        Command::Cashier(command) => ended(serve::cashier::cashier(command)),
        Command::Admit(command) => answered(asked(admit::admit(&command))),
        Command::Explain(command) => answered(asked(admit::explain(&command))),
        Command::Account(command) => ended(asked(account::run(&command)).and_then(|text| Ok(print(&text)?))),
        Command::Audit(command) => found(asked(audit::audit(&command))),
    }
}

/// Waits for a command that asks a running sidecar, or a store.
fn asked<T, E: std::error::Error + 'static>(
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, Box<dyn std::error::Error>> {
    Ok(background()?.block_on(command)?)
}

fn answered(result: Result<Answered, Box<dyn std::error::Error>>) -> ExitCode {
    let denied = result.as_ref().is_ok_and(|answered| !answered.admitted);
    let status = ended(result.and_then(|answered| Ok(print(&answered.text)?)));
    if denied { ExitCode::from(NO) } else { status }
}

fn found(result: Result<Found, Box<dyn std::error::Error>>) -> ExitCode {
    let drifted = result.as_ref().is_ok_and(|found| found.drifted);
    let status = ended(result.and_then(|found| Ok(print(&found.text)?)));
    if drifted { ExitCode::from(NO) } else { status }
}

fn ended<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A runtime on this thread.
fn background() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
