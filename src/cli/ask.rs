//! The question as a person types it, and the answer as a person reads it. For `admit` and `explain`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::client::CliError;
use super::output::{Sheet, Value, grouped};
use crate::transport::proto::tollgate::admit_request::{Prompt, Who};
use crate::transport::proto::tollgate::admit_response::Result as Outcome;
use crate::transport::proto::tollgate::{
    AdmitRequest, AdmitResponse, Admitted, Denial, Limits, Reason, Remaining, ServiceTier,
};

/// One request to ask about.
#[derive(Args, Debug)]
pub struct Question {
    #[command(flatten)]
    payer: Payer,
    /// The model, by its name in the catalogue
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Tokens of the prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 1_000, conflicts_with = "prompt_bytes")]
    pub prompt_tokens: u32,
    /// Bytes of the body instead, from which the sidecar estimates tokens
    #[arg(long, value_name = "BYTES")]
    prompt_bytes: Option<u64>,
    /// Prompt tokens that are likely cached
    #[arg(long, value_name = "TOKENS")]
    cached_tokens: Option<u32>,
    /// The most tokens that each completion may generate [default: the model's]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// Completions for this prompt [default: 1]
    #[arg(long, value_name = "COUNT")]
    n: Option<u32>,
    /// What the request pays for
    #[arg(long, value_name = "TIER", default_value = "standard", value_parser = service_tier())]
    service_tier: ServiceTier,
    /// The user inside the account, for its spend cap
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// Names the hold; asked again, it gives the same answer [default: a random one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Which attempt at the request this is
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    attempt: u32,
    /// Admit with fewer tokens rather than deny for money
    #[arg(long)]
    capped: bool,
    /// Where the sidecar listens: HOST:PORT or unix:/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7300", help_heading = "Sidecar and output")]
    pub at: String,
    /// Print JSON
    #[arg(long, help_heading = "Sidecar and output")]
    pub json: bool,
}

/// Who pays: exactly one of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Payer {
    /// Who pays, by an API key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Who pays, by name
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

fn service_tier() -> impl TypedValueParser<Value = ServiceTier> {
    let names = ["standard", "priority", "fast", "batch"];
    PossibleValuesParser::new(names).map(|name| {
        ServiceTier::from_str_name(&format!("SERVICE_TIER_{}", name.to_uppercase())).expect("only listed names pass")
    })
}

impl Question {
    /// The ask on the wire.
    pub fn ask(&self) -> Result<AdmitRequest, CliError> {
        let by_name = || Who::Account(self.payer.account.clone().unwrap_or_default());
        let tokens = Prompt::PromptTokens(self.prompt_tokens);
        Ok(AdmitRequest {
            who: Some(self.payer.key.clone().map_or_else(by_name, Who::ApiKey)),
            user: self.user.clone(),
            model: self.model.clone(),
            service_tier: self.service_tier.into(),
            prompt: Some(self.prompt_bytes.map_or(tokens, Prompt::PromptBytes)),
            cached_tokens_hint: self.cached_tokens,
            max_tokens: self.max_tokens,
            n: self.n,
            request_id: self.request_id.clone().map_or_else(super::random_id, Ok)?,
            attempt: self.attempt,
            hold_life_ms: None,
            capped: self.capped,
        })
    }
}

/// The decision, its numbers and what the account may still take.
pub fn sheet(answer: &AdmitResponse) -> Option<Sheet> {
    let mut sheet = match answer.result.as_ref()? {
        Outcome::Admitted(admitted) => admission(admitted),
        Outcome::Denial(denial) => refusal(denial),
    };
    sheet.row_if("balance", answer.balance.as_deref().map(Value::usd));
    if let Some(limits) = &answer.limits {
        limit_rows(&mut sheet, limits);
    }
    Some(sheet)
}

fn admission(admitted: &Admitted) -> Sheet {
    let tokens = grouped(admitted.max_tokens.into());
    let mut sheet = Sheet::new(format!("ADMITTED  {} may generate up to {tokens} tokens", admitted.account));
    sheet.unsaid("decision", Value::text("admitted"));
    sheet.unsaid("account", Value::text(&admitted.account));
    sheet.unsaid("max tokens", Value::Count(admitted.max_tokens.into()));
    sheet.row("held", Value::usd(&admitted.cost));
    if admitted.capped {
        sheet.row("capped", Value::text("fewer tokens than asked for, because credit is short"));
    }
    if admitted.repeated {
        sheet.row("repeated", Value::text("asked before; this is the same answer and the same hold"));
    }
    if admitted.shadow_reason() != Reason::Unspecified {
        sheet.row("shadow", Value::text(format!("would be denied: {}", name_of(admitted.shadow_reason()))));
    }
    if admitted.hold_life_ms > 0 {
        sheet.row("hold life", Value::Millis(admitted.hold_life_ms.into()));
    }
    sheet
}

fn refusal(denial: &Denial) -> Sheet {
    let code = if denial.code.is_empty() { String::new() } else { format!(", {}", denial.code) };
    let mut sheet = Sheet::new(format!("DENIED  {} (HTTP {}{code})", denial.reason_name, denial.http_status));
    sheet.unsaid("decision", Value::text("denied"));
    sheet.unsaid("reason", Value::text(&denial.reason_name));
    sheet.unsaid("http status", Value::Count(denial.http_status.into()));
    sheet.unsaid("code", Value::text(&denial.code));
    // The message ends with these numbers and the remedy.
    sheet.unsaid("remedy", Value::text(&denial.remedy));
    sheet.unsaid_if("limit", denial.limit.as_deref().map(Value::text));
    sheet.unsaid_if("used", denial.used.as_deref().map(Value::text));
    sheet.unsaid_if("requested", denial.requested.as_deref().map(Value::text));
    sheet.row("why", Value::text(&denial.message));
    sheet.row_if("affordable max tokens", denial.affordable_max_tokens.map(|tokens| Value::Count(tokens.into())));
    sheet.row_if("resets at", denial.resets_at.as_deref().map(Value::text));
    sheet.row("retry after", Value::Wait(denial.retry_after_ms));
    sheet
}

/// `REASON_MONTHLY_LIMIT` as `monthly_limit`.
fn name_of(reason: Reason) -> String {
    reason.as_str_name().trim_start_matches("REASON_").to_lowercase()
}

fn limit_rows(sheet: &mut Sheet, limits: &Limits) {
    let rows = [
        ("requests", &limits.requests),
        ("prompt tokens", &limits.prompt_tokens),
        ("uncached prompt tokens", &limits.uncached_prompt_tokens),
        ("generated tokens", &limits.generated_tokens),
    ];
    for (label, remaining) in rows {
        sheet.row_if(label, remaining.as_ref().map(left));
    }
}

fn left(remaining: &Remaining) -> Value {
    Value::Left { remaining: remaining.remaining, per_minute: remaining.per_minute }
}
