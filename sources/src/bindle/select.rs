//! Chooses the parcel of a bindle that has the module.
//!
//! Without a choice by the reference, the candidates are the modules among the needed parcels. A
//! parcel with the feature `wasm.entrypoint` comes first, then the parcels of a group with the name
//! `entrypoint` that needs one of its parcels. Several candidates are an error that lists them.

use std::collections::BTreeSet;

use super::invoice::{Group, Invoice, Label, Parcel};
use crate::package::{is_module_name, listed};
use crate::{Digest, Error, ErrorKind};

/// Name of the feature and of the group that mark the module to start.
const ENTRYPOINT: &str = "entrypoint";
/// The maximum number of parcels. The search for needed parcels visits each parcel once per group.
const MAX_PARCELS: usize = 1000;
/// The maximum number of group names in all conditions. The search visits each name once per group.
const MAX_CONDITIONS: usize = 10_000;

impl Label {
    /// Whether the label has `feature.SECTION.NAME = "true"`.
    fn has_feature(&self, section: &str, name: &str) -> bool {
        let section = self
            .feature
            .as_ref()
            .and_then(|feature| feature.get(section));
        section
            .and_then(|features| features.get(name))
            .is_some_and(|value| value == "true")
    }

    fn is_module(&self) -> bool {
        let media_type = self.media_type.split(';').next().unwrap_or_default().trim();
        let named = media_type == "application/wasm" || is_module_name(&self.name);
        // A static file of Wagi may be a module for the browser.
        named
            && !self.has_feature("wasm", "library")
            && !self.has_feature("wasm", "data")
            && !self.has_feature("wagi", "file")
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
    /// Whether a required group needs at least one of its parcels (`satisfiedBy`).
    fn needs_parcels(&self) -> Result<bool, Error> {
        match self.satisfied_by.as_deref() {
            None | Some("allOf" | "oneOf") => Ok(true),
            Some("optional" | "anyOf") => Ok(false),
            Some(other) => {
                let other: String = other.chars().take(50).collect();
                let message = format!(
                    "a group of the bindle has `satisfiedBy = \"{other}\"`, which is not supported"
                );
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }
}

impl Invoice {
    /// The label of the parcel with the module.
    ///
    /// `wanted` is the name or the digest of a parcel. Without it, the bindle must have exactly one
    /// candidate.
    pub fn module(&self, wanted: Option<&str>) -> Result<&Label, Error> {
        if self.parcels().len() > MAX_PARCELS {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the bindle has more than {MAX_PARCELS} parcels"),
            ));
        }
        match wanted {
            Some(wanted) => self.named_parcel(wanted),
            None => self.only_module(),
        }
    }

    fn parcels(&self) -> &[Parcel] {
        self.parcel.as_deref().unwrap_or_default()
    }

    /// The parcel with this name or digest.
    fn named_parcel(&self, wanted: &str) -> Result<&Label, Error> {
        // A text in the format of a digest is never a name: references are pinned with it.
        let digest = format!("sha256:{wanted}").parse::<Digest>().ok();
        let is_wanted = |label: &&Label| match &digest {
            Some(digest) => label.digest().is_ok_and(|actual| actual == *digest),
            None => label.name == wanted,
        };
        let mut labels = self.parcels().iter().map(|parcel| &parcel.label);
        labels.find(is_wanted).ok_or_else(|| {
            let names = self
                .parcels()
                .iter()
                .map(|parcel| parcel.label.name.as_str());
            let message = format!(
                "the bindle has no parcel `{wanted}`; its parcels are: {}",
                listed(names)
            );
            Error::new(ErrorKind::NotFound, message)
        })
    }

    /// The only candidate.
    fn only_module(&self) -> Result<&Label, Error> {
        match self.candidates()?.as_slice() {
            [only] => Ok(&only.label),
            [] => Err(self.no_module()),
            several => {
                let names = listed(several.iter().map(|parcel| parcel.label.name.as_str()));
                Err(Error::new(
                    ErrorKind::Ambiguous,
                    format!("the bindle has several modules: {names}"),
                )
                .with_hint("choose one with `module: {bindle: {id: …, parcel: …}}`"))
            }
        }
    }

    /// The modules among the needed parcels, or the preferred ones of them.
    fn candidates(&self) -> Result<Vec<&Parcel>, Error> {
        let conditions = self
            .parcels()
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
                .filter(|parcel| parcel.label.has_feature("wasm", ENTRYPOINT))
                .collect(),
            modules
                .iter()
                .copied()
                .filter(|parcel| entry_group.is_some_and(|group| parcel.is_in(group)))
                .collect(),
            modules,
        ];
        Ok(narrowed
            .into_iter()
            .find(|parcels: &Vec<&Parcel>| !parcels.is_empty())
            .unwrap_or_default())
    }

    /// The error for a bindle without a candidate. The hint lists the modules that are not needed.
    fn no_module(&self) -> Error {
        let error = Error::new(
            ErrorKind::Unsupported,
            "none of the parcels that the bindle requires is a module",
        );
        let modules = self
            .parcels()
            .iter()
            .map(|parcel| &parcel.label)
            .filter(|label| label.is_module());
        let names: Vec<&str> = modules.map(|label| label.name.as_str()).collect();
        match names.as_slice() {
            [] => error,
            names => error.with_hint(format!(
                "choose one of its other modules with `parcel`: {}",
                listed(names.iter().copied())
            )),
        }
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.group
            .as_deref()
            .unwrap_or_default()
            .iter()
            .find(|group| group.name == name)
    }

    /// The needed parcels. A parcel is needed in one of these cases:
    ///
    /// - The parcel is in no group.
    /// - The parcel is in a required group, and the group needs parcels.
    ///
    /// A group is required if it has `required = true`, or if a needed parcel requires it. If a
    /// group needs only one of its parcels, all of them are returned.
    fn needed(&self) -> Result<Vec<&Parcel>, Error> {
        let parcels = self.parcels();
        let groups = self.group.as_deref().unwrap_or_default();
        let mut required: BTreeSet<&str> = groups
            .iter()
            .filter(|group| group.required == Some(true))
            .map(|group| group.name.as_str())
            .collect();
        loop {
            let mut needing = BTreeSet::new();
            for group in groups
                .iter()
                .filter(|group| required.contains(group.name.as_str()))
            {
                if group.needs_parcels()? {
                    needing.insert(group.name.as_str());
                }
            }
            let is_needing = |name: &String| needing.contains(name.as_str());
            let needed: Vec<&Parcel> = parcels
                .iter()
                .filter(|parcel| {
                    parcel.groups().is_empty() || parcel.groups().iter().any(is_needing)
                })
                .collect();
            let before = required.len();
            required.extend(
                needed
                    .iter()
                    .flat_map(|parcel| parcel.requires())
                    .map(String::as_str),
            );
            if required.len() == before {
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
    fn only_required_groups_have_candidates() {
        let optional = group("extras", false) + &plain("a") + &of("b", "extras");
        assert_eq!(
            chosen(&optional, None),
            Ok("a".to_owned()),
            "a group that is not required is ignored"
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
            "a needed parcel requires the group"
        );
    }

    #[test]
    fn the_group_entrypoint_marks_the_module() {
        let entry = |by: &str| group("entrypoint", true) + &format!("satisfiedBy = '{by}'\n");
        let one = plain("a") + &of("b", "entrypoint");
        assert_eq!(
            chosen(&(entry("oneOf") + &one), None),
            Ok("b".to_owned()),
            "the group marks the module"
        );
        assert_eq!(
            chosen(&(entry("allOf") + &one), None),
            Err(ErrorKind::Ambiguous)
        );
        assert_eq!(
            chosen(&(entry("optional") + &one), None),
            Ok("a".to_owned()),
            "an optional group needs no parcel"
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
            "`satisfiedBy` of a group that is not required is not read"
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
            "the feature of a parcel overrides the group"
        );
    }
}
