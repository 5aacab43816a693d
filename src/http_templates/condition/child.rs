//! The main function of a worker that evaluates a condition.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use expr::{Context, Environment, Value};

use super::{Answer, Exchange, Job, LIMITS};
use crate::sandbox;

/// Evaluates the condition on standard input, and writes the answer to standard output.
///
/// # Errors
///
/// The sandbox cannot be entered, or the executor closed a pipe.
pub fn main() -> io::Result<()> {
    // Nothing before this line depends on the condition.
    sandbox::enter(LIMITS)?;
    let mut job = Vec::new();
    io::stdin().read_to_end(&mut job)?;
    let job: Job = serde_json::from_slice(&job)?;
    let answer = evaluate(&job.condition, &job.exchange);
    serde_json::to_writer(io::stdout(), &answer)?;
    Ok(())
}

/// The value of the condition. As in Argo, a value that is not a boolean is an error
/// (`util/expr/argoexpr/eval.go`).
fn evaluate(condition: &str, exchange: &Exchange) -> Answer {
    let context = context(exchange).map_err(|error| error.to_string())?;
    match environment().eval(condition, &context) {
        Ok(Value::Bool(value)) => Ok(value),
        Ok(_) => Err("its value is not a boolean".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The variables `request` and `response`.
fn context(exchange: &Exchange) -> expr::Result<Context> {
    let mut request = expr::to_value(&exchange.request)?;
    let bytes = exchange.request.body_bytes.as_ref();
    let bytes = bytes.and_then(|bytes| STANDARD.decode(bytes).ok());
    if let (Value::Map(variables), Some(bytes)) = (&mut request, bytes) {
        variables.insert("bodyBytes".to_owned(), Value::Bytes(bytes));
    }
    let mut context = Context::default();
    context.insert("request", request);
    context.insert("response", expr::to_value(&exchange.response)?);
    Ok(context)
}

/// The functions of the language. The crate's own functions for JSON would change the order of all
/// maps of this program.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.add_function("fromJSON", |call| match call.args.as_slice() {
        [Value::String(text)] => {
            let parsed = serde_json::from_str::<serde_json::Value>(text);
            expr::to_value(&parsed.map_err(|error| failed(&error))?)
        }
        _ => Err(failed(&"fromJSON needs one text")),
    });
    environment.add_function("toJSON", |call| match call.args.as_slice() {
        [value] => {
            let json: serde_json::Value = expr::from_value(value.clone())?;
            Ok(Value::String(json.to_string()))
        }
        _ => Err(failed(&"toJSON needs one value")),
    });
    environment
}

fn failed(error: &dyn std::fmt::Display) -> expr::Error {
    expr::Error::ExprError(error.to_string())
}
