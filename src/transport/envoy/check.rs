//! Envoy's question, answered: read, ask the gate, write.

use tonic::{Request, Response, Status};

use super::answer::{admitted, denied};
use super::ask::{Found, Name, Unclear};
use super::fields::Malformed;
use crate::decision::{Denial, Reason};
use crate::ledger::Verdict;
use crate::transport::proto::envoy::authorization_server::Authorization;
use crate::transport::proto::envoy::{CheckRequest, CheckResponse};
use crate::transport::status::{told, told_invalid};
use crate::transport::wire::{Wire, count_denied, overloaded};

#[tonic::async_trait]
impl Authorization for Wire {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let check = request.into_inner();
        match Found::among(&check.attributes, &self.settings) {
            Ok(Some(found)) => Ok(Response::new(self.checked(found).await)),
            Ok(None) => Err(Status::invalid_argument("attributes.request.http is missing; use Envoy's HTTP filter")),
            Err(Malformed) => Err(Status::invalid_argument("attributes cannot be read: send Envoy's CheckRequest")),
        }
    }
}

impl Wire {
    async fn checked(&self, found: Found<'_>) -> CheckResponse {
        let name = found.name();
        let Some(_running) = self.enter() else {
            return self.turned_away(overloaded(), &name);
        };
        let wanted = match found.wanted(&self.settings) {
            Ok(wanted) => wanted,
            Err(unclear) => return self.unclear(unclear, &name),
        };
        let payer = match self.payer(found.who(&self.settings)).await {
            Ok(payer) => payer,
            Err(denial) => return self.turned_away(denial, &name),
        };
        let settings = &self.settings.answer;
        let answer = self.gate.check(&wanted.ask(payer.name(), name.id)).await;
        match answer.verdict {
            Verdict::Admitted(hold) => admitted(payer.name(), &name, &hold, &answer, settings, &found.ours),
            Verdict::Denied(denial) => {
                let told = told(&denial, &wanted.model, settings.profile, settings.show_balances);
                denied(&told, &name, Some(&answer), settings)
            }
        }
    }

    /// Turned away before the gate was asked.
    fn turned_away(&self, denial: Denial, name: &Name) -> CheckResponse {
        let settings = &self.settings.answer;
        count_denied(denial.reason);
        denied(&told(&denial, "", settings.profile, settings.show_balances), name, None, settings)
    }

    /// Turned away because it cannot be read.
    fn unclear(&self, unclear: Unclear, name: &Name) -> CheckResponse {
        let settings = &self.settings.answer;
        count_denied(Reason::InvalidRequest);
        let (fact, remedy) = unclear.words();
        denied(&told_invalid(&fact, remedy, settings.profile), name, None, settings)
    }
}
