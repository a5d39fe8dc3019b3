//! The last denials of this sidecar, for whoever asks why an account is denied: bounded, and only of what was denied.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use crate::clock::Time;
use crate::decision::{Ask, Denial, Reason};

/// Accounts are spread over so many rings, so that a flood against one does not wash away those of most others.
const RINGS: usize = 32;
/// Denials in one ring; repeated ones count as one. All of them together take some 300 kB.
const KEPT: usize = 32;
/// Of a model's or a user's name so much is kept: a client may write anything there.
const NAME_MAX: usize = 64;

/// Denials that were given a while ago, by account.
#[derive(Default)]
pub struct Denials {
    rings: [Mutex<VecDeque<Noted>>; RINGS],
    hasher: foldhash::fast::RandomState,
}

/// A denial that was given, once or several times in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub account: Box<str>,
    /// As it was asked for, cut off where it is long.
    pub model: Box<str>,
    /// Empty where none was named.
    pub user: Box<str>,
    pub denial: Denial,
    /// When it was given last.
    pub at: Time,
    /// How often in a row.
    pub count: u64,
}

impl Denials {
    /// Notes a denial, unless somebody else notes one in the same ring at this moment: nobody waits for this.
    pub fn note(&self, ask: &Ask<'_>, denial: &Denial, now: Time) {
        if denial.reason == Reason::UnknownAccount {
            return;
        }
        let Ok(mut ring) = self.ring(ask.account).try_lock() else { return };
        let (model, user) = (cut(ask.model), cut(ask.user.unwrap_or_default()));
        let is_same = |noted: &&mut Noted| {
            noted.denial.reason == denial.reason
                && *noted.account == *ask.account
                && *noted.model == *model
                && *noted.user == *user
        };
        if let Some(noted) = ring.back_mut().filter(is_same) {
            (noted.at, noted.denial, noted.count) = (now, *denial, noted.count.saturating_add(1));
            return;
        }
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        let (account, model, user) = (ask.account.into(), model.into(), user.into());
        ring.push_back(Noted { account, model, user, denial: *denial, at: now, count: 1 });
    }

    /// What was denied to an account, newest first.
    pub fn of(&self, account: &str) -> Vec<Noted> {
        let ring = self.ring(account).lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().filter(|noted| *noted.account == *account).cloned().collect()
    }

    fn ring(&self, account: &str) -> &Mutex<VecDeque<Noted>> {
        let rings = u64::try_from(self.rings.len()).expect("there are few");
        let place = usize::try_from(self.hasher.hash_one(account) % rings).expect("below their number");
        &self.rings[place]
    }
}

/// The beginning of a name, whole characters.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::bench::ask;

    #[test]
    fn denials_are_kept_by_account_newest_first_and_never_many() {
        let denials = Denials::default();
        let reasons = [Reason::InFlight, Reason::ExceedsBalance];
        for second in 0..1_000 {
            let reason = reasons[usize::from(second % 4 == 0)];
            denials.note(&ask("acme", 1), &Denial::of(reason), Time::from_nanos(second * 1_000_000_000));
        }
        let kept = denials.of("acme");
        assert_eq!(kept.len(), KEPT);
        assert_eq!((kept[0].at, kept[0].count, kept[0].denial.reason), (at(999), 3, Reason::InFlight));
        assert_eq!((kept[1].at, kept[1].count, kept[1].denial.reason), (at(996), 1, Reason::ExceedsBalance));
        assert!(denials.of("other").is_empty());
        denials.note(&ask("other", 1), &Denial::of(Reason::UnknownAccount), at(1));
        assert!(denials.of("other").is_empty(), "strangers are nobody");
        let long = "é".repeat(100);
        denials.note(&Ask { model: &long, ..ask("other", 1) }, &Denial::of(Reason::InvalidRequest), at(1));
        assert_eq!(denials.of("other")[0].model.len(), NAME_MAX);
    }

    fn at(second: u64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }
}
