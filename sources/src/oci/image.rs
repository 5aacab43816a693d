//! The image configuration: the path, the arguments and the environment of the program
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

use serde::Deserialize;

use crate::package::{Defaults, is_module_name};
use crate::{Error, ErrorKind};

const MAX_TEXTS: usize = 1000;
const MAX_TEXT_BYTES: usize = 128 << 10;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageConfig {
    architecture: String,
    config: Option<Process>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl ImageConfig {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let config: Self = go_json::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Protocol, "the image configuration is malformed").caused_by(error)
        })?;
        let process = config.config.as_ref();
        let lists = process
            .into_iter()
            .flat_map(|process| [&process.entrypoint, &process.cmd, &process.env]);
        let texts = lists.flatten().flatten();
        // Each step with this image keeps a copy of these texts in memory.
        let (count, bytes) = texts.fold((0, 0), |(count, bytes), text: &String| {
            (count + 1, bytes + text.len())
        });
        if count > MAX_TEXTS || bytes > MAX_TEXT_BYTES {
            let message = format!(
                "the image configuration has more than {MAX_TEXTS} arguments and environment variables, or they are larger than {MAX_TEXT_BYTES} bytes"
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(config)
    }

    /// The program that a container runtime starts for this image.
    pub(super) fn into_program(self) -> Program {
        let process = self.config.unwrap_or_default();
        let entrypoint = process.entrypoint.unwrap_or_default();
        let cmd = process.cmd.unwrap_or_default();
        let env = process.env.unwrap_or_default();
        let env = env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| {
                !name.is_empty() && !name.contains('\0') && !value.contains('\0')
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        // The arguments are `Entrypoint` and then `Cmd`. Arguments of the template replace `Cmd`.
        let (program, fixed, args) = match (entrypoint.split_first(), cmd.split_first()) {
            (Some((program, fixed)), _) => (Some(program.clone()), fixed.to_vec(), cmd),
            (None, Some((program, args))) => (Some(program.clone()), Vec::new(), args.to_vec()),
            (None, None) => (None, Vec::new(), Vec::new()),
        };
        let defaults = Defaults {
            program: program.clone(),
            fixed_args: fixed,
            args,
            env: env.collect(),
        };
        let is_wasm = self.architecture.starts_with("wasm");
        let program = program.map(|program| {
            program
                .split_once('#')
                .map_or(program.clone(), |(path, _)| path.to_owned())
        });
        let program = program.filter(|program| is_wasm || is_module_name(program));
        let in_directory = |program: String| match (&process.working_dir, program.starts_with('/'))
        {
            (Some(directory), false) => format!("{directory}/{program}"),
            _ => program,
        };
        Program {
            path: program.map(in_directory),
            defaults,
        }
    }
}

/// The program of an image.
#[derive(Debug)]
pub(super) struct Program {
    /// The path in the image. `None` if the configuration names no program that can be a module.
    pub(super) path: Option<String>,
    /// The arguments and the environment of the program.
    pub(super) defaults: Defaults,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(json: &str) -> (Option<String>, Vec<String>, Vec<String>) {
        let Program { path, defaults } =
            ImageConfig::parse(json.as_bytes()).unwrap().into_program();
        (path, defaults.fixed_args, defaults.args)
    }

    #[test]
    fn entrypoint_and_cmd_have_the_meaning_of_the_image_specification() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let json =
            r#"{"architecture":"wasm","config":{"Entrypoint":["/app.wasm","-v"],"Cmd":["a"]}}"#;
        assert_eq!(
            program(json),
            (Some("/app.wasm".to_owned()), words(&["-v"]), words(&["a"]))
        );
        let json =
            r#"{"architecture":"amd64","config":{"Cmd":["app.wasm","a"],"WorkingDir":"/srv"}}"#;
        assert_eq!(
            program(json),
            (Some("/srv/app.wasm".to_owned()), vec![], words(&["a"]))
        );
        let json = r#"{"architecture":"amd64","config":{"Entrypoint":["/bin/sh"],"Cmd":null}}"#;
        assert_eq!(program(json).0, None, "a native program is not a module");
        assert_eq!(program("{}"), (None, vec![], vec![]));
    }
}
