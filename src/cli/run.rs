//! `run`: a step on this machine, as Argo would run it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use artifacts::{Location, Repository};
use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::progress::Line;
use super::settings::{self, Common};
use super::template;
use super::{Exit, Failure, output};
use crate::argo::repository::{DestinationLookup, Repositories};
use crate::argo::{self, ArtifactContext, Conversion, Reply, Template};
use crate::config::Config;
use crate::pipeline::Tees;
use crate::pipeline::{Executor, is_artifact_name};
use crate::step::{DefaultPlace, ExecutionId, Outcome, Phase, Step, Workflow};
use crate::text::units::{ByteSize, Time};

#[derive(Debug, Args)]
pub(super) struct RunStep {
    /// The module: a file, oci://…, https://…, wapm://…, bindle://…, wkg:… or file://…; with --template, in place of the template's
    #[arg(required_unless_present = "template")]
    reference: Option<String>,
    /// Take a template out of a file: of a Workflow, a WorkflowTemplate or a CronWorkflow, or a template alone
    #[arg(long, value_name = "FILE[#TEMPLATE]")]
    template: Option<String>,
    /// An input parameter, or with --template one of the workflow's; repeatable
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// An input artifact; the guest's path may be left out where the template says it; repeatable
    #[arg(short = 'a', long = "artifact", value_name = "NAME=HOST_PATH:GUEST_PATH", value_parser = input)]
    artifacts: Vec<(String, String)>,
    /// An output artifact; repeatable
    #[arg(short = 'o', long = "output", value_name = "NAME=GUEST_PATH", value_parser = artifact)]
    outputs: Vec<(String, String)>,
    /// Where output artifacts go, each under its name; without it, declared ones go here, and others are refused
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// An environment variable; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Standard input
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,
    /// The longest the module may run, in place of the template's `limits.time`
    #[arg(long, value_name = "DURATION")]
    limit_time: Option<Time>,
    /// The most memory the module may use, in place of the template's `limits.memory`
    #[arg(long, value_name = "BYTES")]
    limit_memory: Option<ByteSize>,
    /// Print the node result that Argo would get, and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
    /// The module's arguments
    #[arg(last = true)]
    args: Vec<String>,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must look like NAME=VALUE".to_owned()),
    }
}

fn input(text: &str) -> Result<(String, String), String> {
    pair(text).map_err(|_| {
        "it must look like NAME=HOST_PATH:GUEST_PATH, such as text=notes.txt:/in/text".to_owned()
    })
}

fn artifact(text: &str) -> Result<(String, String), String> {
    let (name, path) = pair(text)
        .map_err(|_| "it must look like NAME=GUEST_PATH, such as copy=/out/copy".to_owned())?;
    match is_artifact_name(&name) {
        true => Ok((name, path)),
        false => Err(format!(
            "`{name}` cannot be an artifact's name: it is a file's in the output directory"
        )),
    }
}

impl RunStep {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        // What the step came to is said in the end; the log would say it twice.
        let config = self.common.start(Some("off"))?;
        self.check_output_directory(config.artifacts.repository.is_some())?;
        let runtime = settings::runtime()?;
        let kubernetes = runtime.block_on(self.common.kubernetes())?;
        let place = match &config.artifacts.repository {
            Some(_) => {
                let repositories =
                    Repositories::new(None, config.artifacts.repository.clone(), None);
                runtime.block_on(repositories.destination(
                    &Workflow {
                        name: "run".to_owned(),
                        ..Workflow::default()
                    },
                    "step",
                ))
            }
            None => DestinationLookup::Unknown,
        };
        let (step, template) = self.step(&config, place)?;
        let line = Line::new("preparing the module");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let tees = if self.json {
            Tees::default()
        } else {
            tees(&printed)
        };
        let outcome = runtime.block_on(async {
            let directories = self.common.directories(false)?;
            let stores = Common::stores(&config, kubernetes.clone());
            let sources =
                self.common
                    .sources(&config, &directories, kubernetes, true, line.shared())?;
            let executor = Executor::new(sources, stores, directories.settings(&config, 1))
                .map_err(|error| {
                    Failure::error(format!("the executor cannot be set up: {error:#}"))
                })?;
            let executor = Arc::new(executor);
            let outcome = execute(Arc::clone(&executor), step, &line, tees).await;
            // Nobody comes after this process to remove what is left.
            executor.clean_up();
            Ok::<_, Failure>(outcome)
        })?;
        let exit = match outcome.phase {
            Phase::Succeeded => Exit::Succeeded,
            Phase::Failed => Exit::Failed,
            Phase::Error => Exit::Error,
        };
        if self.json {
            let reply = Reply::outcome(outcome, &template);
            output::data(&format!(
                "{}\n",
                serde_json::to_string(&reply.node).map_err(Failure::error)?
            ));
        } else {
            let printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
            self.report(
                &outcome,
                &String::from_utf8_lossy(&printed),
                config.artifacts.repository.is_some(),
            );
        }
        Ok(exit)
    }

    /// What the step came to, for a person. What it `printed` is there already; a result that it returned is not.
    fn report(&self, outcome: &Outcome, printed: &str, repository_named: bool) {
        let plain = printed.strip_suffix('\n').unwrap_or(printed);
        if let Some(result) = outcome
            .result
            .as_deref()
            .filter(|result| !plain.ends_with(*result))
        {
            output::say(&format!("result = {result}"));
        }
        for parameter in &outcome.parameters {
            output::say(&format!(
                "parameter {} = {}",
                parameter.name, parameter.value
            ));
        }
        for produced in &outcome.artifacts {
            let Location {
                repository, key, ..
            } = &produced.location;
            let place = match repository {
                Repository::Directory(_) if !repository_named => {
                    self.output_directory().join(key).display().to_string()
                }
                Repository::Directory(directory) => directory.path.join(key).display().to_string(),
                Repository::S3(bucket) => format!("s3://{}/{key}", bucket.bucket),
                _ => "its URL".to_owned(),
            };
            output::say(&format!("artifact {} -> {place}", produced.name));
        }
        // A module's own message says nothing of the code.
        let code = outcome
            .exit_code
            .filter(|code| *code != 0 && !outcome.message.contains(&format!("exit code {code}")));
        let code = code
            .map(|code| format!(", exit code {code}"))
            .unwrap_or_default();
        output::say(&format!("{:?}{code}: {}", outcome.phase, outcome.message));
    }

    /// Before the module runs, and not after.
    fn check_output_directory(&self, repository: bool) -> Result<(), Failure> {
        let Some(directory) = &self.output_dir else {
            return Ok(());
        };
        if repository {
            return Err(Failure::usage(
                "--output-dir: outputs go to the artifact repository; name one of the two",
            ));
        }
        match directory.ancestors().find(|directory| directory.exists()) {
            Some(there) if !there.is_dir() => Err(Failure::usage(format!(
                "--output-dir: `{}` is not a directory",
                there.display()
            ))),
            _ => Ok(()),
        }
    }

    fn step(&self, config: &Config, place: DestinationLookup) -> Result<(Step, Template), Failure> {
        let parameters = unique("-p", &self.parameters)?;
        unique("-a", &self.artifacts)?;
        unique("-o", &self.outputs)?;
        let (mut template, workflow) = match &self.template {
            Some(from) => {
                let (file, name) = from
                    .split_once('#')
                    .map_or((from.as_str(), None), |(file, name)| (file, Some(name)));
                template::load(Path::new(file), name, &parameters)?
            }
            None => (
                synthesize(&parameters),
                Workflow {
                    name: "run".to_owned(),
                    namespace: "default".to_owned(),
                    uid: String::new(),
                },
            ),
        };
        if self.template.is_some() && self.reference.is_some() {
            // What stands in for it for now does not make a template right.
            let own = argo::from_template(workflow.clone(), &template).map_err(Failure::usage)?;
            own.map(|call| call.module())
                .transpose()
                .map_err(Failure::usage)?;
        }
        let supplied = self.supply(&mut template)?;
        self.add(&mut template)?;
        let call = argo::from_template(workflow, &template).map_err(Failure::usage)?;
        let call = call.ok_or_else(|| Failure::usage("the template has no `plugin.wasm`"))?;
        let output_dir = std::path::absolute(self.output_directory()).map_err(Failure::usage)?;
        let personal = matches!(place, DestinationLookup::Unknown);
        let here = DefaultPlace {
            repository: Repository::directory(output_dir),
            key: String::new(),
            default: true,
            archive_logs: false,
        };
        let artifacts = ArtifactContext {
            destination: match place {
                DestinationLookup::Unknown => DestinationLookup::Known(here),
                place => place,
            },
            supplied,
            local: personal,
        };
        let conversion = Conversion {
            limits: config.step_limits(),
            artifacts,
        };
        let (mut step, template) = call.into_step(&conversion).map_err(Failure::usage)?;
        // Names that only the module chose, in a directory that nobody chose for them, would be a way to anywhere in it.
        if self.output_dir.is_none() && personal {
            step.undeclared_artifacts = None;
        }
        let (time, memory) = (&mut step.limits.time, &mut step.limits.memory);
        *time = within("time", self.limit_time, config.limits.time)?.map_or(*time, |asked| asked.0);
        *memory = within("memory", self.limit_memory, config.limits.memory)?
            .map_or(*memory, |asked| asked.0);
        Ok((step, template))
    }

    fn output_directory(&self) -> &Path {
        self.output_dir.as_deref().unwrap_or(Path::new("."))
    }

    /// The files given with `-a`, as a directory store sees them; adds to the template those it does not declare.
    fn supply(&self, template: &mut Value) -> Result<BTreeMap<String, Location>, Failure> {
        let mut supplied = BTreeMap::new();
        for side in ["/inputs/artifacts", "/outputs/artifacts"] {
            if template
                .pointer(side)
                .is_some_and(|list| !list.is_array() && !list.is_null())
            {
                return Err(Failure::usage(format!(
                    "`template{}`: expected a list",
                    side.replace('/', ".")
                )));
            }
        }
        for (name, paths) in &self.artifacts {
            let declared = named(template, "/inputs/artifacts", name);
            let (host, guest) = match paths.rsplit_once(':') {
                Some((host, guest)) if guest.starts_with('/') => (host, Some(guest)),
                Some((_, guest)) if !Path::new(paths).exists() => {
                    return Err(Failure::usage(format!(
                        "-a {name}={paths}: `{guest}`, the guest's path, must begin with `/`"
                    )));
                }
                _ => (paths.as_str(), None),
            };
            if declared.is_none() && guest.is_none() {
                let known = match names(template, "/inputs/artifacts") {
                    known if known.is_empty() => String::new(),
                    known => format!(
                        "the template has the input artifacts {known}, and no `{name}`; to add it, "
                    ),
                };
                return Err(Failure::usage(format!(
                    "{known}say where the guest sees it: -a {name}={host}:/in/{name}"
                )));
            }
            let host = std::path::absolute(host)
                .map_err(|error| Failure::usage(format!("`{host}`: {error}")))?;
            let (Some(parent), Some(key)) = (
                host.parent(),
                host.file_name().and_then(|name| name.to_str()),
            ) else {
                return Err(Failure::usage(format!(
                    "`{}` cannot be an artifact",
                    host.display()
                )));
            };
            if !host.exists() {
                return Err(Failure::usage(format!("there is no `{}`", host.display())));
            }
            let (repository, key) = (Repository::directory(parent), key.to_owned());
            supplied.insert(
                name.clone(),
                Location {
                    repository,
                    key,
                    default: false,
                },
            );
            set(template, "inputs", name, guest)?;
        }
        Ok(supplied)
    }

    /// Everything else that the command line says, over what the template says.
    fn add(&self, template: &mut Value) -> Result<(), Failure> {
        for (name, path) in &self.outputs {
            set(template, "outputs", name, Some(path))?;
        }
        let stdin = self.stdin.as_deref().map(read_stdin).transpose()?;
        let Some(wasm) = template
            .pointer_mut("/plugin/wasm")
            .and_then(Value::as_object_mut)
        else {
            return Ok(());
        };
        if let Some(reference) = &self.reference {
            wasm.insert(
                "module".to_owned(),
                settings::reference(reference)?.to_string().into(),
            );
        }
        if !self.args.is_empty() {
            wasm.insert("args".to_owned(), json!(self.args));
        }
        if let Some(stdin) = stdin {
            wasm.insert("stdin".to_owned(), stdin.into());
        }
        if !self.env.is_empty() {
            let env = wasm.entry("env").or_insert_with(|| json!([]));
            let added = self
                .env
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}));
            env.as_array_mut()
                .ok_or_else(|| Failure::usage("`env` in the template is not a list"))?
                .extend(added);
        }
        Ok(())
    }
}

/// By name; one that is there twice is a mistake.
fn unique(flag: &str, given: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut unique = BTreeMap::new();
    for (name, value) in given {
        if unique.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("{flag} {name}=… is there twice")));
        }
    }
    Ok(unique)
}

/// A limit of the command line: it stands for the template's, and like that cannot be above the operator's.
fn within<T: Copy + PartialOrd + fmt::Display>(
    name: &str,
    asked: Option<T>,
    allowed: T,
) -> Result<Option<T>, Failure> {
    match asked {
        Some(asked) if asked > allowed => Err(Failure::usage(format!(
            "--limit-{name} {asked} is above `limits.{name}` of the configuration, {allowed}\nhint: `config check` prints what is in force"
        ))),
        asked => Ok(asked),
    }
}

/// A template for a module alone.
fn synthesize(parameters: &BTreeMap<String, String>) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"name": "run", "inputs": {"parameters": parameters}, "plugin": {"wasm": {}}})
}

fn names(template: &Value, list: &str) -> String {
    let items = template
        .pointer(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    items
        .filter_map(|item| Some(format!("`{}`", item["name"].as_str()?)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn named<'a>(template: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    template
        .pointer(list)?
        .as_array()?
        .iter()
        .find(|item| item["name"] == name)
}

/// Declares an artifact, or gives a declared one another path.
fn set(template: &mut Value, side: &str, name: &str, path: Option<&str>) -> Result<(), Failure> {
    let malformed = || Failure::usage(format!("`{side}.artifacts` in the template is not a list"));
    let block = template
        .as_object_mut()
        .ok_or_else(malformed)?
        .entry(side)
        .or_insert_with(|| json!({}));
    let list = block
        .as_object_mut()
        .ok_or_else(malformed)?
        .entry("artifacts")
        .or_insert_with(|| json!([]));
    let list = list.as_array_mut().ok_or_else(malformed)?;
    match (list.iter_mut().find(|item| item["name"] == name), path) {
        (Some(item), Some(path)) => item["path"] = path.into(),
        (None, Some(path)) => {
            list.push(json!({"name": name, "path": path, "archive": {"none": {}}}))
        }
        (_, None) => {}
    }
    Ok(())
}

fn read_stdin(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| {
        Failure::usage(format!(
            "--stdin: `{}` cannot be read: {error}",
            path.display()
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!(
            "--stdin: `{}` is not UTF-8; pass binary input as an artifact",
            path.display()
        ))
    })
}

/// Both of the module's streams, as it writes them.
fn tees(printed: &Arc<Mutex<Vec<u8>>>) -> Tees {
    let printed = Arc::clone(printed);
    let stdout = move |bytes: &[u8]| {
        printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        output::bytes(bytes);
    };
    Tees {
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(output::say_bytes)),
    }
}

async fn execute(executor: Arc<Executor>, step: Step, line: &Line, tees: Tees) -> Outcome {
    let request = step.request();
    // The same work as the step's own first stages, here so that its progress shows. Its errors come again from the step.
    let _ = executor.prepare(&request).await;
    line.done();
    let cancel = CancellationToken::new();
    let interrupted = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    executor
        .execute(ExecutionId::new("run"), step, cancel, tees)
        .await
}
