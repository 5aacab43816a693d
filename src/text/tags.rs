//! Tags in texts, `{{…}}`, replaced as Argo replaces them.
//!
//! The rules are those of Argo's `util/template/simple_template.go` and of the function
//! `resolveAllVariables` in `workflow/validate/validate.go`:
//!
//! - Spaces inside the braces are ignored: `{{ workflow.name }}`.
//! - A tag inside another tag is replaced, and the outer braces stay: `{{ a: {{workflow.name}} }}`.
//! - A tag that is not a variable of Argo stays as it is, as do braces that are never closed.
//! - A variable of Argo without a value is an error.

/// The beginnings of the names of Argo's variables (`GlobalVarValidWorkflowVariablePrefix` in
/// `workflow/common/common.go`). The last one exists in retries.
const PREFIXES: [&str; 8] = [
    "item.",
    "steps.",
    "inputs.",
    "outputs.",
    "pod.",
    "workflow.",
    "tasks.",
    "lastRetry.",
];
/// Variables of Argo with a name of their own.
const NAMES: [&str; 3] = ["item", "node.name", "retries"];

/// A tag that needs a value and has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// A variable of Argo, by its name.
    Variable(String),
    /// An expression, `{{=EXPRESSION}}`. This program does not evaluate expressions.
    Expression(String),
}

/// Replaces the tags of a text. `value` returns the value of a variable.
///
/// # Errors
///
/// The first variable of Argo without a value, or the first expression.
pub fn replace(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Unresolved> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((tag, after)) = after.split_once("}}") else {
            break;
        };
        replaced.push_str(before);
        let kept = || format!("{{{{{tag}}}}}");
        replaced.push_str(&resolve(tag, &value)?.unwrap_or_else(kept));
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

/// The text in place of `{{tag}}`. `None` if the tag stays.
fn resolve(
    tag: &str,
    value: &impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, Unresolved> {
    if let Some(expression) = tag.strip_prefix('=') {
        return Err(Unresolved::Expression(expression.trim().to_owned()));
    }
    if let Some(value) = value(tag.trim()) {
        return Ok(Some(value));
    }
    if let Some((outer, inner)) = tag.rsplit_once("{{").filter(|(outer, _)| !outer.is_empty()) {
        if let Some(value) = value(inner) {
            return Ok(Some(format!("{{{{{outer}{value}")));
        }
        return refuse_variable(inner);
    }
    refuse_variable(tag.trim())
}

fn refuse_variable(tag: &str) -> Result<Option<String>, Unresolved> {
    match is_variable(tag) {
        true => Err(Unresolved::Variable(tag.to_owned())),
        false => Ok(None),
    }
}

/// Whether a name is the name of a variable of Argo.
fn is_variable(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, Unresolved> {
        replace(text, |name| {
            matches!(name, "workflow.name" | "inputs.parameters.x").then(|| "V".to_owned())
        })
    }

    #[test]
    fn tags_that_are_not_argos_stay() {
        for (text, expected) in [
            ("{{workflow.name}}/{{ inputs.parameters.x }}", "V/V"),
            ("Dear {{ user.name }}", "Dear {{ user.name }}"),
            (
                "{{}} {{ }} {{x}} {{.Values.a}}",
                "{{}} {{ }} {{x}} {{.Values.a}}",
            ),
            ("{{#if a}}{{workflow.name}}{{/if}}", "{{#if a}}V{{/if}}"),
            (
                "{{workflow}} {{inputs}} {{items}}",
                "{{workflow}} {{inputs}} {{items}}",
            ),
            ("{{Inputs.parameters.x}}", "{{Inputs.parameters.x}}"),
            ("{{ =x }}", "{{ =x }}"),
            ("{{workflow.name", "{{workflow.name"),
            ("}} {{workflow.name}} {{", "}} V {{"),
            ("{{{workflow.name}}}", "{{{workflow.name}}}"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_tag_inside_another_tag_is_replaced_and_the_outer_braces_stay() {
        for (text, expected) in [
            ("{{ a: {{workflow.name}} }}", "{{ a: V }}"),
            // Argo does not ignore spaces there.
            (
                "{{ a: {{ workflow.name }} }}",
                "{{ a: {{ workflow.name }} }}",
            ),
            ("{{ a: {{b}} }}", "{{ a: {{b}} }}"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_variable_of_argo_without_a_value_is_an_error() {
        for name in [
            "inputs.parameters.y",
            "inputs.artifacts.a.path",
            "steps.a.outputs.result",
            "tasks.a.exitCode",
            "workflow.status",
            "outputs.parameters.p",
            "pod.name",
            "item",
            "item.x",
            "lastRetry.exitCode",
        ] {
            let expected = Unresolved::Variable(name.to_owned());
            for text in [
                format!("{{{{{name}}}}}"),
                format!("a {{{{  {name} }}}}"),
                format!("{{{{ {{{{{name}}}}} }}}}"),
            ] {
                assert_eq!(of(&text), Err(expected.clone()), "{text}");
            }
        }
        assert_eq!(
            of("{{=inputs.parameters.x + 'a'}}"),
            Err(Unresolved::Expression(
                "inputs.parameters.x + 'a'".to_owned()
            ))
        );
    }
}
