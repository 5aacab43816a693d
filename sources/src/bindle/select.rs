//! The choice of the parcel with the module.

use std::collections::BTreeSet;

use super::invoice::{Group, Invoice, Label, Parcel};
use crate::package::{is_module_name, listed};
use crate::{Digest, Error, ErrorKind};

/// What marks where to begin: a feature of a parcel, or a group.
const ENTRYPOINT: &str = "entrypoint";
/// Each of them is looked at once for each group that is needed.
const MAX_PARCELS: usize = 1000;
/// In all conditions together: they are gone through once for each group that comes in.
const MAX_CONDITIONS: usize = 10_000;

impl Label {
    fn has(&self, about: &str, offer: &str) -> bool {
        let offers = self.feature.as_ref().and_then(|feature| feature.get(about));
        offers
            .and_then(|offers| offers.get(offer))
            .is_some_and(|value| value == "true")
    }

    fn is_module(&self) -> bool {
        let media_type = self.media_type.split(';').next().unwrap_or_default().trim();
        let named = media_type == "application/wasm" || is_module_name(&self.name);
        // Wagi's static files may be modules for the browser.
        named
            && !self.has("wasm", "library")
            && !self.has("wasm", "data")
            && !self.has("wagi", "file")
    }
}

impl Parcel {
    fn groups(&self) -> &[String] {
        self.conditions
            .as_ref()
            .and_then(|conditions| conditions.member_of.as_deref())
            .unwrap_or_default()
    }

    fn is_in(&self, group: &Group) -> bool {
        self.groups().contains(&group.name)
    }

    fn requires(&self) -> &[String] {
        self.conditions
            .as_ref()
            .and_then(|conditions| conditions.requires.as_deref())
            .unwrap_or_default()
    }
}

impl Group {
    fn needs_parcels(&self) -> Result<bool, Error> {
        match self.satisfied_by.as_deref() {
            None | Some("allOf" | "oneOf") => Ok(true),
            Some("optional" | "anyOf") => Ok(false),
            Some(other) => {
                let other: String = other.chars().take(50).collect();
                let message = format!(
                    "a group of the bindle is satisfied by `{other}`, which is not known here"
                );
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }
}

impl Invoice {
    /// The parcel with the module: the one with the name or digest `wanted`, or the only one that can be meant.
    pub fn module(&self, wanted: Option<&str>) -> Result<&Label, Error> {
        let parcels = self.parcel.as_deref().unwrap_or_default();
        if parcels.len() > MAX_PARCELS {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the bindle has more than {MAX_PARCELS} parcels"),
            ));
        }
        if let Some(wanted) = wanted {
            let mut labels = parcels.iter().map(|parcel| &parcel.label);
            let names = parcels.iter().map(|parcel| parcel.label.name.as_str());
            // What looks like a digest is one, and no name: it is what a reference is pinned by.
            let digest = format!("sha256:{wanted}").parse::<Digest>().ok();
            let is_meant = |label: &&Label| match &digest {
                Some(digest) => label.digest().is_ok_and(|actual| actual == *digest),
                None => label.name == wanted,
            };
            return labels.find(is_meant).ok_or_else(|| {
                let message = format!(
                    "the bindle has no parcel `{wanted}`; its parcels are: {}",
                    listed(names)
                );
                Error::new(ErrorKind::NotFound, message)
            });
        }
        let conditions = parcels
            .iter()
            .map(|parcel| parcel.groups().len() + parcel.requires().len())
            .sum::<usize>();
        if conditions > MAX_CONDITIONS {
            let message = format!(
                "the conditions of the bindle's parcels name more than {MAX_CONDITIONS} groups"
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let modules: Vec<&Parcel> = self
            .needed()?
            .into_iter()
            .filter(|parcel| parcel.label.is_module())
            .collect();
        let entry_group = self
            .group(ENTRYPOINT)
            .filter(|group| group.satisfied_by.as_deref() == Some("oneOf"));
        let narrowed = [
            modules
                .iter()
                .copied()
                .filter(|parcel| parcel.label.has("wasm", ENTRYPOINT))
                .collect(),
            modules
                .iter()
                .copied()
                .filter(|parcel| entry_group.is_some_and(|group| parcel.is_in(group)))
                .collect(),
            modules,
        ];
        let candidates: Vec<&Parcel> = narrowed
            .into_iter()
            .find(|some| !some.is_empty())
            .unwrap_or_default();
        match candidates.as_slice() {
            [only] => Ok(&only.label),
            [] => {
                let error = Error::new(
                    ErrorKind::Unsupported,
                    "no parcel that the bindle needs is a module",
                );
                let modules = parcels
                    .iter()
                    .map(|parcel| &parcel.label)
                    .filter(|label| label.is_module());
                let names: Vec<&str> = modules.map(|label| label.name.as_str()).collect();
                Err(match names.as_slice() {
                    [] => error,
                    names => error.hint(format!(
                        "choose one that it has, by `parcel`: {}",
                        listed(names.iter().copied())
                    )),
                })
            }
            many => {
                let names = listed(many.iter().map(|parcel| parcel.label.name.as_str()));
                Err(Error::new(
                    ErrorKind::Ambiguous,
                    format!("the bindle has several modules: {names}"),
                )
                .hint("choose one with `module: {bindle: {id: …, parcel: …}}`"))
            }
        }
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.group
            .as_deref()
            .unwrap_or_default()
            .iter()
            .find(|group| group.name == name)
    }

    /// The parcels that are in no group, or in one that is required and needs its parcels, and those in groups that they require. Of a group that
    /// needs one of its parcels, any may be meant.
    fn needed(&self) -> Result<Vec<&Parcel>, Error> {
        let parcels = self.parcel.as_deref().unwrap_or_default();
        let groups = self.group.as_deref().unwrap_or_default();
        let mut wanted: BTreeSet<&str> = groups
            .iter()
            .filter(|group| group.required == Some(true))
            .map(|group| group.name.as_str())
            .collect();
        loop {
            let mut needing = BTreeSet::new();
            for group in groups
                .iter()
                .filter(|group| wanted.contains(group.name.as_str()))
            {
                if group.needs_parcels()? {
                    needing.insert(group.name.as_str());
                }
            }
            let comes_in = |name: &String| needing.contains(name.as_str());
            let needed: Vec<&Parcel> = parcels
                .iter()
                .filter(|parcel| parcel.groups().is_empty() || parcel.groups().iter().any(comes_in))
                .collect();
            let before = wanted.len();
            wanted.extend(
                needed
                    .iter()
                    .flat_map(|parcel| parcel.requires())
                    .map(String::as_str),
            );
            if wanted.len() == before {
                return Ok(needed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice(text: &str) -> Invoice {
        toml::from_str(&format!(
            "bindleVersion = '1.0.0'\nbindle = {{name = 'a', version = '1.0.0'}}\n{text}"
        ))
        .unwrap()
    }

    fn parcel(name: &str, media_type: &str, more: &str) -> String {
        let digest = Digest::of(name.as_bytes());
        format!(
            "[[parcel]]\nlabel = {{sha256 = '{}', mediaType = '{media_type}', name = '{name}', size = 1{more}\n",
            digest.hex()
        )
    }

    fn chosen(text: &str, wanted: Option<&str>) -> Result<String, ErrorKind> {
        invoice(text)
            .module(wanted)
            .map(|label| label.name.clone())
            .map_err(|error| error.kind())
    }

    fn wasm(name: &str, more: &str) -> String {
        parcel(name, "application/wasm", more)
    }

    fn plain(name: &str) -> String {
        wasm(name, "}")
    }

    fn feature(name: &str, feature: &str) -> String {
        let feature = format!(", feature = {{wasm = {{{feature} = 'true'}}}}}}");
        wasm(name, &feature)
    }

    fn of(name: &str, group: &str) -> String {
        format!("{}conditions = {{memberOf = ['{group}']}}\n", plain(name))
    }

    fn group(name: &str, required: bool) -> String {
        format!("[[group]]\nname = '{name}'\nrequired = {required}\n")
    }

    #[test]
    fn a_module_is_chosen_by_name_digest_or_feature() {
        assert_eq!(chosen(&plain("a"), None), Ok("a".to_owned()));
        assert_eq!(
            chosen(&(plain("a") + &parcel("b.txt", "text/plain", "}")), None),
            Ok("a".to_owned())
        );
        assert_eq!(
            chosen(&(parcel("c.wasm", "application/octet-stream", "}")), None),
            Ok("c.wasm".to_owned())
        );
        assert_eq!(
            chosen(&(plain("a") + &plain("b")), None),
            Err(ErrorKind::Ambiguous)
        );
        assert_eq!(
            chosen(&(plain("a") + &plain("b")), Some("b")),
            Ok("b".to_owned())
        );
        assert_eq!(
            chosen(&(plain("a") + &plain("b")), Some(Digest::of(b"b").hex())),
            Ok("b".to_owned())
        );
        let named = Digest::of(b"x").hex().to_owned();
        let hex = Digest::of(b"b").hex().to_owned();
        assert_eq!(
            chosen(&(plain(&named) + &plain("b")), Some(&hex)),
            Ok("b".to_owned())
        );
        assert_eq!(
            chosen(&plain(&named), Some(&named)),
            Err(ErrorKind::NotFound),
            "a name that looks like a digest"
        );
        assert_eq!(chosen(&plain("a"), Some("c")), Err(ErrorKind::NotFound));
        assert_eq!(
            chosen(&(plain("a") + &feature("b", "entrypoint")), None),
            Ok("b".to_owned())
        );
        assert_eq!(
            chosen(&(plain("a") + &feature("b", "library")), None),
            Ok("a".to_owned())
        );
        assert_eq!(chosen("", None), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn a_module_is_chosen_in_the_required_groups() {
        let optional = group("extras", false) + &plain("a") + &of("b", "extras");
        assert_eq!(
            chosen(&optional, None),
            Ok("a".to_owned()),
            "what is not required is not meant"
        );
        let required = group("entry", true) + &of("b", "entry") + &parcel("t", "text/plain", "}");
        assert_eq!(chosen(&required, None), Ok("b".to_owned()));
        let needs = format!(
            "{}{}conditions = {{requires = ['more']}}\n",
            group("more", false) + &of("b", "more"),
            parcel("t", "text/plain", "}")
        );
        assert_eq!(
            chosen(&needs, None),
            Ok("b".to_owned()),
            "needed by what is needed"
        );
    }

    #[test]
    fn a_group_named_entrypoint_decides() {
        let entry = |by: &str| group("entrypoint", true) + &format!("satisfiedBy = '{by}'\n");
        let one = plain("a") + &of("b", "entrypoint");
        assert_eq!(
            chosen(&(entry("oneOf") + &one), None),
            Ok("b".to_owned()),
            "the group says where to begin"
        );
        assert_eq!(
            chosen(&(entry("allOf") + &one), None),
            Err(ErrorKind::Ambiguous)
        );
        assert_eq!(
            chosen(&(entry("optional") + &one), None),
            Ok("a".to_owned()),
            "b is a recommendation"
        );
        assert_eq!(
            chosen(&(entry("anyOf") + &of("b", "entrypoint")), None),
            Err(ErrorKind::Unsupported)
        );
        assert_eq!(
            chosen(&(entry("twoOf") + &one), None),
            Err(ErrorKind::Unsupported)
        );
        let unneeded =
            group("more", false) + "satisfiedBy = 'twoOf'\n" + &plain("a") + &of("b", "more");
        assert_eq!(
            chosen(&unneeded, None),
            Ok("a".to_owned()),
            "nobody asks how it is satisfied"
        );
        let two = entry("oneOf") + &plain("a") + &of("b", "entrypoint") + &of("c", "entrypoint");
        assert_eq!(chosen(&two, None), Err(ErrorKind::Ambiguous));
        let message = invoice(&two).module(None).unwrap_err().to_string();
        assert!(
            message.contains("`b`, `c`") && !message.contains("`a`"),
            "{message}"
        );
        let marked = entry("oneOf") + &feature("a", "entrypoint") + &of("b", "entrypoint");
        assert_eq!(
            chosen(&marked, None),
            Ok("a".to_owned()),
            "its own mark counts more"
        );
    }
}
