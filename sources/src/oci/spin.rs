//! The description of a Spin application (its "locked app"): the layer of each component.
//!
//! The format is that of `crates/locked-app` of <https://github.com/spinframework/spin>
//! (Apache-2.0). No code was copied.

use serde::Deserialize;

use crate::{Digest, Error, ErrorKind};

#[derive(Deserialize)]
struct Application {
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    id: String,
    #[serde(default)]
    source: Source,
}

#[derive(Default, Deserialize)]
struct Source {
    digest: Option<String>,
}

/// The digest of the module of one component: of the `wanted` component, or of the only component
/// if none is `wanted`.
pub(super) fn component(description: &[u8], wanted: Option<&str>) -> Result<Digest, Error> {
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            "the description of the Spin application is malformed",
        )
    };
    let application: Application =
        go_json::from_slice(description).map_err(|error| malformed().caused_by(error))?;
    let found = application
        .components
        .iter()
        .filter(|component| wanted.is_none_or(|wanted| component.id == wanted));
    let found: Vec<&Component> = found.collect();
    if let [one] = found.as_slice() {
        let digest = one.source.digest.as_deref().ok_or_else(malformed)?;
        return digest.parse().map_err(|error| malformed().caused_by(error));
    }
    let ids = application
        .components
        .iter()
        .take(10)
        .map(|component| component.id.as_str());
    let ids = ids.collect::<Vec<_>>().join(", ");
    let (kind, what) = match (wanted, found.is_empty()) {
        (Some(wanted), true) => (
            ErrorKind::NotFound,
            format!("the Spin application has no component `{wanted}`"),
        ),
        _ => (
            ErrorKind::Ambiguous,
            format!("the Spin application has {} components", found.len()),
        ),
    };
    Err(
        Error::new(kind, format!("{what}; its components are: {ids}"))
            .with_hint("choose one with `module: {oci: {ref: …, layer: COMPONENT}}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_component_is_chosen_and_several_need_a_name() {
        let digest = Digest::of(b"a");
        let component_of = |id: &str| {
            format!(
                r#"{{"id":"{id}","source":{{"content_type":"application/wasm","digest":"{digest}"}}}}"#
            )
        };
        let one = format!(
            r#"{{"spin_lock_version":1,"components":[{}]}}"#,
            component_of("a")
        );
        assert_eq!(component(one.as_bytes(), None).unwrap(), digest);
        let null = format!(
            r#"{{"metadata":null,"components":[{{"id":"n","source":null,"files":null}},{}]}}"#,
            component_of("a")
        );
        assert_eq!(component(null.as_bytes(), Some("a")).unwrap(), digest);
        let two = format!(
            r#"{{"components":[{},{}]}}"#,
            component_of("a"),
            component_of("b")
        );
        assert_eq!(component(two.as_bytes(), Some("b")).unwrap(), digest);
        assert_eq!(
            component(two.as_bytes(), None).unwrap_err().kind(),
            ErrorKind::Ambiguous
        );
        assert_eq!(
            component(two.as_bytes(), Some("c")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            component(b"[]", None).unwrap_err().kind(),
            ErrorKind::Protocol
        );
    }
}
