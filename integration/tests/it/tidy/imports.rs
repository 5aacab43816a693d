//! Which file of a crate names which other file of it.
//!
//! The graph is read from the tokens of the source. So `use` lines, path expressions and paths in
//! macros are treated alike. Comments, strings and `#[cfg(test)]` modules are ignored. A path that
//! goes through a `pub use` leads to the file that defines the item, so a `mod.rs` that re-exports
//! its children is not part of a cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::lexer::{Token, tokens};

/// A module path below the crate's root: `["runtime", "code"]`; empty for `lib.rs`.
pub(crate) type ModulePath = Vec<String>;

/// The modules of one crate, with the names that each of them uses.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    modules: BTreeMap<ModulePath, Module>,
}

#[derive(Debug, Default)]
struct Module {
    /// Every path that the code names, as written.
    named: Vec<Vec<String>>,
    /// The name that a `pub use` makes visible here, and the path that it leads to.
    exported: Vec<(String, Vec<String>)>,
}

impl Imports {
    /// Reads every `.rs` file below `root`, the folder of `lib.rs`.
    pub(crate) fn of_crate(root: &Path) -> Self {
        let mut files = Vec::new();
        read_folder(root, &[], &mut files);
        Self::of_files(files)
    }

    /// Reads modules that are given as texts.
    pub(crate) fn of_files(files: impl IntoIterator<Item = (ModulePath, String)>) -> Self {
        let modules = files.into_iter().map(|(path, text)| {
            let mut module = Module::default();
            read_tokens(&tokens(&text), &mut module);
            (path, module)
        });
        Self {
            modules: modules.collect(),
        }
    }

    /// First segments of all paths in the module: names of other crates are among them.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&ModulePath, &str)> {
        self.modules.iter().flat_map(|(path, module)| {
            module
                .named
                .iter()
                .map(move |named| (path, named[0].as_str()))
        })
    }

    /// For each module, the other modules that it names.
    pub(crate) fn edges(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let edges = self.modules.iter().map(|(from, module)| {
            let targets = module
                .named
                .iter()
                .filter_map(|named| self.resolve(from, named, 0));
            (from.clone(), targets.filter(|to| to != from).collect())
        });
        edges.collect()
    }

    /// The same for top-level folders: `runtime` names `text`.
    pub(crate) fn folder_edges(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let folder = |path: &ModulePath| path.iter().take(1).cloned().collect::<ModulePath>();
        let mut folders: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
        for (from, targets) in self.edges() {
            let from = folder(&from);
            // The crate's root declares all modules.
            if from.is_empty() {
                continue;
            }
            let targets = targets
                .iter()
                .map(folder)
                .filter(|to| *to != from && !to.is_empty());
            folders.entry(from.clone()).or_default().extend(targets);
        }
        folders
    }

    /// The module that defines what `named` leads to, seen from the module `from`.
    fn resolve(&self, from: &ModulePath, named: &[String], depth: usize) -> Option<ModulePath> {
        let mut at = from.clone();
        let mut rest = named;
        match named.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            child => {
                at.push(child.to_owned());
                if !self.modules.contains_key(&at) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        while let Some((segment, after)) = rest.split_first() {
            at.push(segment.clone());
            if self.modules.contains_key(&at) {
                rest = after;
                continue;
            }
            at.pop();
            let exported = &self.modules.get(&at)?.exported;
            let target = exported.iter().find(|(name, _)| name == segment);
            return match target {
                Some((_, path)) if depth < 8 => {
                    let path = path.iter().chain(after).cloned().collect::<Vec<_>>();
                    self.resolve(&at, &path, depth + 1).or(Some(at))
                }
                _ => Some(at),
            };
        }
        self.modules.contains_key(&at).then_some(at)
    }
}

fn read_folder(folder: &Path, path: &[String], files: &mut Vec<(ModulePath, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let stem = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        let child: ModulePath = path.iter().cloned().chain([stem.clone()]).collect();
        if entry.is_dir() {
            read_folder(&entry, &child, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let module = match stem.as_str() {
                "lib" | "main" | "mod" => path.to_vec(),
                _ => child,
            };
            if stem != "main" {
                files.push((module, fs::read_to_string(&entry).unwrap()));
            }
        }
    }
}

fn read_tokens(tokens: &[Token], module: &mut Module) {
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = after_item(tokens, at + 2);
            continue;
        }
        match &tokens[at] {
            Token::Word(word) if word == "use" => {
                let public = at > 0 && is_visibility(&tokens[at - 1]);
                let end = (at..tokens.len()).find(|end| tokens[*end].is(';'));
                let end = end.unwrap_or(tokens.len());
                let mut paths = Vec::new();
                read_use(&tokens[at + 1..end], &mut Vec::new(), &mut paths);
                for (name, path) in paths {
                    match public {
                        true => module.exported.push((name, path)),
                        false => module.named.push(path),
                    }
                }
                at = end + 1;
            }
            Token::Word(word) => {
                let path = read_path(word, &tokens[at + 1..]);
                at += path.len() * 3 - 2;
                if path.len() > 1 {
                    module.named.push(path);
                }
            }
            Token::Group(_, inner) => {
                read_tokens(inner, module);
                at += 1;
            }
            Token::Punct(_) => at += 1,
        }
    }
}

/// The segments of a path that begins with `first`: `a :: b :: c`.
fn read_path(first: &str, after: &[Token]) -> Vec<String> {
    let mut path = vec![first.to_owned()];
    let mut rest = after;
    while let [colon, second, Token::Word(segment), after @ ..] = rest {
        if !colon.is(':') || !second.is(':') {
            break;
        }
        path.push(segment.clone());
        rest = after;
    }
    path
}

/// The paths of a `use` declaration, each with the name under which it is visible.
fn read_use(tokens: &[Token], prefix: &mut Vec<String>, paths: &mut Vec<(String, Vec<String>)>) {
    for part in tokens.split(|token| token.is(',')) {
        let depth = prefix.len();
        let mut renamed = None;
        let mut rest = part.iter();
        while let Some(token) = rest.next() {
            match token {
                Token::Word(word) if word == "as" => {
                    if let Some(Token::Word(name)) = rest.next() {
                        renamed = Some(name.clone());
                    }
                }
                Token::Word(word) => prefix.push(word.clone()),
                Token::Group('{', inner) => {
                    read_use(inner, prefix, paths);
                    prefix.truncate(depth);
                }
                _ => {}
            }
        }
        if prefix.len() > depth {
            if prefix.last().is_some_and(|last| last == "self") {
                prefix.pop();
            }
            let name = renamed
                .or_else(|| prefix.last().cloned())
                .unwrap_or_default();
            paths.push((name, prefix.clone()));
        }
        prefix.truncate(depth);
    }
}

/// `pub`, or the parentheses of `pub(crate)`.
fn is_visibility(token: &Token) -> bool {
    match token {
        Token::Word(word) => word == "pub",
        Token::Group(bracket, _) => *bracket == '(',
        Token::Punct(_) => false,
    }
}

/// `#[cfg(test)]` or `#[test]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let [hash, Token::Group('[', attribute), ..] = tokens else {
        return false;
    };
    let is_test = |tokens: &[Token]| matches!(tokens, [Token::Word(word)] if word == "test");
    let is_cfg = match attribute.as_slice() {
        [Token::Word(word), Token::Group('(', condition)] => word == "cfg" && is_test(condition),
        attribute => is_test(attribute),
    };
    hash.is('#') && is_cfg
}

/// The position after the item that begins at `at`: its block in braces, or its semicolon.
fn after_item(tokens: &[Token], at: usize) -> usize {
    let ends = |token: &Token| matches!(token, Token::Group('{', _) | Token::Punct(';'));
    (at..tokens.len())
        .find(|at| ends(&tokens[*at]))
        .map_or(tokens.len(), |end| end + 1)
}

/// The cycles of a graph: groups of nodes, each of which reaches every other (Tarjan's components).
pub(crate) fn cycles(edges: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<String>> {
    let reachable = |from: &ModulePath| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            for next in edges.get(node).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
        edges.keys().map(|node| (node, reachable(node))).collect();
    let mut found = BTreeSet::new();
    for (node, seen) in &reach {
        if seen.contains(node) {
            let together = seen
                .iter()
                .filter(|other| reach.get(**other).is_some_and(|back| back.contains(node)));
            found.insert(together.map(|path| path.join("::")).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let path = |name: &str| -> ModulePath {
            name.split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let files = files
            .iter()
            .map(|(name, text)| (path(name), (*text).to_owned()));
        Imports::of_files(files)
    }

    #[test]
    fn a_cycle_between_files_is_found() {
        let imports = imports(&[
            ("", "mod a; mod b; mod c;"),
            ("a", "use crate::b::B; use crate::c::C;"),
            ("b", "use super::{a::A, c};"),
            ("c", "pub struct C;"),
        ]);
        assert_eq!(cycles(&imports.edges()), [["a", "b"]]);
    }

    #[test]
    fn a_path_expression_and_a_path_in_a_macro_are_edges() {
        let imports = imports(&[
            ("", "mod a; mod b; mod c;"),
            ("a", "fn f() { let x = crate::b::g(1); }"),
            ("b", "fn g() { select! { x = crate::c::h() => x } }"),
            ("c", "fn h() -> super::a::T { todo() }"),
        ]);
        assert_eq!(cycles(&imports.folder_edges()), [["a", "b", "c"]]);
    }

    #[test]
    fn comments_strings_and_test_modules_are_not_edges() {
        let imports = imports(&[
            ("", "mod a; mod b;"),
            (
                "a",
                "//! See `crate::b`.\n// crate::b::X\nconst S: &str = \"crate::b::X\";\n#[cfg(test)]\nmod tests { use crate::b::X; }",
            ),
            ("b", "use crate::a::Y;"),
        ]);
        assert!(cycles(&imports.edges()).is_empty());
    }

    #[test]
    fn a_path_through_a_reexport_leads_to_the_definition() {
        let imports = imports(&[
            ("", "mod a;"),
            (
                "a",
                "mod x; mod y; pub use x::X; pub(crate) use self::y::{Y as Z};",
            ),
            ("a::x", "use super::Z;"),
            ("a::y", "struct Y;"),
        ]);
        let edges = imports.edges();
        assert!(
            edges[&vec!["a".to_owned(), "x".to_owned()]]
                .contains(&vec!["a".to_owned(), "y".to_owned()])
        );
        assert!(cycles(&edges).is_empty());
    }
}
