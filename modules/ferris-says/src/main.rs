//! Prints the parameter `text` as said by Ferris the crab.
//!
//! An example of the `/work` contract: the module reads its parameters from `/work/input.json`, and
//! writes the outcome of the step to `/work/result.json`.

use std::error::Error;
use std::{fs, io};

use serde::Deserialize;
use serde_json::json;

const WIDTH: usize = 40;

#[derive(Deserialize)]
struct Input {
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    value: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let input: Input = serde_json::from_slice(&fs::read("/work/input.json")?)?;
    let text = input
        .parameters
        .iter()
        .find(|parameter| parameter.name == "text");
    let result = match text {
        Some(text) => {
            ferris_says::say(&text.value, WIDTH, io::stdout().lock())?;
            json!({"phase": "Succeeded", "message": format!("Ferris says: {}", text.value)})
        }
        None => json!({"phase": "Failed", "message": "the parameter `text` is missing"}),
    };
    fs::write("/work/result.json", result.to_string())?;
    Ok(())
}
