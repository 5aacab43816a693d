//! Finds the credentials for a host and path, by the rule of the kubelet
//! (`pkg/credentialprovider/keyring.go` of Kubernetes).
//!
//! - A key is `host[:port][/path]`, with or without a scheme. `/v1/` and `/v2/` before the path are
//!   ignored.
//! - A key matches a target if the ports are equal, the hosts have the same number of labels, each
//!   label matches, and the target's path starts with the key's path. A label of the key may be a
//!   glob pattern.
//! - More specific keys come first: the keys are in reverse order of their texts. A key may have
//!   several credentials.
//! - The names of Docker Hub's hosts are equal.
//!
//! There are two differences to the kubelet. Port 443 is equal to no port, because references drop
//! it. And every target has a host: for the kubelet, a name without a host is a repository on
//! Docker Hub, but here it may be a web server with the name `files`.

use net::{Authority, split_port};

use super::{Candidate, DockerConfig, glob};

const DOCKER_HUB: &str = "docker.io";
/// Number of hosts of an origin that an error shows.
const MAX_HOSTS: usize = 5;

/// The credentials of one origin, for example of a Secret.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// The entries in reverse order of their keys. Equal keys are in the order of insertion.
    entries: Vec<Entry>,
    /// The parts of the origin that cannot be used.
    omissions: Vec<Omission>,
    /// The origins whose hosts the requester may see in an error.
    shown: Vec<String>,
}

/// A part of an origin of credentials that cannot be used.
#[derive(Clone, Debug)]
struct Omission {
    /// The key in normal form, if the part is about one host.
    key: Option<String>,
    /// The origin of the part, and its defect.
    why: String,
}

/// A credential with its key: the pattern of hosts and paths.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    candidate: Candidate,
}

impl Keyring {
    /// Creates a keyring with the credentials of a Docker configuration. `origin` names the
    /// configuration in errors.
    pub fn of(config: DockerConfig, origin: &str) -> Self {
        let mut keyring = Self::default();
        let (credentials, left_out) = config.into_parts();
        for part in left_out {
            keyring.omit(part.key.as_deref(), format!("{origin}: {}", part.why));
        }
        for (name, credential) in credentials {
            keyring.insert(
                &name,
                Candidate {
                    credential,
                    origin: origin.to_owned(),
                },
            );
        }
        keyring
    }

    /// Adds one credential for `host[:port][/path]`.
    pub fn insert(&mut self, name: &str, candidate: Candidate) {
        let Some(key) = key(name) else {
            let name: String = name.chars().take(100).collect();
            let why = format!(
                "{}: the entry `{name}` does not name a host",
                candidate.origin
            );
            self.omit(None, why);
            return;
        };
        self.insert_at(key, candidate);
    }

    fn insert_at(&mut self, key: String, candidate: Candidate) {
        let at = self.entries.partition_point(|other| other.key >= key);
        self.entries.insert(at, Entry { key, candidate });
    }

    /// Records a part of the origin that cannot be used. `name` is the key of the part, if it is
    /// about one `host[:port][/path]`. `why` names the origin and contains nothing secret.
    pub fn omit(&mut self, name: Option<&str>, why: String) {
        tracing::warn!(why, "a part of the credentials is not used");
        let key = name.and_then(key);
        self.omissions.push(Omission { key, why });
    }

    /// Lets errors show which hosts this origin has credentials for. Only for an origin that
    /// belongs to the requester.
    #[must_use]
    pub fn with_hosts_shown(mut self, origin: &str) -> Self {
        self.shown.push(origin.to_owned());
        self
    }

    /// Adds everything of another keyring.
    pub fn merge(&mut self, other: Self) {
        for Entry { key, candidate } in other.entries {
            self.insert_at(key, candidate);
        }
        self.omissions.extend(other.omissions);
        self.shown.extend(other.shown);
    }

    /// Why this keyring has nothing, or too little, for `target`: the parts that cannot be used,
    /// and the origins with credentials for other hosts only.
    pub(super) fn missing(&self, target: &str) -> Vec<String> {
        let (host, _) = split_path(target);
        let normal = normal(target);
        let of_target = |key: &String| is_match(key, &normal);
        let omitted = self
            .omissions
            .iter()
            .filter(|omission| omission.key.as_ref().is_none_or(of_target))
            .map(|omission| omission.why.clone());
        let has_any = self.entries.iter().any(|entry| of_target(&entry.key));
        let shown = self.shown.iter().filter(|_| !has_any);
        let elsewhere = shown.filter_map(|origin| {
            let entries = self.entries.iter();
            let keys = entries
                .filter(|entry| entry.candidate.origin == *origin)
                .map(|entry| entry.key.as_str());
            let mut hosts: Vec<&str> = Vec::new();
            for key in keys {
                if hosts.len() < MAX_HOSTS && !hosts.contains(&key) {
                    hosts.push(key);
                }
            }
            match hosts.as_slice() {
                [] => {
                    let is_known = self
                        .omissions
                        .iter()
                        .any(|part| part.why.starts_with(origin));
                    (!is_known).then(|| format!("{origin} has no credentials"))
                }
                hosts => Some(format!(
                    "{origin} has nothing for {host}; it has {}",
                    hosts.join(", ")
                )),
            }
        });
        omitted.chain(elsewhere).collect()
    }

    /// The credentials for `target`, `host[:port]/path`, best first.
    pub fn lookup(&self, target: &str) -> Vec<Candidate> {
        let target = normal(target);
        let matching = self
            .entries
            .iter()
            .filter(|entry| is_match(&entry.key, &target));
        matching.map(|entry| entry.candidate.clone()).collect()
    }

    /// Whether the keyring has no credentials.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The target as keys are written: without the default port, and with one name of Docker Hub.
fn normal(target: &str) -> String {
    let (host, path) = split_path(target);
    format!("{}{path}", one_hub(without_port(host)))
}

/// Removes the default port of HTTPS, as in references.
fn without_port(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

/// The key of a name: lower-case host, no scheme, no API version. `None` if the name has no host.
fn key(name: &str) -> Option<String> {
    let with_scheme = match name.starts_with("https://") || name.starts_with("http://") {
        true => name.to_owned(),
        false => format!("https://{name}"),
    };
    let (host, path) = split_path(with_scheme.split_once("://")?.1);
    // A key may have glob patterns, which are not hosts.
    let host = match host.parse::<Authority>() {
        Ok(authority) if host.starts_with('[') => authority.to_string(),
        _ => host.to_ascii_lowercase(),
    };
    let host = one_hub(without_port(&host)).to_owned();
    if host.is_empty() || host.contains(['@', ' ']) {
        return None;
    }
    let path = path
        .strip_prefix("/v1/")
        .or_else(|| path.strip_prefix("/v2/"))
        .map_or(path.to_owned(), |rest| format!("/{rest}"));
    Some(if matches!(path.as_str(), "" | "/") {
        host
    } else {
        format!("{host}{path}")
    })
}

/// The parts of `host[:port][/path]`. Port and path may be empty.
struct Parts<'a> {
    host: &'a str,
    port: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (authority, path) = split_path(text);
        let (host, port) = split_port(authority);
        Self { host, port, path }
    }
}

fn split_path(schemeless: &str) -> (&str, &str) {
    schemeless.split_at(schemeless.find('/').unwrap_or(schemeless.len()))
}

fn is_match(key: &str, target: &str) -> bool {
    let key = Parts::of(key);
    let target = Parts::of(target);
    key.port == target.port
        && target.path.starts_with(key.path)
        && is_match_of_hosts(key.host, target.host)
}

fn is_match_of_hosts(key: &str, target: &str) -> bool {
    // The brackets of an IPv6 address are not the brackets of a glob pattern.
    if key.starts_with('[') && key.ends_with(']') && key.contains(':') {
        return key == target;
    }
    let patterns: Vec<&str> = key.split('.').collect();
    let labels: Vec<&str> = target.split('.').collect();
    patterns.len() == labels.len()
        && patterns
            .iter()
            .zip(labels)
            .all(|(pattern, label)| glob::matches(pattern, label))
}

/// Replaces the other names of Docker Hub by `docker.io`.
fn one_hub(host: &str) -> &str {
    if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        DOCKER_HUB
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::super::Credential;
    use super::*;

    fn ring(keys: &[&str]) -> Keyring {
        let mut ring = Keyring::default();
        for key in keys {
            let credential = Credential::Bearer(SecretString::from(*key));
            ring.insert(
                key,
                Candidate {
                    credential,
                    origin: (*key).to_owned(),
                },
            );
        }
        ring
    }

    fn found(keys: &[&str], target: &str) -> Vec<String> {
        ring(keys)
            .lookup(target)
            .into_iter()
            .map(|candidate| candidate.origin)
            .collect()
    }

    /// The cases of `TestURLsMatch` and `TestDockerKeyringForGlob` in the kubelet's
    /// `keyring_test.go`.
    #[test]
    fn hosts_and_paths_match_as_in_the_kubelet() {
        let cases = [
            ("*.kubernetes.io", "prefix.kubernetes.io", true),
            ("prefix.*.io", "prefix.kubernetes.io", true),
            ("prefix.kubernetes.*", "prefix.kubernetes.io", true),
            ("*-good.kubernetes.io", "prefix-good.kubernetes.io", true),
            ("prefix*.kubernetes.io", "prefix-good.kubernetes.io", true),
            ("prefix.*.io", "prefix.kubernetes.io/some/path", true),
            ("*.*.kubernetes.io", "prefix.kubernetes.io", false),
            ("*.kubernetes.io", "kubernetes.io", false),
            ("*.kubernetes.io", "a.b.kubernetes.io", false),
            ("kubernetes.io", "kubernetes.com", false),
            ("k*.io", "quay.io", false),
            ("kubernetes.io:443", "kubernetes.io:443", true),
            // Not as in the kubelet: references drop port 443, so it is equal to no port.
            ("kubernetes.io", "kubernetes.io:443", true),
            ("*.kubernetes.io:443", "prefix.kubernetes.io", true),
            ("kubernetes.io:444", "kubernetes.io", false),
            (
                "*.kubernetes.io:443/path",
                "prefix.kubernetes.io:443/path",
                true,
            ),
            ("*.kubernetes.io/path", "prefix.kubernetes.io/other", false),
            (
                "https://*.kubernetes.io/path",
                "prefix.kubernetes.io/path",
                true,
            ),
            ("http://foo.bar:8080/v2/", "foo.bar:8080/image", true),
            ("foo.bar/v1/path", "foo.bar/path/image", true),
            ("foo.bar/v1", "foo.bar/path", false),
            ("foo.bar/path", "foo.bar/pathology", true),
            ("*", "localhost", true),
            ("*", "a.b", false),
            ("GHCR.io", "ghcr.io/a/b", true),
            ("[", "ghcr.io/a", false),
            ("[a-g]hcr.io", "ghcr.io/a", true),
            ("[::1]:5000", "[::1]:5000/a", true),
            ("https://[0::1]:5000/v2/", "[::1]:5000/a", true),
            ("[::1]:443/a", "[::1]/a/b", true),
            ("[::1]:5000", "[::1]:5001/a", false),
            ("[::1]:5000", "[::2]:5000/a", false),
            ("[::1]", ":", false),
        ];
        for (key, target, expected) in cases {
            assert_eq!(
                !found(&[key], target).is_empty(),
                expected,
                "{key} {target}"
            );
        }
    }

    #[test]
    fn all_matching_credentials_are_found_most_specific_first() {
        let keys = [
            "*.io",
            "ghcr.io",
            "ghcr.io/acme/private",
            "ghcr.io/acme",
            "quay.io",
        ];
        assert_eq!(
            found(&keys, "ghcr.io/acme/private/module"),
            ["ghcr.io/acme/private", "ghcr.io/acme", "ghcr.io", "*.io"]
        );
        assert_eq!(found(&keys, "ghcr.io/other"), ["ghcr.io", "*.io"]);
        let mut twice = ring(&["ghcr.io"]);
        let credential = Credential::Bearer(SecretString::from("second"));
        twice.insert(
            "https://ghcr.io/v2/",
            Candidate {
                credential,
                origin: "second".to_owned(),
            },
        );
        let origins: Vec<_> = twice
            .lookup("ghcr.io/x")
            .into_iter()
            .map(|candidate| candidate.origin)
            .collect();
        assert_eq!(origins, ["ghcr.io", "second"]);
    }

    #[test]
    fn all_names_of_docker_hub_match_its_credential() {
        let hub = ["https://index.docker.io/v1/"];
        for target in [
            "docker.io/library/x",
            "index.docker.io/a/b",
            "registry-1.docker.io/a/b",
        ] {
            assert_eq!(found(&hub, target).len(), 1, "{target}");
        }
        for target in [
            "ghcr.io/a",
            "localhost:5000/a",
            "evil.docker.io.example/a",
            "files/module.wasm",
        ] {
            assert!(found(&hub, target).is_empty(), "{target}");
        }
    }

    #[test]
    fn a_keyring_says_what_it_lacks_for_a_host() {
        let mut keyring = ring(&["ghcr.io", "quay.io/acme"]);
        for entry in &mut keyring.entries {
            entry.candidate.origin = "Secret `s`".to_owned();
        }
        keyring.omit(
            Some("https://bad.example/v1/"),
            "the entry of bad".to_owned(),
        );
        keyring.omit(None, "a file".to_owned());
        assert_eq!(
            keyring.missing("bad.example/a"),
            ["the entry of bad", "a file"]
        );
        assert_eq!(keyring.missing("ghcr.io/a"), ["a file"]);
        let shown = keyring
            .with_hosts_shown("Secret `s`")
            .with_hosts_shown("Secret `t`");
        assert_eq!(
            shown.missing("quay.io/other/m"),
            [
                "a file",
                "Secret `s` has nothing for quay.io; it has quay.io/acme, ghcr.io",
                "Secret `t` has no credentials"
            ]
        );
        assert_eq!(shown.missing("ghcr.io/a"), ["a file"]);
    }

    #[test]
    fn a_key_that_is_not_a_host_is_ignored() {
        assert!(ring(&["", "https://", "user@host", "a b"]).is_empty());
    }
}
