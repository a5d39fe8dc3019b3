//! A view that is shown again and again: in its place on a terminal, line by line into a pipe.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::account::Accounts;
use super::client::CliError;
use super::standing;

/// To the top left; then each line is overwritten to its end, and what is below the last one is erased.
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K\n";
const ERASE_BELOW: &str = "\x1b[J";
const ERASE_ALL: &str = "\x1b[2J";

/// How a view is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    InPlace,
    Lines,
    Json,
}

/// Shows an account every `every`, until nobody reads it any more.
pub async fn watch(accounts: &mut Accounts, account: &str, json: bool, every: Duration) -> Result<(), CliError> {
    let way = match json {
        true => Way::Json,
        false if std::io::stdout().is_terminal() => Way::InPlace,
        false => Way::Lines,
    };
    if way == Way::InPlace && !print(ERASE_ALL)? {
        return Ok(());
    }
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (inspected, account) = accounts.inspect(account).await?;
        let view = match way {
            Way::Json => standing::sheet(&inspected, &account).render(true),
            Way::Lines => standing::line(&inspected, &account),
            Way::InPlace => in_place(&standing::sheet(&inspected, &account).render(false)),
        };
        if !print(&view)? {
            return Ok(());
        }
    }
}

fn in_place(text: &str) -> String {
    format!("{HOME}{}{ERASE_BELOW}", text.replace('\n', ERASE_LINE))
}

/// False where nobody reads any more.
fn print(text: &str) -> Result<bool, CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::Output(error)),
    }
}
