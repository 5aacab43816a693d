//! `manifest examples`: the example Workflows, with their modules in the operator's registry.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::values;
use crate::cli::{Exit, output};

/// The registry that the examples name. Their modules are not published there yet.
const REGISTRY: &str = "oci://ghcr.io/wasm-workflow-executor/";

struct Example {
    name: &'static str,
    text: &'static str,
    /// Whether the example is printed only if the command names it. Such an example needs more than
    /// the modules of this repository, or is for troubleshooting.
    only_by_name: bool,
}

macro_rules! examples {
    ($($name:literal $path:literal $only_by_name:literal,)*) => {
        [$(Example {
            name: $name,
            text: include_str!(concat!("../../../plugin/", $path)),
            only_by_name: $only_by_name,
        }),*]
    };
}

const EXAMPLES: [Example; 10] = examples! {
    "word-count" "examples/word-count.yaml" false,
    "results" "examples/results.yaml" false,
    "artifacts" "examples/artifacts.yaml" false,
    "fan-out" "examples/fan-out.yaml" false,
    "limits-and-retries" "examples/limits-and-retries.yaml" false,
    "template-library" "examples/template-library.yaml" false,
    "read-only-root" "read-only-root/workflow.yaml" true,
    "places" "examples/places.yaml" true,
    "sources" "examples/sources.yaml" true,
    "agent-pod" "examples/agent-pod.yaml" true,
};

#[derive(Debug, Args)]
pub(super) struct Examples {
    /// Registry with the modules of the examples: HOST or HOST/PATH
    #[arg(long, value_name = "HOST", value_parser = values::registry)]
    registry: String,
    /// Examples to print [default: those that need only the modules of this repository]
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(EXAMPLES.map(|example| example.name)))]
    names: Vec<String>,
}

impl Examples {
    pub(super) fn run(&self) -> Exit {
        let chosen = EXAMPLES.iter().filter(|example| match &*self.names {
            [] => !example.only_by_name,
            names => names.iter().any(|name| name == example.name),
        });
        let place = format!("oci://{}/", self.registry);
        let texts: Vec<String> = chosen
            .map(|example| example.text.replace(REGISTRY, &place))
            .collect();
        output::data(&texts.join("---\n"));
        Exit::Succeeded
    }
}
