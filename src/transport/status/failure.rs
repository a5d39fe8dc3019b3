//! Failures of our own API as gRPC statuses: a code and a sentence for the caller, the cause for the log.

use tonic::{Code, Status};

use crate::ledger::HoldError;
use crate::reconcile::accounts::AccountsError;
use crate::reconcile::store::StoreError;

/// Why a hold cannot be changed as asked.
pub fn hold_status(error: &HoldError) -> Status {
    let code = match error {
        HoldError::NotFound | HoldError::UnknownAccount => Code::NotFound,
        HoldError::Ended(_) => Code::FailedPrecondition,
        HoldError::Backwards | HoldError::CachedAbovePrompt | HoldError::TooLarge => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// Why an operation on an account was not done.
pub fn accounts_status(error: &AccountsError) -> Status {
    match error {
        AccountsError::Invalid(_) => Status::invalid_argument(error.to_string()),
        AccountsError::Store(error) => store_status(error),
        AccountsError::NoRandomness(_) => {
            tracing::error!(%error, "no key can be made");
            Status::internal("no key can be made on this machine; its log says why")
        }
    }
}

fn store_status(error: &StoreError) -> Status {
    let code = match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "an operation on an account failed");
            return Status::unavailable(
                "the store cannot be reached; nothing was changed for certain, so repeat the call",
            );
        }
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "an operation on an account failed");
            return Status::data_loss("the store's data cannot be read; this sidecar's log says more");
        }
        StoreError::AccountExists(_) | StoreError::PurchaseDiffers(_) => Code::AlreadyExists,
        StoreError::NoSuchAccount(_) | StoreError::NoSuchKey(_) => Code::NotFound,
        StoreError::VersionConflict { .. } => Code::Aborted,
        StoreError::TooMuchCredit => Code::FailedPrecondition,
    };
    Status::new(code, error.to_string())
}
