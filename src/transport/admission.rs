//! Our own API for inference servers: admit, follow, settle.

mod explain;
pub(in crate::transport) mod messages;

use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use super::identity::{Who, account_name, key_digest, user_name};
use super::proto::tollgate as api;
use super::proto::tollgate::admission_server::Admission;
use super::proto::tollgate::admit_request::{Prompt as PromptField, Who as WhoField};
use super::request_id;
use super::status::failure::{bug_status, hold_status, reused_status};
use super::status::faults::Faults;
use super::status::{Told, told};
use super::wire::{Payer, Wire, count_denied, overloaded};
use crate::decision::{Ask, Denial, Prompt, RequestId, ServiceTier, Usage};
use crate::ledger::{Answer, Extended, Verdict, WithoutHold};
use explain::explain_response;
use messages::{denial_message, ended_message, limits_message, millis_u32, reason, tokens_u32};

#[tonic::async_trait]
impl Admission for Wire {
    async fn admit(&self, request: Request<api::AdmitRequest>) -> Result<Response<api::AdmitResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let id = hold_id("request_id", &request.request_id, request.attempt, &mut faults);
        let asked = asked(&request, id, &mut faults);
        faults.refuse()?;
        self.admitted(asked).await.map(Response::new)
    }

    async fn explain(&self, request: Request<api::ExplainRequest>) -> Result<Response<api::ExplainResponse>, Status> {
        let mut faults = Faults::default();
        let Some(request) = request.into_inner().ask else {
            faults.missing("ask");
            return Err(faults.status());
        };
        // Nothing is held, so a name that was never used is as good as any.
        let id = RequestId { digest: request_id::random().0, attempt: 0 };
        let asked = asked(&request, id, &mut faults);
        faults.refuse_inside("ask")?;
        self.explained(asked).await.map(Response::new)
    }

    async fn report(&self, request: Request<api::ReportRequest>) -> Result<Response<api::ReportResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let (account, id) = hold(request.hold.as_ref(), &mut faults);
        let usage = usage(request.usage, &mut faults);
        faults.refuse()?;
        let life = self.gate.report(account, id, usage).map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::ReportResponse { hold_life_ms: millis_u32(life) }))
    }

    async fn extend(&self, request: Request<api::ExtendRequest>) -> Result<Response<api::ExtendResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let (account, id) = hold(request.hold.as_ref(), &mut faults);
        if request.more_tokens == 0 {
            faults.add("more_tokens", "is 0; send at least 1");
        }
        faults.refuse()?;
        let extended = self.gate.extend(account, id, request.more_tokens.into()).await;
        let result = match extended.map_err(|error| hold_status(&error))? {
            Extended::Granted { out_max } => {
                api::extend_response::Result::Extension(api::Extension { max_tokens: tokens_u32(out_max) })
            }
            Extended::Refused(denial) => api::extend_response::Result::Denial(denial_message(&self.told(&denial, ""))),
            Extended::Short(_) => return Err(bug_status("the gate answered before it had asked the pool")),
        };
        Ok(Response::new(api::ExtendResponse { result: Some(result) }))
    }

    async fn settle(&self, request: Request<api::SettleRequest>) -> Result<Response<api::SettleResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let (account, id) = hold(request.hold.as_ref(), &mut faults);
        let service_tier = service_tier(request.service_tier, &mut faults);
        let user = user(&request.user, &mut faults);
        let usage = usage(request.usage, &mut faults);
        faults.refuse()?;
        let fallback = (!request.model.is_empty()).then_some(WithoutHold { model: &request.model, service_tier, user });
        let settled = self.gate.settle(account, id, usage, fallback).await;
        let ended = settled.map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::SettleResponse { ended: Some(ended_message(ended)) }))
    }

    async fn release(&self, request: Request<api::ReleaseRequest>) -> Result<Response<api::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let (account, id) = hold(request.hold.as_ref(), &mut faults);
        faults.refuse()?;
        let ended = self.gate.release(account, id).map_err(|error| hold_status(&error))?;
        Ok(Response::new(api::ReleaseResponse { ended: Some(ended_message(ended)) }))
    }
}

/// Who asks, and for what.
struct Asked<'a> {
    who: Who<'a>,
    /// Its account is still to be filled in.
    ask: Ask<'a>,
}

impl Wire {
    async fn admitted(&self, asked: Asked<'_>) -> Result<api::AdmitResponse, Status> {
        let Asked { who, mut ask } = asked;
        let Some(_running) = self.enter() else {
            return Ok(self.denied_at_the_door(overloaded()));
        };
        let payer: Payer<'_> = match self.payer(who).await {
            Ok(payer) => payer,
            Err(denial) => return Ok(self.denied_at_the_door(denial)),
        };
        ask.account = payer.name();
        let answer = self.gate.check(&ask).await;
        self.admit_response(&ask, &answer)
    }

    async fn explained(&self, asked: Asked<'_>) -> Result<api::ExplainResponse, Status> {
        let Asked { who, mut ask } = asked;
        let alone =
            |denial| Ok(api::ExplainResponse { answer: Some(self.denial_response(&denial)), ..Default::default() });
        let Some(_running) = self.enter() else { return alone(overloaded()) };
        let payer: Payer<'_> = match self.payer(who).await {
            Ok(payer) => payer,
            Err(denial) => return alone(denial),
        };
        ask.account = payer.name();
        let explained = self.gate.explain(&ask).await;
        let answer = self.admit_response(&ask, &explained.answer)?;
        Ok(explain_response(self, &ask, answer, explained.why.as_ref()))
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
                    return Err(reused_status(told.message));
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
        self.denial_response(&denial)
    }

    fn denial_response(&self, denial: &Denial) -> api::AdmitResponse {
        let denial = denial_message(&self.told(denial, ""));
        api::AdmitResponse { result: Some(api::admit_response::Result::Denial(denial)), ..Default::default() }
    }

    fn told(&self, denial: &Denial, model: &str) -> Told {
        told(denial, model, self.settings.answer.profile, self.settings.answer.show_balances)
    }
}

/// The ask as far as it is without fault; the rest is noted.
fn asked<'a>(request: &'a api::AdmitRequest, id: RequestId, faults: &mut Faults) -> Asked<'a> {
    let who = who(request.who.as_ref(), faults);
    if request.model.is_empty() {
        faults.missing("model");
    }
    let user = user(&request.user, faults);
    let prompt = match request.prompt {
        Some(PromptField::PromptTokens(tokens)) => Prompt::Tokens(tokens.into()),
        Some(PromptField::PromptBytes(bytes)) => Prompt::Bytes(bytes),
        None => {
            faults.add("prompt", "is missing; send prompt_tokens or prompt_bytes");
            Prompt::Tokens(0)
        }
    };
    let ask = Ask {
        account: "",
        user,
        model: &request.model,
        service_tier: service_tier(request.service_tier, faults),
        prompt,
        cached_tokens_hint: request.cached_tokens_hint.map(u64::from),
        max_tokens: request.max_tokens.map(u64::from),
        n: request.n.unwrap_or(1),
        request_id: id,
        deadline: request.hold_life_ms.map(|millis| Duration::from_millis(millis.into())),
        capped: request.capped,
    };
    Asked { who, ask }
}

fn who<'a>(who: Option<&'a WhoField>, faults: &mut Faults) -> Who<'a> {
    match who {
        Some(WhoField::Account(account)) => Who::Account(account_in("account", account, faults).into()),
        Some(WhoField::ApiKey(key)) => key_digest(key.as_bytes()).map_or(Who::Nobody, Who::Key),
        None => {
            faults.add("who", "is missing; send account or api_key");
            Who::Nobody
        }
    }
}

fn service_tier(value: i32, faults: &mut Faults) -> ServiceTier {
    match api::ServiceTier::try_from(value) {
        Ok(api::ServiceTier::Unspecified | api::ServiceTier::Standard) => ServiceTier::Standard,
        Ok(api::ServiceTier::Priority) => ServiceTier::Priority,
        Ok(api::ServiceTier::Fast) => ServiceTier::Fast,
        Ok(api::ServiceTier::Batch) => ServiceTier::Batch,
        Err(_) => {
            faults.add("service_tier", format!("is {value}, which is none; send standard, priority, fast or batch"));
            ServiceTier::Standard
        }
    }
}

fn hold<'a>(hold: Option<&'a api::Hold>, faults: &mut Faults) -> (&'a str, RequestId) {
    let Some(hold) = hold else {
        faults.missing("hold");
        return ("", RequestId { digest: 0, attempt: 0 });
    };
    let account = account_in("hold.account", &hold.account, faults);
    (account, hold_id("hold.request_id", &hold.request_id, hold.attempt, faults))
}

fn hold_id(field: &str, id: &str, attempt: u32, faults: &mut Faults) -> RequestId {
    if !request_id::is_valid(id.as_bytes()) {
        faults.add(field, "is empty, too long or not plain; send 1 to 256 visible ASCII characters");
    }
    RequestId { digest: request_id::digest(id.as_bytes()), attempt }
}

fn account_in<'a>(field: &str, account: &'a str, faults: &mut Faults) -> &'a str {
    account_name(account.as_bytes()).unwrap_or_else(|| {
        faults.add(field, "is no name of an account; send 1 to 64 characters of A-Z a-z 0-9 . _ -");
        ""
    })
}

fn usage(usage: Option<api::Usage>, faults: &mut Faults) -> Usage {
    if usage.is_none() {
        faults.missing("usage");
    }
    let usage = usage.unwrap_or_default();
    Usage {
        prompt: usage.prompt_tokens.into(),
        cached: usage.cached_tokens.into(),
        generated: usage.generated_tokens.into(),
    }
}

/// The user of an ask; none where it is empty.
fn user<'a>(name: &'a str, faults: &mut Faults) -> Option<&'a str> {
    let user = (!name.is_empty()).then_some(name);
    if user.is_some_and(|user| user_name(user.as_bytes()).is_none()) {
        faults.add("user", "is no name; send 1 to 128 bytes without control characters, or none");
    }
    user
}
