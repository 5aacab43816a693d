//! The scopes of an access token: `TYPE:NAME:ACTIONS`
//! (<https://distribution.github.io/distribution/spec/auth/scope/>).

use net::Challenge;

use crate::oci::repository::Repository;

/// The maximum number of scopes of one token, and of characters of one scope. The registry chooses
/// the scopes.
const MAX_SCOPES: usize = 16;
const MAX_SCOPE_LENGTH: usize = 1024;

/// The scopes that the challenge names. Empty if the challenge names none.
pub(super) fn named(challenge: &Challenge) -> Vec<String> {
    let mut scopes = Vec::new();
    let text = challenge.parameter("scope").unwrap_or_default();
    for scope in text.split_whitespace() {
        if scope.len() <= MAX_SCOPE_LENGTH && !scopes.iter().any(|other| other == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes.truncate(MAX_SCOPES);
    scopes
}

/// The scopes of the first token: those that the challenge names, or else the own scope of the
/// repository.
///
/// `actions` are added to the scope of this repository, so that one token is enough for a push: the
/// challenge names only the action of one request.
pub(super) fn wanted(challenge: &Challenge, repository: &Repository, actions: &str) -> Vec<String> {
    let own = format!("repository:{}:", repository.name);
    let mut scopes = named(challenge);
    if scopes.is_empty() {
        scopes.push(format!("{own}{actions}"));
    }
    for scope in &mut scopes {
        let Some(named) = scope.strip_prefix(&own) else {
            continue;
        };
        let mut all: Vec<&str> = named.split(',').collect();
        for action in actions.split(',') {
            if !all.contains(&action) {
                all.push(action);
            }
        }
        *scope = format!("{own}{}", all.join(","));
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_for(scope: &str, actions: &str) -> Vec<String> {
        let repository = Repository {
            registry: "r.example".to_owned(),
            name: "team/tool".to_owned(),
            implied: false,
        };
        let challenge = Challenge::parse(&format!("Bearer realm=r, scope=\"{scope}\""));
        wanted(&challenge[0], &repository, actions)
    }

    #[test]
    fn the_scopes_of_the_challenge_are_used() {
        for (scope, actions, expected) in [
            ("", "pull", &["repository:team/tool:pull"][..]),
            ("repository:tool:pull", "pull", &["repository:tool:pull"]),
            (
                "repository:team/tool:pull  registry:catalog:* repository:team/tool:pull",
                "pull",
                &["repository:team/tool:pull", "registry:catalog:*"],
            ),
            (
                "repository:team/tool:pull repository:base:pull",
                "pull,push",
                &["repository:team/tool:pull,push", "repository:base:pull"],
            ),
            (
                "repository:team/tool:push,pull",
                "pull,push",
                &["repository:team/tool:push,pull"],
            ),
            ("aws", "pull", &["aws"]),
        ] {
            assert_eq!(wanted_for(scope, actions), expected, "{scope}");
        }
    }

    #[test]
    fn a_registry_cannot_ask_for_any_number_of_scopes() {
        let many: Vec<String> = (0..100).map(|number| format!("a:{number}:b")).collect();
        assert_eq!(wanted_for(&many.join(" "), "pull").len(), MAX_SCOPES);
        let long = format!("repository:{}:pull", "x".repeat(2000));
        assert_eq!(wanted_for(&long, "pull"), ["repository:team/tool:pull"]);
    }
}
