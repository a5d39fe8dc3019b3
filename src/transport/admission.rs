//! Our own API for inference servers: admit, follow, settle.

mod messages;

use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use super::identity::{Who, account_name, key_digest, user_name};
use super::proto::tollgate as api;
use super::proto::tollgate::admission_server::Admission;
use super::proto::tollgate::admit_request::{Prompt as PromptField, Who as WhoField};
use super::request_id;
use super::status::failure::hold_status;
use super::status::{Told, told};
use super::wire::{Payer, Wire, count_denied, overloaded};
use crate::decision::{Ask, Denial, Prompt, RequestId, ServiceTier, Usage};
use crate::ledger::{Answer, Extended, Verdict, WithoutHold};
use messages::{denial_message, ended_message, limits_message, millis_u32, reason, tokens_u32};

#[tonic::async_trait]
impl Admission for Wire {
    async fn admit(&self, request: Request<api::AdmitRequest>) -> Result<Response<api::AdmitResponse>, Status> {
        let request = request.into_inner();
        let id = hold_id(&request.request_id, request.attempt)?;
        self.admitted(&request, id, true).await.map(Response::new)
    }

    async fn explain(&self, request: Request<api::ExplainRequest>) -> Result<Response<api::ExplainResponse>, Status> {
        let ask = request.into_inner().ask.ok_or_else(|| missing("ask"))?;
        // Nothing is held, so a name that was never used is as good as any.
        let id = RequestId { digest: request_id::random().0, attempt: 0 };
        let answer = self.admitted(&ask, id, false).await?;
        Ok(Response::new(api::ExplainResponse { answer: Some(answer) }))
    }

    async fn report(&self, request: Request<api::ReportRequest>) -> Result<Response<api::ReportResponse>, Status> {
        let request = request.into_inner();
        let (account, id) = hold(request.hold.as_ref())?;
        let life = self.gate.report(account, id, usage(request.usage)?).map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::ReportResponse { hold_life_ms: millis_u32(life) }))
    }

    async fn extend(&self, request: Request<api::ExtendRequest>) -> Result<Response<api::ExtendResponse>, Status> {
        let request = request.into_inner();
        let (account, id) = hold(request.hold.as_ref())?;
        if request.more_tokens == 0 {
            return Err(Status::invalid_argument("more_tokens is 0; send at least 1"));
        }
        let extended = self.gate.extend(account, id, request.more_tokens.into()).await;
        let result = match extended.map_err(|error| hold_status(&error))? {
            Extended::Granted { out_max } => {
                api::extend_response::Result::Extension(api::Extension { max_tokens: tokens_u32(out_max) })
            }
            Extended::Refused(denial) => api::extend_response::Result::Denial(denial_message(&self.told(&denial, ""))),
            Extended::Short(_) => return Err(Status::internal("the gate answered before it had asked the pool")),
        };
        Ok(Response::new(api::ExtendResponse { result: Some(result) }))
    }

    async fn settle(&self, request: Request<api::SettleRequest>) -> Result<Response<api::SettleResponse>, Status> {
        let request = request.into_inner();
        let (account, id) = hold(request.hold.as_ref())?;
        let service_tier = service_tier(request.service_tier)?;
        let user = user(&request.user)?;
        let fallback = (!request.model.is_empty()).then_some(WithoutHold { model: &request.model, service_tier, user });
        let settled = self.gate.settle(account, id, usage(request.usage)?, fallback).await;
        let ended = settled.map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::SettleResponse { ended: Some(ended_message(ended)) }))
    }

    async fn release(&self, request: Request<api::ReleaseRequest>) -> Result<Response<api::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let (account, id) = hold(request.hold.as_ref())?;
        let ended = self.gate.release(account, id).map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::ReleaseResponse { ended: Some(ended_message(ended)) }))
    }
}

impl Wire {
    /// Asks the gate; where `hold` is false, only for an explanation.
    async fn admitted(
        &self,
        request: &api::AdmitRequest,
        id: RequestId,
        hold: bool,
    ) -> Result<api::AdmitResponse, Status> {
        let who = who(request.who.as_ref())?;
        let mut ask = ask(request, id)?;
        let Some(_running) = self.enter() else {
            return Ok(self.denied_at_the_door(overloaded()));
        };
        let payer: Payer<'_> = match self.payer(who).await {
            Ok(payer) => payer,
            Err(denial) => return Ok(self.denied_at_the_door(denial)),
        };
        ask.account = payer.name();
        let answer = if hold { self.gate.check(&ask).await } else { self.gate.explain(&ask).await };
        self.admit_response(&ask, &answer)
    }

    fn admit_response(&self, ask: &Ask<'_>, answer: &Answer) -> Result<api::AdmitResponse, Status> {
        use api::admit_response::Result as Outcome;
        let result = match &answer.verdict {
            Verdict::Admitted(admitted) => Outcome::Admitted(api::Admitted {
                account: ask.account.into(),
                cost: admitted.cost.usd().to_string(),
                max_tokens: tokens_u32(admitted.out_max),
                capped: admitted.capped,
                hold_life_ms: millis_u32(admitted.life),
                repeated: admitted.repeated,
                shadow_reason: admitted.shadow.map_or(api::Reason::Unspecified, reason).into(),
            }),
            Verdict::Denied(denial) => {
                let told = self.told(denial, ask.model);
                if told.grpc == Code::AlreadyExists {
                    return Err(Status::already_exists(told.message));
                }
                Outcome::Denial(denial_message(&told))
            }
        };
        let balance = answer.balance.filter(|_| self.settings.answer.show_balances);
        Ok(api::AdmitResponse {
            result: Some(result),
            limits: answer.limits.as_ref().map(limits_message),
            balance: balance.map(|balance| balance.usd().to_string()),
        })
    }

    /// Denied before the gate was asked.
    fn denied_at_the_door(&self, denial: Denial) -> api::AdmitResponse {
        count_denied(denial.reason);
        let denial = denial_message(&self.told(&denial, ""));
        api::AdmitResponse { result: Some(api::admit_response::Result::Denial(denial)), ..Default::default() }
    }

    fn told(&self, denial: &Denial, model: &str) -> Told {
        told(denial, model, self.settings.answer.profile, self.settings.answer.show_balances)
    }
}

fn who(who: Option<&WhoField>) -> Result<Who<'_>, Status> {
    match who.ok_or_else(|| missing("account or api_key"))? {
        WhoField::Account(account) => {
            account_name(account.as_bytes()).map(|name| Who::Account(name.into())).ok_or_else(bad_account)
        }
        WhoField::ApiKey(key) => Ok(key_digest(key.as_bytes()).map_or(Who::Nobody, Who::Key)),
    }
}

/// The ask, its account still to be filled in.
fn ask(request: &api::AdmitRequest, id: RequestId) -> Result<Ask<'_>, Status> {
    if request.model.is_empty() {
        return Err(missing("model"));
    }
    let user = user(&request.user)?;
    let prompt = match request.prompt.ok_or_else(|| missing("prompt_tokens or prompt_bytes"))? {
        PromptField::PromptTokens(tokens) => Prompt::Tokens(tokens.into()),
        PromptField::PromptBytes(bytes) => Prompt::Bytes(bytes),
    };
    Ok(Ask {
        account: "",
        user,
        model: &request.model,
        service_tier: service_tier(request.service_tier)?,
        prompt,
        cached_tokens_hint: request.cached_tokens_hint.map(u64::from),
        max_tokens: request.max_tokens.map(u64::from),
        n: request.n.unwrap_or(1),
        request_id: id,
        deadline: request.hold_life_ms.map(|millis| Duration::from_millis(millis.into())),
        capped: request.capped,
    })
}

fn service_tier(value: i32) -> Result<ServiceTier, Status> {
    match api::ServiceTier::try_from(value) {
        Ok(api::ServiceTier::Unspecified | api::ServiceTier::Standard) => Ok(ServiceTier::Standard),
        Ok(api::ServiceTier::Priority) => Ok(ServiceTier::Priority),
        Ok(api::ServiceTier::Fast) => Ok(ServiceTier::Fast),
        Ok(api::ServiceTier::Batch) => Ok(ServiceTier::Batch),
        Err(_) => Err(Status::invalid_argument(format!(
            "service_tier is {value}, which is none; send standard, priority, fast or batch"
        ))),
    }
}

fn hold(hold: Option<&api::Hold>) -> Result<(&str, RequestId), Status> {
    let hold = hold.ok_or_else(|| missing("hold"))?;
    let account = account_name(hold.account.as_bytes()).ok_or_else(bad_account)?;
    Ok((account, hold_id(&hold.request_id, hold.attempt)?))
}

fn hold_id(id: &str, attempt: u32) -> Result<RequestId, Status> {
    if !request_id::is_valid(id.as_bytes()) {
        return Err(Status::invalid_argument(
            "request_id is empty, too long or not plain; send 1 to 256 visible ASCII characters",
        ));
    }
    Ok(RequestId { digest: request_id::digest(id.as_bytes()), attempt })
}

fn usage(usage: Option<api::Usage>) -> Result<Usage, Status> {
    let usage = usage.ok_or_else(|| missing("usage"))?;
    Ok(Usage {
        prompt: usage.prompt_tokens.into(),
        cached: usage.cached_tokens.into(),
        generated: usage.generated_tokens.into(),
    })
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field} is missing; it is required"))
}

/// The user of an ask; none where it is empty.
fn user(name: &str) -> Result<Option<&str>, Status> {
    let bad = || Status::invalid_argument("user is no name; send 1 to 128 bytes without control characters, or none");
    if name.is_empty() { Ok(None) } else { user_name(name.as_bytes()).map(Some).ok_or_else(bad) }
}

fn bad_account() -> Status {
    Status::invalid_argument("account is no name of an account; send 1 to 64 characters of A-Z a-z 0-9 . _ -")
}
