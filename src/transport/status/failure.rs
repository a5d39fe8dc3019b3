//! Failures of our own API as gRPC statuses: a code, a sentence and `google.rpc` details for the caller, the cause for
//! the log.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::faults::Faults;
use crate::decision::Credit;
use crate::ledger::{Ended, HoldError};
use crate::reconcile::accounts::AccountsError;
use crate::reconcile::store::StoreError;

/// Whose reasons these are, in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "tollgate";

/// When to come back where trouble of ours may have passed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A failure as a program reads it.
struct Failure {
    code: Code,
    /// `google.rpc.ErrorInfo.reason`.
    reason: &'static str,
    /// `google.rpc.ErrorInfo.metadata`.
    metadata: Vec<(&'static str, String)>,
    /// Whether the same call may pass later.
    passes: bool,
}

impl Failure {
    const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, metadata: Vec::new(), passes: false }
    }

    fn with<const N: usize>(code: Code, reason: &'static str, metadata: [(&'static str, String); N]) -> Self {
        Self { metadata: metadata.into(), ..Self::new(code, reason) }
    }

    fn passing(reason: &'static str) -> Self {
        Self { passes: true, ..Self::new(Code::Unavailable, reason) }
    }

    fn status(self, message: impl Into<String>) -> Status {
        let metadata: HashMap<String, String> =
            self.metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if self.passes {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(self.code, message, details)
    }
}

/// Why a hold cannot be changed as asked.
pub fn hold_status(error: &HoldError) -> Status {
    let field = match error {
        HoldError::NotFound => return Failure::new(Code::NotFound, "NO_SUCH_HOLD").status(error.to_string()),
        HoldError::UnknownAccount => {
            return Failure::new(Code::NotFound, "NO_SUCH_ACCOUNT").status(error.to_string());
        }
        HoldError::Ended(ended) => {
            return Failure::with(Code::FailedPrecondition, "HOLD_ENDED", how_ended(ended)).status(error.to_string());
        }
        HoldError::Backwards | HoldError::TooLarge => "usage",
        HoldError::CachedAbovePrompt => "usage.cached_tokens",
    };
    let mut faults = Faults::default();
    faults.add(field, error.to_string());
    faults.status()
}

fn how_ended(ended: &Ended) -> [(&'static str, String); 2] {
    [("end", ended.end.name().to_owned()), ("cost_usd", ended.cost.usd().to_string())]
}

/// The request id was used for another request.
pub fn reused_status(message: String) -> Status {
    Failure::new(Code::AlreadyExists, "REQUEST_ID_REUSED").status(message)
}

/// A bug: what cannot be.
pub fn bug_status(message: &str) -> Status {
    Failure::new(Code::Internal, "BUG").status(message)
}

/// Why an operation on an account was not done.
pub fn accounts_status(error: AccountsError) -> Status {
    match error {
        AccountsError::Invalid(found) => {
            let mut faults = Faults::default();
            faults.join(found);
            faults.status()
        }
        AccountsError::Store(error) => store_status(&error),
        AccountsError::NoRandomness(_) => {
            tracing::error!(%error, "no key can be made");
            Failure::new(Code::Internal, "NO_RANDOMNESS").status("no key can be made on this machine; its log says why")
        }
    }
}

fn store_status(error: &StoreError) -> Status {
    let failure = match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "an operation on an account failed");
            let sentence = "the store cannot be reached; nothing was changed for certain, so repeat the call";
            return Failure::passing("STORE_UNAVAILABLE").status(sentence);
        }
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "an operation on an account failed");
            let sentence = "the store's data cannot be read; this sidecar's log says more";
            return Failure::new(Code::DataLoss, "STORE_UNREADABLE").status(sentence);
        }
        StoreError::AccountExists(account) => {
            Failure::with(Code::AlreadyExists, "ACCOUNT_EXISTS", [("account", account.clone())])
        }
        StoreError::PurchaseDiffers(id) => {
            Failure::with(Code::AlreadyExists, "PURCHASE_DIFFERS", [("purchase_id", id.clone())])
        }
        StoreError::NoSuchAccount(account) => {
            Failure::with(Code::NotFound, "NO_SUCH_ACCOUNT", [("account", account.clone())])
        }
        StoreError::NoSuchKey(id) => Failure::with(Code::NotFound, "NO_SUCH_KEY", [("id", id.clone())]),
        StoreError::VersionConflict { account, expected, found } => {
            let versions = [("account", account.clone()), ("sent", expected.to_string()), ("found", found.to_string())];
            Failure::with(Code::Aborted, "VERSION_CONFLICT", versions)
        }
        StoreError::TooMuchCredit => {
            let most = [("credits_max_usd", Credit::MAX.usd().to_string())];
            Failure::with(Code::FailedPrecondition, "TOO_MUCH_CREDIT", most)
        }
        StoreError::NoSuchPurchase(id) => {
            Failure::with(Code::NotFound, "NO_SUCH_PURCHASE", [("refund_of", id.clone())])
        }
        StoreError::RefundTooLarge { purchase, left } => {
            let rest = [("refund_of", purchase.clone()), ("left_usd", left.usd().to_string())];
            Failure::with(Code::FailedPrecondition, "REFUND_TOO_LARGE", rest)
        }
    };
    failure.status(error.to_string())
}
