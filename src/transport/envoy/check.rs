//! Envoy's question, answered: read, ask the gate, write. At once where memory suffices.

use bytes::Bytes;
use tonic::Status;

use super::answer::{admitted, denied};
use super::ask::{Found, Name, Unclear, Wanted};
use super::fields::Malformed;
use crate::clock::{Now, Time};
use crate::decision::{Denial, Reason};
use crate::gate::Lack;
use crate::ledger::{Answer, Verdict};
use crate::transport::identity::Who;
use crate::transport::status::{told, told_invalid};
use crate::transport::wire::{Payer, Wire, count_denied, overloaded};

/// An answer as a gRPC message with its prefix, or why there is none.
pub type Reply = Result<Bytes, Status>;

/// What keeps a check from being answered at once.
#[derive(Clone, Copy, Debug)]
pub enum Missing {
    /// Whose key it is.
    Owner,
    /// What the gate found lacking, and when it was asked.
    Pool(Lack, Time),
}

/// An answer from memory, or what memory lacks.
type FromMemory = Result<Reply, Missing>;

/// A check that can be decided once it is known who pays.
struct Check<'a> {
    name: Name<'a>,
    wanted: Wanted<'a>,
    /// Names of headers of ours that came in from outside.
    ours: Vec<&'a [u8]>,
}

impl Wire {
    /// Answers each `CheckRequest` from memory, as of one moment, or says what is missing for [`Wire::check_later`].
    ///
    /// Those that came together take each step together: what they read of memory is then waited for at the same time, and
    /// the code of a step is in the cache for all but the first.
    pub fn check_now(&self, messages: &[&[u8]]) -> Vec<FromMemory> {
        let read: Vec<_> = messages.iter().map(|message| self.read(message)).collect();
        let now = self.gate.now();
        let paid: Vec<_> = read.into_iter().map(|read| self.paid_now(read, now)).collect();
        self.gate.look_ahead(paid.iter().flatten().map(|(check, payer)| (payer.name(), check.name.id)));
        let decided = paid.into_iter().map(|paid| match paid {
            Ok((check, payer)) => self.decided_now(&check, &payer, now),
            Err(decided) => decided,
        });
        decided.collect()
    }

    /// Answers a `CheckRequest` after what was missing was asked for.
    pub async fn check_later(&self, message: &[u8], missing: Missing) -> Reply {
        let (who, check) = match self.read(message) {
            Ok(read) => read,
            Err(reply) => return reply,
        };
        let Some(_running) = self.enter() else {
            return Ok(self.turned_away(overloaded(), &check.name));
        };
        let payer = match self.payer(who).await {
            Ok(payer) => payer,
            Err(denial) => return Ok(self.turned_away(denial, &check.name)),
        };
        let ask = check.wanted.ask(payer.name(), check.name.id);
        let answer = match missing {
            Missing::Owner => self.gate.check(&ask).await,
            Missing::Pool(lack, began) => self.gate.check_later(&ask, lack, began).await,
        };
        Ok(self.answer(&check, &payer, &answer))
    }

    /// Who asks, and for what.
    fn read<'a>(&self, message: &'a [u8]) -> Result<(Who<'a>, Check<'a>), Reply> {
        let found = match Found::in_check(message, &self.settings) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Err(invalid("attributes.request.http is missing; use Envoy's HTTP filter"))),
            Err(Malformed) => return Err(Err(invalid("attributes cannot be read: send Envoy's CheckRequest"))),
        };
        let (who, name) = (found.who(&self.settings), found.name());
        match found.wanted(&self.settings) {
            Ok(wanted) => Ok((who, Check { name, wanted, ours: found.ours })),
            Err(unclear) => Err(Ok(self.unclear(unclear, &name))),
        }
    }

    /// Who pays; as an error what needs no decision, or cannot have one yet.
    fn paid_now<'a>(
        &self,
        read: Result<(Who<'a>, Check<'a>), Reply>,
        now: Now,
    ) -> Result<(Check<'a>, Payer<'a>), FromMemory> {
        let (who, check) = read.map_err(Ok)?;
        match self.payer_now(who, now.time) {
            Some(Ok(payer)) => Ok((check, payer)),
            Some(Err(denial)) => Err(Ok(Ok(self.turned_away(denial, &check.name)))),
            None => Err(Err(Missing::Owner)),
        }
    }

    fn decided_now(&self, check: &Check<'_>, payer: &Payer<'_>, now: Now) -> FromMemory {
        let ask = check.wanted.ask(payer.name(), check.name.id);
        let answer = self.gate.check_now(&ask, now).map_err(|lack| Missing::Pool(lack, now.time))?;
        Ok(Ok(self.answer(check, payer, &answer)))
    }

    fn answer(&self, check: &Check<'_>, payer: &Payer<'_>, answer: &Answer) -> Bytes {
        let settings = &self.settings.answer;
        match answer.verdict {
            Verdict::Admitted(hold) => admitted(payer.name(), &check.name, &hold, answer, settings, &check.ours),
            Verdict::Denied(denial) => {
                let told = told(&denial, &check.wanted.model, settings.profile, settings.show_balances);
                denied(&told, &check.name, Some(answer), settings)
            }
        }
    }

    /// Turned away before the gate was asked.
    fn turned_away(&self, denial: Denial, name: &Name<'_>) -> Bytes {
        let settings = &self.settings.answer;
        count_denied(denial.reason);
        denied(&told(&denial, "", settings.profile, settings.show_balances), name, None, settings)
    }

    /// Turned away because it cannot be read.
    fn unclear(&self, unclear: Unclear, name: &Name<'_>) -> Bytes {
        let settings = &self.settings.answer;
        count_denied(Reason::InvalidRequest);
        let (fact, remedy) = unclear.words();
        denied(&told_invalid(&fact, remedy, settings.profile), name, None, settings)
    }
}

fn invalid(why: &str) -> Status {
    Status::invalid_argument(why)
}
