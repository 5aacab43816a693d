//! Greets the person in the parameter `name`, and returns the greeting as an output parameter.
//!
//! An example of a component of the step world: the host passes parameters as values, and the
//! component returns outputs as values. It uses no files.

wit_bindgen::generate!({ path: "../../wit", world: "step" });

use wasm_workflow::step::types::Parameter;

struct Greeting;

impl Guest for Greeting {
    fn run(invocation: Invocation) -> Result<Outcome, String> {
        let name = invocation
            .parameters
            .iter()
            .find(|parameter| parameter.name == "name")
            .ok_or("the parameter `name` is missing")?;
        let greeting = format!("Hello, {}!", name.value);
        Ok(Outcome {
            message: Some(format!(
                "greeted {} for {}",
                name.value, invocation.workflow_name
            )),
            result: Some(greeting.clone()),
            parameters: vec![Parameter {
                name: "greeting".to_owned(),
                value: greeting,
            }],
            artifacts: Vec::new(),
        })
    }
}

export!(Greeting);
