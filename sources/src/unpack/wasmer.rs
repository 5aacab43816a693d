//! Finds the module in a package of the Wasmer registry: a WEBC, or an archive with a `wasmer.toml`
//! in old packages.
//!
//! The choice of the command, and of the module for a command, follows the `wasmer` program (the
//! resolver and the WASI runner in its crate `wasmer-wasix`).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use super::archive;
use super::budget::{Limits, damaged};
use super::image::file_in;
use super::wasmer_manifest::CommandAnnotations;
use super::webc::{self, Container};
use super::{Content, Unpacked};
use crate::package::{Defaults, listed};
use crate::{Error, ErrorKind};

/// The runner of WASI commands. A version may follow.
const WASI_RUNNER: &str = "https://webc.org/runner/wasi";
/// The largest `wasmer.toml`, in bytes.
const MAX_TOML: usize = 1 << 20;

/// The module of `command`. Without a command, the module of the package's entrypoint.
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
    let name = choose(
        wanted,
        manifest.entrypoint.as_deref(),
        manifest.commands.keys(),
    )?;
    match name {
        Some(name) => webc_command(&container, name),
        None => only_atom(&container),
    }
}

/// The module of a library. A library has no command; with several modules, the choice is not
/// clear.
fn only_atom(container: &Container) -> Result<Unpacked, Error> {
    let mut atoms = container.atoms();
    match (atoms.next(), atoms.next()) {
        (Some(only), None) => Ok(Unpacked {
            module: container.atom(only)?,
            defaults: Defaults::default(),
        }),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "the package has no command: it is a library",
        )),
    }
}

/// The module of a command, with the defaults in the annotations of the command.
fn webc_command(container: &Container, name: String) -> Result<Unpacked, Error> {
    let command = &container.manifest.commands[&name];
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
    let wasi = wasi.as_ref();
    let pairs = wasi
        .and_then(|wasi| wasi.env.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='));
    let defaults = Defaults {
        program: wasi.and_then(|wasi| wasi.exec_name.clone()).or(Some(name)),
        fixed_args: Vec::new(),
        args: wasi
            .and_then(|wasi| wasi.main_args.clone())
            .unwrap_or_default(),
        env: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    Ok(Unpacked { module, defaults })
}

/// The manifest `wasmer.toml`, which was called `wapm.toml` earlier.
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
    let manifest = read_toml(package, limits)?;
    refuse_files(manifest.fs.keys().map(String::as_str))?;
    let commands = manifest.command.iter().map(|command| &command.name);
    let name = choose(wanted, manifest.package.entrypoint.as_deref(), commands)?;
    let command = name.as_ref().and_then(|name| {
        manifest
            .command
            .iter()
            .find(|command| command.name == *name)
    });
    let module = toml_module(&manifest.module, command)?;
    let path = archive::plain(module.source.as_bytes()).ok_or_else(malformed_toml)?;
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

/// The manifest in an archive.
fn read_toml(package: &Content, limits: Limits) -> Result<WasmerToml, Error> {
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
        .filter(|text| text.len() <= MAX_TOML)
        .ok_or_else(malformed_toml)?;
    toml::from_str(text).map_err(|error| malformed_toml().caused_by(error))
}

fn malformed_toml() -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the package's `wasmer.toml` is malformed",
    )
}

/// The module of `command`. Without a command, the only module.
fn toml_module<'a>(
    modules: &'a [TomlModule],
    command: Option<&TomlCommand>,
) -> Result<&'a TomlModule, Error> {
    if let Some(command) = command {
        check_toml_command(command)?;
    }
    let module = match (command, modules) {
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
    let foreign_abi = module
        .abi
        .as_deref()
        .filter(|abi| !matches!(*abi, "wasi" | "none"));
    if let Some(abi) = foreign_abi {
        let message = format!(
            "the module `{}` is for `{abi}`, and not for WASI",
            module.name
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(module)
}

/// Checks that the command is for WASI, and that its module is in this package.
fn check_toml_command(command: &TomlCommand) -> Result<(), Error> {
    if let Some(runner) = &command.runner
        && runner != "wasi"
        && !runner.starts_with(WASI_RUNNER)
    {
        return Err(unsupported_runner(&command.name, runner));
    }
    match &command.package {
        Some(package) => Err(in_dependency(&command.name, package)),
        None => Ok(()),
    }
}

/// The wanted command, else the entrypoint, else the only command. `None` if there are no commands.
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
        .with_hint("choose one with `module: {wapm: {package: …, command: …}}`")),
    }
}

/// A package with files is an error: the module could not open them.
fn refuse_files<'a>(mounted: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let paths = mounted.take(3).collect::<Vec<_>>().join(", ");
    if paths.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the package contains files beside its module ({paths}); this version cannot pass them to \
         the module"
    );
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_hint("publish the module alone, or pass the files as artifacts"))
}

fn unsupported_runner(command: &str, runner: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the command `{command}` is for the runner `{runner}`, and not for WASI"),
    )
}

fn in_dependency(command: &str, dependency: &str) -> Error {
    let message = format!("the command `{command}` is in another package, `{dependency}`");
    Error::new(ErrorKind::Unsupported, message)
        .with_hint(format!("name the package `{dependency}` in the reference"))
}
