//! A Bindle server for tests, and what else only the original can say.
//!
//! ```text
//! bindle-server serve ADDRESS DIRECTORY [HTPASSWD]   everybody may read, or only whoever is in the file
//! bindle-server json INVOICE                         an invoice, as the original understands it
//! bindle-server sign INVOICE                         an invoice, signed by its creator with a new key
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
            // By way of a value, which puts tables last.
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

/// Everybody who said who it is. The original lets everybody read.
#[derive(Clone)]
struct Known;

impl Authorizer for Known {
    fn authorize<A: Authorizable>(
        &self,
        who: A,
        _: &str,
        _: &warp::http::Method,
    ) -> anyhow::Result<()> {
        if who.principal().is_empty() {
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
    let (strategy, ring) = (VerificationStrategy::default(), KeyRing::default());
    match htpasswd {
        Some(file) => {
            let authorizer = Known;
            let users = bindle::authn::http_basic::HttpBasic::from_file(file).await?;
            bindle::server::server(
                store, index, users, authorizer, address, None, keys, strategy, ring,
            )
            .await?;
        }
        None => {
            let authorizer = bindle::authz::always::AlwaysAuthorize;
            let everybody = bindle::authn::always::AlwaysAuthenticate;
            bindle::server::server(
                store, index, everybody, authorizer, address, None, keys, strategy, ring,
            )
            .await?;
        }
    }
    Ok(())
}
