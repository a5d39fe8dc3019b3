//! `tollgate admit` and `tollgate explain`: one question to a running sidecar.

use clap::Args;

use super::ask::{self, Question};
use super::client::{CliError, Connection, connect};
use super::output::{Sheet, Value};
use super::why;
use crate::transport::proto::tollgate::admission_client::AdmissionClient;
use crate::transport::proto::tollgate::admit_response::Result as Outcome;
use crate::transport::proto::tollgate::{
    AdmitRequest, AdmitResponse, Admitted, Ended, ExplainRequest, Hold, SettleRequest, Usage,
};

const SERVICE: &str = "tollgate.v1.Admission";

/// Ask whether a request may run, and hold its credit.
///
/// Exit status: 0 admitted, 3 denied, 1 no answer.
#[derive(Args, Debug)]
pub struct Admit {
    #[command(flatten)]
    question: Question,
    /// Settle at once, as if TOKENS had been generated; all that were admitted if no number is given
    #[arg(long, value_name = "TOKENS", num_args = 0..=1, default_missing_value = "all", conflicts_with = "prompt_bytes")]
    settle: Option<Generated>,
}

/// Ask what `admit` would answer now, and why: each limit, where it comes from, and when it clears. Changes nothing.
///
/// Exit status: 0 would be admitted, 3 would be denied, 1 no answer.
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    question: Question,
}

/// How much to settle.
#[derive(Clone, Copy, Debug)]
enum Generated {
    All,
    Tokens(u32),
}

impl std::str::FromStr for Generated {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Tokens) }
    }
}

/// What to print, and whether the request may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub text: String,
    pub admitted: bool,
}

/// Asks, and settles if told to.
pub async fn admit(command: &Admit) -> Result<Answered, CliError> {
    let question = &command.question;
    let connection = connect(&question.at, SERVICE).await?;
    let mut client = AdmissionClient::new(connection.channel.clone());
    let ask = question.ask()?;
    let answer = client.admit(ask.clone()).await.map_err(|status| connection.explain(&status))?.into_inner();

    let mut sheets = vec![hold_sheet(&connection, &ask, &answer)?];
    if let (Some(generated), Some(Outcome::Admitted(admitted))) = (command.settle, &answer.result) {
        let request = settlement(&ask, admitted, question.prompt_tokens, generated);
        let settled = client.settle(request.clone()).await.map_err(|status| connection.explain(&status))?.into_inner();
        sheets.push(settled_sheet(&request, &settled.ended.ok_or_else(|| connection.empty())?));
    }
    Ok(answered(&answer, &sheets, question.json))
}

/// Asks without changing anything.
pub async fn explain(command: &Explain) -> Result<Answered, CliError> {
    let question = &command.question;
    let connection = connect(&question.at, SERVICE).await?;
    let request = ExplainRequest { ask: Some(question.ask()?) };
    let mut client = AdmissionClient::new(connection.channel.clone());
    let reply = client.explain(request).await.map_err(|status| connection.explain(&status))?.into_inner();
    let sheet = why::sheet(&reply).ok_or_else(|| connection.empty())?;
    let answer = reply.answer.ok_or_else(|| connection.empty())?;
    Ok(answered(&answer, &[sheet], question.json))
}

fn hold_sheet(connection: &Connection, ask: &AdmitRequest, answer: &AdmitResponse) -> Result<Sheet, CliError> {
    let mut sheet = ask::sheet(answer).ok_or_else(|| connection.empty())?;
    sheet.row("request id", Value::text(&ask.request_id));
    Ok(sheet)
}

fn settlement(ask: &AdmitRequest, admitted: &Admitted, prompt_tokens: u32, generated: Generated) -> SettleRequest {
    let generated_tokens = match generated {
        Generated::All => admitted.max_tokens,
        Generated::Tokens(tokens) => tokens,
    };
    SettleRequest {
        hold: Some(Hold {
            account: admitted.account.clone(),
            request_id: ask.request_id.clone(),
            attempt: ask.attempt,
        }),
        usage: Some(Usage { prompt_tokens, cached_tokens: 0, generated_tokens }),
        model: ask.model.clone(),
        service_tier: ask.service_tier,
        user: ask.user.clone(),
    }
}

fn settled_sheet(request: &SettleRequest, ended: &Ended) -> Sheet {
    let usage = request.usage.unwrap_or_default();
    let end = ended.end().as_str_name().trim_start_matches("END_");
    let mut sheet = Sheet::new(end);
    sheet.unsaid("end", Value::text(end.to_lowercase()));
    sheet.row("booked", Value::usd(&ended.cost));
    sheet.row("above the hold", Value::usd(&ended.overrun));
    sheet.row("prompt tokens", Value::Count(usage.prompt_tokens.into()));
    sheet.row("generated tokens", Value::Count(usage.generated_tokens.into()));
    if ended.repeated {
        sheet.row("repeated", Value::text("it had ended before; this is how"));
    }
    sheet
}

fn answered(answer: &AdmitResponse, sheets: &[Sheet], json: bool) -> Answered {
    Answered {
        text: sheets.iter().map(|sheet| sheet.render(json)).collect(),
        admitted: matches!(answer.result, Some(Outcome::Admitted(_))),
    }
}
