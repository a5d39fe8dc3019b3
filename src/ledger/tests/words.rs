//! The words of scripts: what came of an event, and amounts as they are written.

use std::fmt::Write as _;
use std::time::Duration;

use crate::decision::{Credit, Usage};
use crate::ledger::{Answer, Checked, HoldError, Verdict};
use crate::pool::{Message, user_of};

pub(super) fn told(checked: &Checked) -> String {
    match checked {
        Checked::Answered(answer) => answered(answer),
        Checked::Unknown => "unknown".into(),
        Checked::Short(short) => {
            let mut told = String::from("short");
            if short.need.is_positive() {
                write!(told, " {}", short.need).unwrap();
            }
            if short.user.is_positive() {
                write!(told, " user {}", short.user).unwrap();
            }
            if short.requests > 0 {
                write!(told, " requests {}", short.requests).unwrap();
            }
            if short.tokens != [0; 3] {
                write!(told, " tokens {:?}", short.tokens).unwrap();
            }
            told
        }
    }
}

pub(super) fn answered(answer: &Answer) -> String {
    match answer.verdict {
        Verdict::Admitted(admitted) => {
            let mut told = format!("admitted {} out {}", admitted.cost, admitted.out_max);
            if admitted.repeated {
                told.push_str(" again");
            }
            if let Some(reason) = admitted.shadow {
                write!(told, " but for {}", reason.name()).unwrap();
            }
            told
        }
        Verdict::Denied(denial) => {
            let wait = denial.retry_after.map_or(String::new(), |wait| format!(" wait {wait:?}"));
            format!("denied {}{wait}", denial.reason.name())
        }
    }
}

pub(super) fn ended(result: Result<crate::ledger::Ended, HoldError>) -> String {
    match result {
        Err(error) => error_word(error).into(),
        Ok(ended) => {
            let mut told = format!("{:?} {}", ended.end, ended.cost).to_lowercase();
            if ended.overrun.is_positive() {
                write!(told, " over {}", ended.overrun).unwrap();
            }
            if ended.repeated {
                told.push_str(" again");
            }
            told
        }
    }
}

pub(super) const fn error_word(error: HoldError) -> &'static str {
    match error {
        HoldError::NotFound => "not found",
        HoldError::Ended(_) => "ended",
        HoldError::Backwards => "backwards",
        HoldError::CachedAbovePrompt => "cached above prompt",
        HoldError::UnknownAccount => "unknown account",
        HoldError::TooLarge => "too large",
    }
}

/// What a round said: of money, of how many rates, and whether it declared or closed.
pub(super) fn said(messages: &[Message]) -> String {
    let mut words = Vec::new();
    for message in messages {
        if let Some(sync) = message.sync {
            words.extend(user_of(&message.account).map(str::to_owned));
            words.push(
                if sync.bye {
                    "bye"
                } else if sync.declare {
                    "declare"
                } else {
                    "sync"
                }
                .to_owned(),
            );
        }
        if !message.rates.is_empty() {
            words.push(format!("rates {}", message.rates.len()));
        }
    }
    if words.is_empty() { "silence".into() } else { words.join(" ") }
}

pub(super) fn usage(word: &str) -> Usage {
    let numbers: Vec<u64> = word.split('/').map(|number| number.parse().unwrap()).collect();
    Usage { prompt: numbers[0], cached: numbers[1], generated: numbers[2] }
}

pub(super) fn usd(word: &str) -> Credit {
    Credit::from_usd(word.trim_start_matches('$').parse().unwrap()).unwrap()
}

pub(super) fn duration(word: &str) -> Duration {
    let split = word.find(|letter: char| letter.is_alphabetic()).unwrap();
    let (number, unit) = word.split_at(split);
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_mins(number),
        "h" => Duration::from_hours(number),
        _ => panic!("no such unit: {word}"),
    }
}
