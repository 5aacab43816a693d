//! Modules from the server of the original Bindle crate, and invoices that both implementations
//! read.

use serde_json::{Value, json};
use sources::Digest;
use sources::bindle::Invoice;
use wasm_workflow_integration::bindle_server::{BindleServer, original};
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;

use crate::{message, template_of_module};

const NAME: &str = "example.com/tools/noop";
const ID: &str = "example.com/tools/noop/1.0.0";
/// Entry of an `htpasswd` file for the user `user` with the password `secret`, with bcrypt.
const HTPASSWD: &str = "user:$2y$05$WeRtqejVFTgkvBIyUziaguX2lSKnwin32U6K1eYltU5TrmJGKluNa\n";

fn parcel(name: &str, bytes: &[u8], more: &str) -> String {
    let sha256 = Digest::of(bytes);
    let size = bytes.len();
    format!(
        "[[parcel]]\n[parcel.label]\nsha256 = \"{}\"\nmediaType = \"application/wasm\"\nname = \"{name}\"\nsize = {size}\n{more}\n",
        sha256.hex()
    )
}

fn invoice(more: &str) -> String {
    format!("bindleVersion = \"1.0.0\"\n{more}")
}

fn head(name: &str) -> String {
    format!("[bindle]\nname = \"{name}\"\nversion = \"1.0.0\"\n")
}

/// Stores one bindle with the module `noop-command`.
fn store_module(server: &BindleServer) {
    let module = std::fs::read(guest("noop-command")).unwrap();
    server.put_invoice(
        ID,
        &invoice(&format!(
            "{}{}",
            head(NAME),
            parcel("noop.wasm", &module, "")
        )),
    );
    server.put_parcel(&Digest::of(&module), &module);
}

fn executor(server: &BindleServer, sources: &Value) -> Executor {
    let mut config =
        json!({"sources": {"insecure": [server.host], "bindle": {"server": server.host}}});
    for (key, value) in sources.as_object().unwrap() {
        config["sources"][key] = value.clone();
    }
    let env = vec![("BINDLE_PASSWORD".to_owned(), "secret".to_owned())];
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env,
        ..Options::default()
    })
}

fn of(bindle: Value) -> Value {
    template_of_module(json!({"bindle": bindle}))
}

#[tokio::test]
async fn bindles_are_found_by_id_server_and_parcel() {
    let server = BindleServer::start();
    store_module(&server);
    let executor = executor(&server, &json!({}));
    let digest = Digest::of(&std::fs::read(guest("noop-command")).unwrap());
    for bindle in [
        json!(ID),
        json!({"id": ID, "server": server.host}),
        json!({"id": ID, "server": format!("http://{}/v1", server.host), "parcel": "noop.wasm"}),
        json!({"id": ID, "parcel": digest.hex()}),
    ] {
        let node = executor.node(&of(bindle.clone())).await;
        assert_eq!(node["phase"], "Succeeded", "{bindle}: {node}");
    }
    let node = executor
        .node(&template_of_module(json!(format!("bindle://{ID}"))))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    for (bindle, expected) in [
        (
            json!("example.com/none/1.0.0"),
            "has no bindle `example.com/none/1.0.0`",
        ),
        (
            json!({"id": ID, "parcel": "x"}),
            "the bindle has no parcel `x`; its parcels are: `noop.wasm`",
        ),
        (json!("../../x/1.0.0"), "its name must be letters, digits"),
    ] {
        let node = executor.node(&of(bindle)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
    let node = Executor::start().node(&of(json!(ID))).await;
    assert!(
        message(&node).contains("no Bindle server is named"),
        "{node}"
    );
}

/// The original server does not verify the content that it serves, so the executor must. The server
/// caches invoices in memory, so each case has an id of its own.
#[tokio::test]
async fn content_from_a_bindle_server_is_verified() {
    let server = BindleServer::start();
    let module = std::fs::read(guest("noop-command")).unwrap();
    let digest = Digest::of(&module);
    let complete = |name: &str, more: &str| {
        invoice(&format!(
            "{more}{}{}",
            head(name),
            parcel("noop.wasm", &module, "")
        ))
    };
    let executor = executor(&server, &json!({}));
    let mut changed = module.clone();
    changed[20] ^= 1;
    server.put_invoice(ID, &complete(NAME, ""));
    for (parcel, expected) in [
        (&changed[..], "expected content with digest"),
        (&module[..100], "`http://127.0.0.1:"),
    ] {
        server.put_parcel(&digest, parcel);
        let node = executor.node(&of(json!(ID))).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
    server.put_invoice(
        "example.com/yanked/1.0.0",
        &complete("example.com/yanked", "yanked = true\n"),
    );
    let node = executor.node(&of(json!("example.com/yanked/1.0.0"))).await;
    assert!(
        message(&node).contains("The bindle may have been yanked"),
        "{node}"
    );
    server.put_invoice("example.com/other/1.0.0", &complete(NAME, ""));
    let node = executor.node(&of(json!("example.com/other/1.0.0"))).await;
    assert!(
        message(&node).contains("is the invoice of another bindle"),
        "{node}"
    );
}

#[tokio::test]
async fn bindle_servers_get_the_operators_password() {
    let server = BindleServer::start_with(Some(HTPASSWD));
    store_module(&server);
    let right = json!([{"host": server.host, "username": "user", "passwordFrom": {"env": "BINDLE_PASSWORD"}}]);
    let node = executor(&server, &json!({"credentials": right}))
        .node(&of(json!(ID)))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let wrong = json!([{"host": server.host, "username": "nobody", "passwordFrom": {"env": "BINDLE_PASSWORD"}}]);
    for (sources, expected) in [
        (
            json!({"credentials": wrong}),
            "with the credentials of `sources.credentials[0]`",
        ),
        (
            json!({}),
            "refuses bindle `example.com/tools/noop/1.0.0` (403 Forbidden)",
        ),
    ] {
        let node = executor(&server, &sources).node(&of(json!(ID))).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
}

/// The original crate makes the signatures.
#[tokio::test]
async fn bindles_need_a_signature_by_a_trusted_key() {
    let server = BindleServer::start();
    let module = std::fs::read(guest("noop-command")).unwrap();
    let other = std::fs::read(guest("trap")).unwrap();
    for module in [&module, &other] {
        server.put_parcel(&Digest::of(module), module);
    }
    let signed = |name: &str| {
        original(
            "sign",
            &invoice(&format!(
                "{}{}",
                head(name),
                parcel("noop.wasm", &module, "")
            )),
        )
    };
    let key_of = |signed: &str| {
        signed
            .split("key = \"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    };
    let keys = |key: &str| json!({"bindle": {"server": server.host, "keys": [{"label": "ada", "key": key}]}});
    let unsigned = invoice(&format!(
        "{}{}",
        head("unsigned"),
        parcel("noop.wasm", &module, "")
    ));
    let good = signed("good");
    let swapped = signed("swapped");
    server.put_invoice("unsigned/1.0.0", &unsigned);
    server.put_invoice("good/1.0.0", &good);
    // The invoice names another parcel than the signed parcel.
    let tampered = swapped
        .replace(Digest::of(&module).hex(), Digest::of(&other).hex())
        .replace(
            &format!("size = {}", module.len()),
            &format!("size = {}", other.len()),
        );
    server.put_invoice("swapped/1.0.0", &tampered);
    for (id, key, expected) in [
        (
            "unsigned",
            key_of(&good),
            "no creator or approver with a trusted key signed the bindle",
        ),
        ("good", key_of(&good), ""),
        (
            "good",
            key_of(&swapped),
            "no creator or approver with a trusted key signed the bindle",
        ),
        (
            "swapped",
            key_of(&swapped),
            "the bindle's signature with the key of `ada` is invalid",
        ),
    ] {
        let node = executor(&server, &keys(&key))
            .node(&of(json!(format!("{id}/1.0.0"))))
            .await;
        assert_eq!(
            node["phase"] == "Succeeded",
            expected.is_empty(),
            "{id}: {node}"
        );
        assert!(message(&node).contains(expected), "{id}: {node}");
    }
}

/// A bindle that was fetched without a configured key is verified once a key is configured.
#[tokio::test]
async fn stored_bindles_are_verified_against_the_current_keys() {
    let server = BindleServer::start();
    let cache = tempfile::tempdir().unwrap();
    store_module(&server);
    let run = async |keys: Value| {
        let config = json!({"sources": {"insecure": [server.host], "bindle": {"server": server.host, "keys": keys}}});
        let options = Options {
            config: Some(config.to_string()),
            cache: Some(cache.path().to_owned()),
            ..Options::default()
        };
        Executor::start_with(options).node(&of(json!(ID))).await
    };
    assert_eq!(run(json!([])).await["phase"], "Succeeded");
    let node =
        run(json!([{"label": "ada", "key": "Kcs1TSFDkN+dED0Y6Np0fPBqmvUz0EAULIlUsnlU1sw="}])).await;
    assert!(
        message(&node).contains("no creator or approver with a trusted key signed the bindle"),
        "{node}"
    );
}

/// This project and the original crate read an invoice to equal values.
#[test]
fn invoices_are_read_like_the_original_crate_reads_them() {
    let features = "origin = \"x\"\n[parcel.label.annotations]\na = \"b\"\n[parcel.label.feature.wasm]\nentrypoint = \"true\"\n[parcel.conditions]\nmemberOf = [\"g\"]\nrequires = [\"h\"]\n";
    let groups = "[[group]]\nname = \"g\"\nrequired = true\nsatisfiedBy = \"oneOf\"\n[[group]]\nname = \"h\"\n";
    let described = "description = \"d\"\nauthors = [\"a\", \"b\"]\n[annotations]\nk = \"v\"\n";
    let parcels = format!("{}{}", parcel("a", b"a", features), parcel("b", b"b", ""));
    for text in [
        invoice(&head(NAME)),
        invoice(&format!(
            "yanked = false\n{}{described}{parcels}{groups}",
            head(NAME)
        )),
        original("sign", &invoice(&format!("{}{parcels}", head(NAME)))),
    ] {
        let ours: Invoice = toml::from_str(&text).unwrap();
        let theirs: Invoice = serde_json::from_str(&original("json", &text)).unwrap();
        assert_eq!(ours, theirs, "{text}");
    }
}
