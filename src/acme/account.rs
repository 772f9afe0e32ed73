//! Who orders certificates: made once for each issuer, and kept.

use super::{failure::Failure, https::Https, store::Store};
use crate::spec::Acme;
use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// As it is kept. The credentials have the key.
#[derive(Serialize, Deserialize)]
struct Kept {
    contacts: Vec<String>,
    credentials: AccountCredentials,
}

/// The account that was kept, or a new one.
///
/// # Errors
/// When there is none.
pub(super) async fn open(acme: &Acme, store: &Store, https: &Https) -> Result<Account, Failure> {
    let from = store.clone();
    let content = spawn_blocking(move || from.account()).await.map_err(Failure::here)?;
    let Some(content) = content.map_err(|error| Failure::of_store(&error))? else {
        return create(acme, store, https).await;
    };
    let kept: Kept = serde_json::from_slice(&content)
        .map_err(|error| Failure::here(format_args!("the account cannot be read: {error}")))?;
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let account = builder.from_credentials(kept.credentials).await?;
    if kept.contacts != contacts(acme) {
        account.update_contacts(&contacts(acme)).await?;
        // The credentials are used up by the account.
        let kept: Kept = serde_json::from_slice(&content).map_err(Failure::here)?;
        keep(acme, kept.credentials, store).await?;
    }
    Ok(account)
}

/// A new account, in place of what was kept.
///
/// # Errors
/// When the issuer gives none, or it cannot be kept.
pub(super) async fn create(acme: &Acme, store: &Store, https: &Https) -> Result<Account, Failure> {
    let contacts = contacts(acme);
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let (account, credentials) = builder.create(&wanted, acme.directory.to_string(), None).await?;
    keep(acme, credentials, store).await?;
    tracing::info!(directory = %acme.directory, id = account.id(), "ACME account made");
    Ok(account)
}

async fn keep(acme: &Acme, credentials: AccountCredentials, store: &Store) -> Result<(), Failure> {
    let contacts = contacts(acme).into_iter().map(str::to_owned).collect();
    let kept = Kept { contacts, credentials };
    let content = serde_json::to_vec(&kept).map_err(Failure::here)?;
    let store = store.clone();
    let kept = spawn_blocking(move || store.keep_account(&content)).await;
    kept.map_err(Failure::here)?.map_err(|error| Failure::of_store(&error))
}

fn contacts(acme: &Acme) -> Vec<&str> {
    acme.contacts.iter().map(|contact| &**contact).collect()
}
