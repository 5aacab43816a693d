//! Names of nodes, as Argo's controller makes them.
//!
//! A node's name is the name of the workflow, followed by these parts (`steps.go`, `dag.go` and
//! `operator.go` in `workflow/controller`):
//!
//! - `[0]`: a group of parallel steps
//! - `.NAME`: a step, a task, or a hook
//! - `(0:ITEM)`: one iteration of a loop
//! - `(0)`: one attempt of a step with `retryStrategy`

/// The step or task of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodePlace<'a> {
    /// Name of the step or task, or of the hook.
    pub(super) name: &'a str,
    /// Whether the node is one iteration of a loop over this step or task.
    pub(super) in_loop: bool,
}

/// The place of a node below its parent. `rest` is the node's name without the parent's name.
pub(super) fn below_parent(rest: &str) -> Option<NodePlace<'_>> {
    let rest = after_brackets(rest).strip_prefix('.')?;
    let end = name_length(rest);
    let name = &rest[..end];
    let in_loop = loop_item(&rest[end..]).is_some();
    (!name.is_empty()).then_some(NodePlace { name, in_loop })
}

/// The place of the node whose name is at the start of `text`. `None` if `text` does not start with
/// the name of a step or task of this workflow.
///
/// Text after the node's name is ignored. An item of a loop with unpaired parentheses hides the end
/// of the name. The result is then `None`.
pub(super) fn at_start<'a>(text: &'a str, workflow: &str) -> Option<NodePlace<'a>> {
    let mut rest = text
        .strip_prefix(workflow)
        .filter(|_| !workflow.is_empty())?;
    let mut place = None;
    loop {
        rest = after_brackets(rest);
        let Some(named) = rest.strip_prefix('.') else {
            return place;
        };
        let end = name_length(named);
        let mut found = NodePlace {
            name: &named[..end],
            in_loop: false,
        };
        if found.name.is_empty() {
            return place;
        }
        rest = &named[end..];
        if let Some(item) = loop_item(rest) {
            found.in_loop = true;
            rest = after_item(item)?;
        }
        rest = after_attempt(rest);
        place = Some(found);
    }
}

/// The text after `[0]`, or `text` without such a part.
fn after_brackets(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inner
        .filter(|(number, _)| is_number(number))
        .map_or(text, |(_, rest)| rest)
}

/// The text after `(0)`, or `text` without such a part.
fn after_attempt(text: &str) -> &str {
    let inner = text.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    inner
        .filter(|(number, _)| is_number(number))
        .map_or(text, |(_, rest)| rest)
}

/// The text after `(0:`, which begins with an item of a loop.
fn loop_item(text: &str) -> Option<&str> {
    let (number, item) = text.strip_prefix('(')?.split_once(':')?;
    is_number(number).then_some(item)
}

/// The text after the parenthesis that closes an item.
fn after_item(item: &str) -> Option<&str> {
    let mut depth = 1_usize;
    for (at, byte) in item.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&item[at + 1..]);
        }
    }
    None
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn name_length(text: &str) -> usize {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.bytes().take_while(|byte| is_part(*byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_node_tells_whether_the_node_is_in_a_loop() {
        let place = |name, in_loop| Some(NodePlace { name, in_loop });
        for (text, expected) in [
            ("wf[0].say", place("say", false)),
            ("wf[0].say/0", place("say", false)),
            ("wf[12].say(0:a)", place("say", true)),
            ("wf[0].say(0:a)/0", place("say", true)),
            ("wf[0].say(3:a.b/c(d)[0].e)(1)/1", place("say", true)),
            ("wf[0].say(0:a:b)", place("say", true)),
            ("wf.say(0:)", place("say", true)),
            ("wf.say(2)", place("say", false)),
            ("wf[0].each(0:a)[0].say", place("say", false)),
            ("wf[0].each(0:a)[1].say(1)-x", place("say", false)),
            ("wf.each(0:a).say(4:b)", place("say", true)),
            ("wf.each(0:a(1)).say", place("say", false)),
            ("wf[0].say(0:a).onExit", place("onExit", false)),
            // These texts do not tell the place.
            ("wf", None),
            ("wf/0", None),
            ("wf-2[0].say", None),
            ("wf[0]", None),
            ("wf(0)", None),
            ("other[0].say", None),
            ("x-wf[0].say", None),
            ("wf[0].say(0:a(b)", None),
            ("", None),
        ] {
            assert_eq!(at_start(text, "wf"), expected, "{text}");
        }
        assert_eq!(at_start("[0].say", ""), None);
        assert_eq!(at_start("my.wf[0].say", "my.wf"), place("say", false));
        // Below the parent's name, an item may have unpaired parentheses.
        assert_eq!(below_parent("[0].say(0:a(b)"), place("say", true));
        assert_eq!(below_parent(".say(1)"), place("say", false));
        assert_eq!(below_parent("(0:a)"), None);
        assert_eq!(below_parent(""), None);
    }
}
