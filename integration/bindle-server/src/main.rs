//! The original Bindle crate, for tests: its server, its parser and its signatures.
//!
//! ```text
//! bindle-server serve ADDRESS DIRECTORY [HTPASSWD]   serves a directory, to all or to users
//! bindle-server json INVOICE                         prints an invoice as JSON
//! bindle-server sign INVOICE                         prints an invoice with a new signature
//! ```

use std::net::SocketAddr;

use bindle::authz::{Authorizable, Authorizer};
use bindle::invoice::signature::{KeyRing, SecretKeyEntry, SecretKeyFile, SecretKeyStorage};
use bindle::search::StrictEngine;
use bindle::{Invoice, SignatureRole, VerificationStrategy};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["serve", address, directory] => serve(address.parse()?, directory, None).await,
        ["serve", address, directory, htpasswd] => {
            serve(address.parse()?, directory, Some(htpasswd)).await
        }
        ["json", file] => {
            println!("{}", serde_json::to_string(&read(file)?)?);
            Ok(())
        }
        ["sign", file] => {
            let mut invoice = read(file)?;
            let key = SecretKeyEntry::new(
                "A Creator <creator@example.com>",
                vec![SignatureRole::Creator],
            );
            invoice.sign(SignatureRole::Creator, &key)?;
            // TOML requires plain values before tables. A `toml::Value` sorts them.
            print!("{}", toml::to_string(&toml::Value::try_from(&invoice)?)?);
            Ok(())
        }
        _ => Err(
            "bindle-server serve ADDRESS DIRECTORY [HTPASSWD] | json INVOICE | sign INVOICE".into(),
        ),
    }
}

fn read(file: &str) -> Result<Invoice> {
    Ok(toml::from_str(&std::fs::read_to_string(file)?)?)
}

/// Allows every request of an authenticated user. The authorizer of the crate allows anonymous
/// requests too.
#[derive(Clone)]
struct Authenticated;

impl Authorizer for Authenticated {
    fn authorize<A: Authorizable>(
        &self,
        requester: A,
        _: &str,
        _: &warp::http::Method,
    ) -> anyhow::Result<()> {
        if requester.principal().is_empty() {
            Err(anyhow::anyhow!("log in"))
        } else {
            Ok(())
        }
    }
}

async fn serve(address: SocketAddr, directory: &str, htpasswd: Option<&str>) -> Result<()> {
    let index = StrictEngine::default();
    let store = bindle::provider::file::FileProvider::new(directory, index.clone()).await;
    let mut keys = SecretKeyFile::default();
    keys.key.push(SecretKeyEntry::new(
        "A Host <host@example.com>",
        vec![SignatureRole::Host],
    ));
    debug_assert!(
        keys.get_first_matching(&SignatureRole::Host, None)
            .is_some()
    );
    let strategy = VerificationStrategy::default();
    let ring = KeyRing::default();
    match htpasswd {
        Some(file) => {
            let authorizer = Authenticated;
            let users = bindle::authn::http_basic::HttpBasic::from_file(file).await?;
            bindle::server::server(
                store, index, users, authorizer, address, None, keys, strategy, ring,
            )
            .await?;
        }
        None => {
            let authorizer = bindle::authz::always::AlwaysAuthorize;
            let anonymous = bindle::authn::always::AlwaysAuthenticate;
            bindle::server::server(
                store, index, anonymous, authorizer, address, None, keys, strategy, ring,
            )
            .await?;
        }
    }
    Ok(())
}
