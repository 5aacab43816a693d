//! The token server of a registry. The registry trusts the key of this server.
//!
//! Source: <https://distribution.github.io/distribution/spec/auth/token/>.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::other_programs::openssl;

/// The only user of a registry, and of its token server.
pub const USER: &str = "user";
/// Password of [`USER`].
pub const PASSWORD: &str = "secret";
const SERVICE: &str = "test-registry";
const ISSUER: &str = "test-issuer";
/// The only refresh token that the server accepts.
pub const REFRESH_TOKEN: &str = "a-refresh-token";

/// A running token server. It ends with the runtime of the test.
#[derive(Debug)]
pub struct TokenServer {
    /// URL of the server. The registry names this URL as its realm.
    pub realm: String,
    shared: Arc<Shared>,
}

struct Shared {
    key: EcdsaKeyPair,
    certificate: String,
    directory: TempDir,
    requests: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl TokenServer {
    /// Starts a token server on loopback, with a new key.
    pub async fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let openssl = |arguments: &str| openssl(directory.path(), arguments);
        openssl("ecparam -name prime256v1 -genkey -noout -out key.pem");
        openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der");
        openssl("req -x509 -new -key key.pem -subj /CN=test -days 2 -out certificate.pem");
        let read = |name: &str| std::fs::read(directory.path().join(name)).expect("a file");
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &read("key.der"),
            &SystemRandom::new(),
        );
        let certificate = String::from_utf8(read("certificate.pem")).expect("PEM");
        let certificate = certificate
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        let shared = Arc::new(Shared {
            key: key.expect("a key"),
            certificate,
            directory,
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/token", get(by_password).post(by_refresh_token))
            .with_state(Arc::clone(&shared));
        let realm = format!("http://{}/token", crate::serve(router).await);
        Self { realm, shared }
    }

    /// The requests for tokens: `anonymous`, `password` or `refresh`, followed by the scope.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("the list").clone()
    }

    /// The part of the registry's configuration that names this server.
    pub(crate) fn registry_config(&self) -> String {
        let bundle = self.shared.directory.path().join("certificate.pem");
        let bundle = bundle.display();
        let realm = &self.realm;
        format!(
            "auth: {{token: {{realm: \"{realm}\", service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: {bundle}}}}}\n"
        )
    }
}

async fn by_password(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    let scope = query.get("scope").cloned().unwrap_or_default();
    let given = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    match given {
        None => shared.answer("anonymous", &scope, &[]),
        Some(given) if given == right => shared.answer("password", &scope, &["pull", "push"]),
        Some(_) => shared.refuse("wrong password", &scope),
    }
}

async fn by_refresh_token(
    State(shared): State<Arc<Shared>>,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let scope = form.get("scope").cloned().unwrap_or_default();
    let is = |name: &str, value: &str| form.get(name).is_some_and(|given| given == value);
    if is("grant_type", "refresh_token")
        && is("refresh_token", REFRESH_TOKEN)
        && is("service", SERVICE)
    {
        shared.answer("refresh", &scope, &["pull"])
    } else {
        shared.refuse("wrong refresh token", &scope)
    }
}

impl Shared {
    fn answer(&self, how: &str, scope: &str, actions: &[&str]) -> (StatusCode, Json<Value>) {
        self.record(how, scope);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time")
            .as_secs();
        let access: Vec<Value> = scope
            .split(' ')
            .filter_map(|one| {
                let mut parts = one.split(':').skip(1);
                let name = parts.next()?;
                let requested = parts.next()?;
                // Only actions that are both requested and allowed.
                let granted: Vec<&str> = requested
                    .split(',')
                    .filter(|action| actions.contains(action))
                    .collect();
                Some(json!({"type": "repository", "name": name, "actions": granted}))
            })
            .collect();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({"iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "access": access});
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), message.as_bytes())
            .expect("a signature");
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        // `access_token` is the field of OAuth 2, and `token` is the older field. Registries use
        // both.
        let name = if how == "refresh" {
            "access_token"
        } else {
            "token"
        };
        (
            StatusCode::OK,
            Json(json!({name: token, "expires_in": 300})),
        )
    }

    fn refuse(&self, how: &str, scope: &str) -> (StatusCode, Json<Value>) {
        self.record(how, scope);
        (
            StatusCode::UNAUTHORIZED,
            Json(json!({"errors": [{"code": "UNAUTHORIZED"}]})),
        )
    }

    fn record(&self, how: &str, scope: &str) {
        self.requests
            .lock()
            .expect("the list")
            .push(format!("{how} {scope}"));
    }
}
