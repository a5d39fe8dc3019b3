//! The operators' API: accounts, credits and keys. A thin translation of what `reconcile` does with them.

mod history;
mod inspect;
pub(in crate::transport) mod messages;
mod terms;
mod users;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::proto::tollgate as api;
use super::proto::tollgate::accounts_server::Accounts;
use super::status::failure::accounts_status;
use super::status::faults::Faults;
use crate::gate::Gate;
use crate::reconcile::accounts::{self as operations, name_faults, purchase_faults};
use crate::reconcile::store::{CreditKind, Page, Papers, Purchase};
use history::history_message;
use inspect::{denial_message, here_message, lease_message};
use messages::{account_message, key_message};
use terms::{MODE, changed, credit, initial};

/// Accounts, or lines of history, in one page where the request does not say how many, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 500;

/// The handler of the accounts port.
pub struct Operators {
    pub accounts: Arc<operations::Accounts>,
    /// What this sidecar itself knows.
    pub gate: Arc<Gate>,
}

#[tonic::async_trait]
impl Accounts for Operators {
    async fn create_account(
        &self,
        request: Request<api::CreateAccountRequest>,
    ) -> Result<Response<api::CreateAccountResponse>, Status> {
        let request = request.into_inner();
        let change = request.terms.unwrap_or_default();
        let mut faults = Faults::default();
        let terms = changed(initial(&change), change, &mut faults);
        if !faults.is_empty() {
            faults.join_beside(MODE, self.accounts.new_account_faults(&request.account, &terms));
        }
        faults.refuse()?;
        let created = self.accounts.create(&request.account, terms, request.starter_credit).await;
        let record = created.map_err(accounts_status)?;
        Ok(Response::new(api::CreateAccountResponse { account: Some(account_message(record)) }))
    }

    async fn get_account(
        &self,
        request: Request<api::GetAccountRequest>,
    ) -> Result<Response<api::GetAccountResponse>, Status> {
        let record = self.accounts.get(&request.into_inner().account).await.map_err(accounts_status)?;
        Ok(Response::new(api::GetAccountResponse { account: Some(account_message(record)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<api::ListAccountsRequest>,
    ) -> Result<Response<api::ListAccountsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size);
        let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
        let mut records = self.accounts.list(after, size + 1).await.map_err(accounts_status)?;
        let next_page_token = cut(&mut records, size, |record| record.account.to_string());
        let accounts = records.into_iter().map(account_message).collect();
        Ok(Response::new(api::ListAccountsResponse { accounts, next_page_token }))
    }

    async fn list_users(
        &self,
        request: Request<api::ListUsersRequest>,
    ) -> Result<Response<api::ListUsersResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size);
        let listed = self.accounts.users(&request.account, &request.page_token, size + 1).await;
        let mut users = listed.map_err(accounts_status)?;
        let next_page_token = cut(&mut users, size, |user| user.user.to_string());
        let users = users.into_iter().map(users::user_message).collect();
        Ok(Response::new(api::ListUsersResponse { users, next_page_token }))
    }

    async fn update_account(
        &self,
        request: Request<api::UpdateAccountRequest>,
    ) -> Result<Response<api::UpdateAccountResponse>, Status> {
        let request = request.into_inner();
        let account = &request.account;
        let mut faults = Faults::default();
        faults.join(name_faults(account));
        if request.version == 0 {
            faults.add("version", "is missing; send the version of the account that you read");
        }
        let Some(change) = request.terms else {
            faults.add("terms", "is missing; send what to change");
            return Err(faults.status());
        };
        let sent_well = faults.is_empty();
        let before = match self.accounts.get(account).await {
            Err(error) if sent_well => return Err(accounts_status(error)),
            // What can be said of the request without the account is said.
            before => before.ok(),
        };
        // Against another version the change is refused in the store, whatever was read here.
        let merged = before.as_ref().map_or_else(|| initial(&change), |before| before.terms.clone());
        let terms = changed(merged, change.clone(), &mut faults);
        if !faults.is_empty() && before.is_some() {
            faults.join_beside(MODE, self.accounts.terms_faults(&terms, before.as_ref()));
        }
        faults.refuse()?;
        let configured = self.accounts.configure(account, request.version, terms).await;
        let record = configured.map_err(accounts_status)?;
        Ok(Response::new(api::UpdateAccountResponse { account: Some(account_message(record)) }))
    }

    async fn add_credits(
        &self,
        request: Request<api::AddCreditsRequest>,
    ) -> Result<Response<api::AddCreditsResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        let kind = match api::CreditKind::try_from(request.kind) {
            Ok(api::CreditKind::Promotional) => Some(CreditKind::Promotional),
            Ok(api::CreditKind::Purchased) => Some(CreditKind::Purchased),
            Ok(api::CreditKind::Adjustment) => Some(CreditKind::Adjustment),
            Ok(api::CreditKind::Refund) => Some(CreditKind::Refund),
            Ok(api::CreditKind::Unspecified) | Err(_) => {
                faults.add("kind", "is missing or unknown; send promotional, purchased, adjustment or refund");
                None
            }
        };
        let amount = faults.take(credit("amount", &request.amount));
        let (account, id): (Arc<str>, _) = (request.account.into(), request.purchase_id);
        let papers = Papers { refund_of: request.refund_of, reference: request.reference, note: request.note };
        let (Some(kind), Some(amount)) = (kind, amount) else {
            faults.join(purchase_faults(&account, &id, amount, kind, &papers));
            return Err(faults.status());
        };
        let purchase = Purchase { account, id, amount, kind, papers };
        let record = self.accounts.add_credits(purchase).await.map_err(accounts_status)?;
        Ok(Response::new(api::AddCreditsResponse { account: Some(account_message(record)) }))
    }

    async fn list_history(
        &self,
        request: Request<api::ListHistoryRequest>,
    ) -> Result<Response<api::ListHistoryResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size);
        let after = request.page_token.parse().ok();
        if after.is_none() && !request.page_token.is_empty() {
            let mut faults = Faults::default();
            faults.add("page_token", "is no token of ours; send next_page_token of the page before");
            return Err(faults.status());
        }
        let page = Page { newest_first: !request.oldest_first, after, max: size + 1 };
        let listed = self.accounts.history(&request.account, page).await;
        Ok(Response::new(history_message(listed.map_err(accounts_status)?, size)))
    }

    async fn create_api_key(
        &self,
        request: Request<api::CreateApiKeyRequest>,
    ) -> Result<Response<api::CreateApiKeyResponse>, Status> {
        let request = request.into_inner();
        let created = self.accounts.create_key(&request.account, &request.label).await;
        let operations::NewKey { key, record } = created.map_err(accounts_status)?;
        Ok(Response::new(api::CreateApiKeyResponse { api_key: Some(key_message(record)), secret: key }))
    }

    async fn list_api_keys(
        &self,
        request: Request<api::ListApiKeysRequest>,
    ) -> Result<Response<api::ListApiKeysResponse>, Status> {
        let keys = self.accounts.keys(&request.into_inner().account).await.map_err(accounts_status)?;
        Ok(Response::new(api::ListApiKeysResponse { api_keys: keys.into_iter().map(key_message).collect() }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<api::RevokeApiKeyRequest>,
    ) -> Result<Response<api::RevokeApiKeyResponse>, Status> {
        let request = request.into_inner();
        self.accounts.revoke_key(&request.account, &request.id).await.map_err(accounts_status)?;
        Ok(Response::new(api::RevokeApiKeyResponse {}))
    }

    async fn inspect_account(
        &self,
        request: Request<api::InspectAccountRequest>,
    ) -> Result<Response<api::InspectAccountResponse>, Status> {
        let account = request.into_inner().account;
        let (record, leases) = self.accounts.inspect(&account).await.map_err(accounts_status)?;
        let (here, denials) = self.gate.inspect(&account);
        let now = self.gate.now().time;
        Ok(Response::new(api::InspectAccountResponse {
            account: Some(account_message(record)),
            leases: leases.into_iter().map(lease_message).collect(),
            node: self.gate.session().node.to_string(),
            here: here.map(here_message),
            denials: denials.iter().map(|noted| denial_message(noted, now)).collect(),
        }))
    }
}

fn page_size(asked: u32) -> usize {
    let size = if asked == 0 { PAGE } else { asked.min(PAGE_MAX) };
    usize::try_from(size).expect("a page fits memory")
}

/// Cuts a page of `size` off a list that has one more where another page follows; gives the token of that, or an empty one.
fn cut<T>(listed: &mut Vec<T>, size: usize, token: impl Fn(&T) -> String) -> String {
    let more = listed.len() > size;
    listed.truncate(size);
    listed.last().filter(|_| more).map(token).unwrap_or_default()
}
