//! Modules that are slow or large to compile. They are small, and most are valid.

/// A module that reaches a limit of the compiler.
#[derive(Debug)]
pub struct Bomb {
    /// Name of the module, without an extension.
    pub name: &'static str,
    /// The module.
    pub bytes: Vec<u8>,
}

const NO_PARAMETERS: &[u8] = b"\x60\0\0";

/// An unsigned number in LEB128.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn vector(items: &[Vec<u8>]) -> Vec<u8> {
    [number(items.len()), items.concat()].concat()
}

fn section(id: u8, content: Vec<u8>) -> Vec<u8> {
    [vec![id], number(content.len()), content].concat()
}

fn body(locals: &[u8], code: &[u8]) -> Vec<u8> {
    let body = [locals, code, b"\x0b"].concat();
    [number(body.len()), body].concat()
}

/// A module whose functions have these bodies. The first function is `_start`.
fn module(types: &[Vec<u8>], bodies: &[Vec<u8>]) -> Vec<u8> {
    let functions = vec![vec![0]; bodies.len()];
    let export = [number(6), b"_start\0\0".to_vec()].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vector(types)),
        section(3, vector(&functions)),
        section(7, vector(&[export])),
        section(10, vector(bodies)),
    ]
    .concat()
}

fn functions(bodies: &[Vec<u8>]) -> Vec<u8> {
    module(&[NO_PARAMETERS.to_vec()], bodies)
}

/// Each component contains two instances of the previous component. The compiler unrolls them.
pub fn doubling_components(levels: usize) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = String::from(
        "(component (component $c0 (core module $m) (core instance (instantiate $m)))",
    );
    for level in 1..levels {
        let below = level - 1;
        write!(
            text,
            "(component $c{level} (alias outer 1 $c{below} (component $d))
               (instance (instantiate $d)) (instance (instantiate $d)))"
        )
        .unwrap();
    }
    let top = levels - 1;
    write!(
        text,
        "(instance (instantiate $c{top}))
         (core module $run (func (export \"run\")))
         (core instance $run (instantiate $run))
         (func (export \"run\") (canon lift (core func $run \"run\"))))"
    )
    .unwrap();
    wat::parse_str(text).unwrap()
}

/// One function with loops in loops, each of which changes many locals.
pub fn nested_loops(depth: usize) -> Vec<u8> {
    let mut code = b"\x03\x40".repeat(depth);
    for index in 0..depth * 20 {
        code.push(0x20);
        code.extend(number(index % 500));
        code.extend(b"\x42\x01\x7c\x21");
        code.extend(number(index * 7 % 500));
        code.extend(b"\x41\0\x0d");
        code.extend(number(index % depth));
    }
    code.extend(b"\x0b".repeat(depth));
    let locals = [number(1), number(500), vec![0x7e]].concat();
    functions(&[body(&locals, &code)])
}

/// One function with many conditions, each of which changes a local.
fn conditions(count: usize) -> Vec<u8> {
    let mut code = Vec::new();
    for index in 0..count {
        code.push(0x20);
        code.extend(number(index % 300));
        code.extend(b"\xa7\x04\x40\x42\x01\x21");
        code.extend(number(index * 13 % 300));
        code.push(0x0b);
    }
    let locals = [number(1), number(300), vec![0x7e]].concat();
    functions(&[body(&locals, &code)])
}

fn many_functions(count: usize) -> Vec<u8> {
    functions(&vec![body(&[0], &[]); count])
}

fn many_locals(count: usize) -> Vec<u8> {
    let locals = [number(1), number(49_999), vec![0x7f]].concat();
    functions(&vec![body(&locals, &[]); count])
}

/// Types with 20 parameters, all different.
fn many_types(count: usize) -> Vec<u8> {
    let others = (0..count).map(|index| {
        let parameters: Vec<_> = (0..20)
            .map(|bit| vec![0x7f - u8::from(index >> bit & 1 == 1)])
            .collect();
        [vec![0x60], vector(&parameters), vec![0]].concat()
    });
    let types: Vec<_> = std::iter::once(NO_PARAMETERS.to_vec())
        .chain(others)
        .collect();
    module(&types, &[body(&[0], &[])])
}

/// Modules that reach the memory limit.
pub fn of_memory() -> Vec<Bomb> {
    let bomb = |name, bytes| Bomb { name, bytes };
    vec![
        bomb("doubling-components", doubling_components(40)),
        bomb("many-functions", many_functions(999_999)),
        bomb("conditions", conditions(500_000)),
        bomb("many-types", many_types(900_000)),
    ]
}

/// Modules that reach the time limit.
pub fn of_time() -> Vec<Bomb> {
    let bomb = |name, bytes| Bomb { name, bytes };
    vec![
        bomb("nested-loops", nested_loops(2000)),
        bomb("many-locals", many_locals(20_000)),
    ]
}
