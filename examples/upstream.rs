//! A stand-in for an inference server: answers chat completions on port 8000 and settles each with its sidecar.
//!
//! What to copy from it is `settle`: the hold as the request's headers name it, and the totals of what was used.
//! Run it with `cargo run --example upstream`, beside `tollgate serve --demo` and Envoy.

use std::error::Error;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};
use tollgate::transport::proto::tollgate::admission_client::AdmissionClient;
use tollgate::transport::proto::tollgate::{Hold, SettleRequest, Usage};
use tonic::transport::{Channel, Endpoint};

const LISTEN: &str = "127.0.0.1:8000";
const SIDECAR: &str = "http://127.0.0.1:7300";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Connects when it is first needed, and again after the sidecar restarted.
    let sidecar = AdmissionClient::new(Endpoint::from_static(SIDECAR).connect_lazy());
    let listener = tokio::net::TcpListener::bind(LISTEN).await?;
    println!("Answers on http://{LISTEN}/v1/chat/completions and settles with {SIDECAR}.");
    axum::serve(listener, Router::new().route("/v1/chat/completions", post(complete)).with_state(sidecar)).await?;
    Ok(())
}

/// "Generates" a word for each token, as many as the sidecar allows and no more than a dozen.
async fn complete(
    State(sidecar): State<AdmissionClient<Channel>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    let request: Value = serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let allowed = text(&headers, "x-tollgate-max-tokens").parse().unwrap_or(0);
    let usage = Usage {
        prompt_tokens: u32::try_from(body.len() / 4).unwrap_or(u32::MAX),
        cached_tokens: 0,
        generated_tokens: 12.min(allowed),
    };
    let model = request["model"].as_str().unwrap_or_default();
    // The client's answer does not wait on money: a real server says a failed settle again, because twice is the same as once.
    if let Err(status) = settle(sidecar, &headers, model, usage).await {
        eprintln!("not settled: {status}");
    }
    let words = vec!["word"; usage.generated_tokens.try_into().unwrap_or(0)].join(" ");
    let answer = json!({
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.generated_tokens},
    });
    Ok(([(CONTENT_TYPE, "application/json")], format!("{answer}\n")))
}

/// Books what was used on the hold that the sidecar opened for this request.
async fn settle(
    mut sidecar: AdmissionClient<Channel>,
    headers: &HeaderMap,
    model: &str,
    usage: Usage,
) -> Result<(), tonic::Status> {
    let hold = Hold {
        account: text(headers, "x-tollgate-account").into(),
        request_id: text(headers, "x-tollgate-request-id").into(),
        attempt: text(headers, "x-tollgate-attempt").parse().unwrap_or(0),
    };
    let request =
        SettleRequest { hold: Some(hold), usage: Some(usage), model: model.into(), ..SettleRequest::default() };
    let ended = sidecar.settle(request).await?.into_inner().ended.unwrap_or_default();
    println!("settled {} generated tokens for ${}", usage.generated_tokens, ended.cost);
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
