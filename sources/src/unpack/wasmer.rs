//! The module in a package of the Wasmer registry: a WEBC, or in old ones an archive with a `wasmer.toml`.
//!
//! Which module a command is, and which command a package starts with, is as the `wasmer` program has it (`wasmer-wasix`, its resolver
//! and its runner for WASI).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::image::file_in;
use super::wasmer_manifest::CommandAnnotations;
use super::webc::{self, Container};
use super::{Content, Limits, Unpacked, damaged};
use crate::package::{Defaults, listed};
use crate::{Error, ErrorKind};

/// The runner of plain commands, which may be followed by a version.
const WASI_RUNNER: &str = "https://webc.org/runner/wasi";
const MAX_TOML: usize = 1 << 20;

/// The module of `command`, or of the package's entrypoint.
pub(crate) fn wasmer_package(
    package: &Content,
    command: Option<&str>,
    limits: Limits,
) -> Result<Unpacked, Error> {
    let head = package.head().map_err(|error| damaged(&error))?;
    if webc::is_webc(&head) {
        return in_webc(
            &package
                .bytes(limits.module)
                .map_err(|error| damaged(&error))?,
            command,
        );
    }
    in_archive(package, command, limits)
}

fn in_webc(bytes: &Bytes, wanted: Option<&str>) -> Result<Unpacked, Error> {
    let container = Container::read(bytes)?;
    let manifest = &container.manifest;
    let mounted = manifest
        .package
        .fs
        .iter()
        .map(|mapping| mapping.mount_path.as_str());
    refuse_files(mounted)?;
    let Some(name) = choose(
        wanted,
        manifest.entrypoint.as_deref(),
        manifest.commands.keys(),
    )?
    else {
        // A library of one module.
        let mut atoms = container.atoms();
        return match (atoms.next(), atoms.next()) {
            (Some(only), None) => Ok(Unpacked {
                module: container.atom(only)?,
                defaults: Defaults::default(),
            }),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "the package has no command: it is a library",
            )),
        };
    };
    let command = &manifest.commands[&name];
    if !command.runner.starts_with(WASI_RUNNER) {
        return Err(unsupported_runner(&name, &command.runner));
    }
    let CommandAnnotations { atom, wasi } = &command.annotations;
    let dependency = match atom {
        Some(atom) => atom.dependency.as_ref(),
        None => wasi.as_ref().and_then(|wasi| wasi.package.as_ref()),
    };
    if let Some(dependency) = dependency {
        return Err(in_dependency(&name, dependency));
    }
    let atom = atom.as_ref().map(|atom| atom.name.as_str());
    let atom = atom
        .or_else(|| wasi.as_ref()?.atom.as_deref())
        .unwrap_or(&name);
    let module = container.atom(atom)?;
    let told = wasi.as_ref();
    let pairs = told
        .and_then(|wasi| wasi.env.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='));
    let defaults = Defaults {
        program: told.and_then(|wasi| wasi.exec_name.clone()).or(Some(name)),
        fixed_args: Vec::new(),
        args: told
            .and_then(|wasi| wasi.main_args.clone())
            .unwrap_or_default(),
        env: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    Ok(Unpacked { module, defaults })
}

/// `wasmer.toml`, called `wapm.toml` before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WasmerToml {
    package: TomlPackage,
    module: Vec<TomlModule>,
    command: Vec<TomlCommand>,
    fs: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TomlPackage {
    entrypoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TomlModule {
    name: String,
    source: String,
    abi: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TomlCommand {
    name: String,
    module: String,
    package: Option<String>,
    runner: Option<String>,
    main_args: Option<String>,
}

fn in_archive(package: &Content, wanted: Option<&str>, limits: Limits) -> Result<Unpacked, Error> {
    let no_manifest = || {
        Error::new(
            ErrorKind::Unsupported,
            "the package is neither a WEBC nor an archive with a `wasmer.toml`",
        )
    };
    let text = match file_in(package, "wasmer.toml", limits)? {
        Some(text) => text,
        None => file_in(package, "wapm.toml", limits)?.ok_or_else(no_manifest)?,
    };
    let text = std::str::from_utf8(&text)
        .ok()
        .filter(|text| text.len() <= MAX_TOML);
    let malformed = || {
        Error::new(
            ErrorKind::Protocol,
            "the package's `wasmer.toml` is malformed",
        )
    };
    let manifest: WasmerToml = toml::from_str(text.ok_or_else(malformed)?)
        .map_err(|error| malformed().caused_by(error))?;
    refuse_files(manifest.fs.keys().map(String::as_str))?;
    let commands = manifest.command.iter().map(|command| &command.name);
    let name = choose(wanted, manifest.package.entrypoint.as_deref(), commands)?;
    let command = name.as_ref().and_then(|name| {
        manifest
            .command
            .iter()
            .find(|command| command.name == *name)
    });
    let module = match (command, manifest.module.as_slice()) {
        (
            Some(TomlCommand {
                name,
                runner: Some(runner),
                ..
            }),
            _,
        ) if runner != "wasi" && !runner.starts_with(WASI_RUNNER) => {
            return Err(unsupported_runner(name, runner));
        }
        (
            Some(TomlCommand {
                name,
                package: Some(package),
                ..
            }),
            _,
        ) => return Err(in_dependency(name, package)),
        (Some(command), modules) => modules.iter().find(|module| module.name == command.module),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let module = module.ok_or_else(|| {
        Error::new(
            ErrorKind::Protocol,
            "the package's command has no module in it",
        )
    })?;
    if let Some(abi) = module
        .abi
        .as_deref()
        .filter(|abi| !matches!(*abi, "wasi" | "none"))
    {
        let message = format!(
            "the module `{}` is for `{abi}`, and not for WASI",
            module.name
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let path = super::archive::plain(module.source.as_bytes()).ok_or_else(malformed)?;
    let missing = || {
        Error::new(
            ErrorKind::Protocol,
            format!("the package has no file `{path}` for its module"),
        )
    };
    let args = command
        .and_then(|command| command.main_args.as_deref())
        .unwrap_or_default();
    let defaults = Defaults {
        program: name.or_else(|| Some(module.name.clone())),
        args: args.split_whitespace().map(str::to_owned).collect(),
        ..Defaults::default()
    };
    Ok(Unpacked {
        module: file_in(package, &path, limits)?.ok_or_else(missing)?,
        defaults,
    })
}

/// The command that is asked for, else the entrypoint, else the only one. `None` where there are no commands.
fn choose<'a>(
    wanted: Option<&str>,
    entrypoint: Option<&str>,
    commands: impl Iterator<Item = &'a String>,
) -> Result<Option<String>, Error> {
    let commands: Vec<&String> = commands.collect();
    let listed = || listed(commands.iter().map(|name| name.as_str()));
    match (wanted.or(entrypoint), commands.as_slice()) {
        (Some(name), _) if commands.iter().any(|command| *command == name) => {
            Ok(Some(name.to_owned()))
        }
        (Some(name), _) => {
            let message = format!(
                "the package has no command `{name}`; its commands are: {}",
                listed()
            );
            Err(Error::new(ErrorKind::NotFound, message))
        }
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some((*only).clone())),
        (None, _) => Err(Error::new(
            ErrorKind::Ambiguous,
            format!("the package has several commands: {}", listed()),
        )
        .hint("choose one with `module: {wapm: {package: …, command: …}}`")),
    }
}

/// They would be missing while the module runs.
fn refuse_files<'a>(mounted: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let paths = mounted.take(3).collect::<Vec<_>>().join(", ");
    if paths.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the package carries files beside its module ({paths}), which this version cannot give to it"
    );
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("publish the module alone, or pass the files as artifacts"))
}

fn unsupported_runner(command: &str, runner: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the command `{command}` is for the runner `{runner}`, and not for WASI"),
    )
}

fn in_dependency(command: &str, dependency: &str) -> Error {
    let message = format!("the command `{command}` is in another package, `{dependency}`");
    Error::new(ErrorKind::Unsupported, message).hint("name that package")
}
