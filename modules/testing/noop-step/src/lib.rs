//! The least that a component of the step world can do.

wit_bindgen::generate!({ path: "../../../wit", world: "step" });

struct Noop;

impl Guest for Noop {
    fn run(_: Invocation) -> Result<Outcome, String> {
        Ok(Outcome { message: None, result: None, parameters: Vec::new(), artifacts: Vec::new() })
    }
}

export!(Noop);
