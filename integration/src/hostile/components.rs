//! Components in WebAssembly text, for calls of WASI 0.2 and 0.3 and for the step world.

/// Cases of `error-code` of `wasi:filesystem/types@0.3.0`, without the last one.
const FILE_ERRORS: &[&str] = &[
    "access",
    "already",
    "bad-descriptor",
    "busy",
    "deadlock",
    "quota",
    "exist",
    "file-too-large",
    "illegal-byte-sequence",
    "in-progress",
    "interrupted",
    "invalid",
    "io",
    "is-directory",
    "loop",
    "too-many-links",
    "message-size",
    "name-too-long",
    "no-device",
    "no-entry",
    "no-lock",
    "insufficient-memory",
    "insufficient-space",
    "not-directory",
    "not-empty",
    "not-recoverable",
    "unsupported",
    "no-tty",
    "no-such-device",
    "overflow",
    "not-permitted",
    "pipe",
    "read-only",
    "invalid-seek",
    "text-file-busy",
    "cross-device",
];

/// A command that calls functions of the host. The core function `run` has this body.
#[derive(Debug, Default)]
pub struct Command<'a> {
    /// Version of WASI: `0.2.0` or `0.3.0`.
    pub version: &'a str,
    /// Imports and definitions of the component.
    pub component: &'a str,
    /// Core functions for the core module: names, and the definitions with `core func`.
    pub functions: &'a [(&'a str, &'a str)],
    /// Fields of the core module: imports from `host`, and data.
    pub core: &'a str,
    /// Body of the core function `run`, without its result.
    pub body: &'a str,
}

impl Command<'_> {
    /// The component as text. Its memory has 16 MiB. The host's values are between the first page
    /// and the eighth megabyte. The guest overwrites them again and again.
    pub fn text(&self) -> String {
        let Self {
            version,
            component,
            functions,
            core,
            body,
        } = self;
        let names = functions.iter();
        let exports: Vec<String> = names
            .map(|(name, _)| format!("(export \"{name}\" (func ${name}))"))
            .collect();
        let functions: Vec<String> = functions
            .iter()
            .map(|(name, definition)| format!("(core func ${name} {definition})"))
            .collect();
        let exports = exports.concat();
        let functions = functions.concat();
        let is_async = if version.starts_with("0.3") {
            "async"
        } else {
            ""
        };
        format!(
            r#"(component {component}
                (core module $allocator
                    (memory (export "memory") 256)
                    (global $next (mut i32) (i32.const 65536))
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $new i32)
                        (if (i32.gt_u (i32.add (global.get $next) (local.get 3)) (i32.const 8388608))
                            (then (global.set $next (i32.const 65536))))
                        (local.set $new (global.get $next))
                        (global.set $next (i32.and (i32.const -8)
                            (i32.add (i32.const 7) (i32.add (local.get $new) (local.get 3)))))
                        (local.get $new)))
                (core instance $allocator (instantiate $allocator))
                {functions}
                (core module $main
                    (import "host" "memory" (memory 256))
                    {core}
                    (func (export "run") (result i32) (local $a i32) (local $b i32) {body} (i32.const 0)))
                (core instance $host
                    (export "memory" (memory $allocator "memory"))
                    {exports})
                (core instance $main (instantiate $main (with "host" (instance $host))))
                (func $run {is_async} (result (result)) (canon lift (core func $main "run")))
                (instance $exported (export "run" (func $run)))
                (export "wasi:cli/run@{version}" (instance $exported)))"#
        )
    }
}

/// A command that calls `get-random-bytes` often, in a straight line.
pub fn random(version: &str, length: usize, calls: usize) -> String {
    let parameter = if version.starts_with("0.3") {
        "max-len"
    } else {
        "len"
    };
    Command {
        version,
        component: &format!(
            r#"(import "wasi:random/random@{version}" (instance $random
                (export "get-random-bytes" (func (param "{parameter}" u64) (result (list u8))))))"#
        ),
        functions: &[(
            "bytes",
            r#"(canon lower (func $random "get-random-bytes")
                (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
        )],
        core: r#"(import "host" "bytes" (func $bytes (param i64 i32)))"#,
        body: &format!("(call $bytes (i64.const {length}) (i32.const 0))").repeat(calls),
    }
    .text()
}

/// A command that reads the clock often, in a straight line.
pub fn clock(version: &str, calls: usize) -> String {
    Command {
        version,
        component: &format!(
            r#"(import "wasi:clocks/monotonic-clock@{version}" (instance $clock
                (export "now" (func (result u64)))))"#
        ),
        functions: &[("now", r#"(canon lower (func $clock "now"))"#)],
        core: r#"(import "host" "now" (func $now (result i64)))"#,
        body: &"(drop (call $now))".repeat(calls),
    }
    .text()
}

/// A loop that runs the instruction `count` times. `$a` is the number of the run.
fn repeated(instruction: &str, count: usize) -> String {
    format!(
        "(loop $next
            {instruction}
            (local.set $a (i32.add (local.get $a) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $a) (i32.const {count}))))"
    )
}

/// A WASI 0.3 command that starts sleeps of an hour, and waits for none of them.
pub fn sleeps(count: usize) -> String {
    Command {
        version: "0.3.0",
        component: r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
            (export "wait-for" (func async (param "how-long" u64)))))"#,
        functions: &[(
            "wait-for",
            r#"(canon lower (func $clock "wait-for") async (memory (core memory $allocator "memory")))"#,
        )],
        core: r#"(import "host" "wait-for" (func $wait (param i64) (result i32)))"#,
        body: &repeated("(drop (call $wait (i64.const 3600000000000)))", count),
    }
    .text()
}

/// A WASI 0.3 command with components inside. One of them calls an async function of each other
/// one. This function uses 600 KiB of its stack, and then sleeps for an hour. The command returns
/// after 300 milliseconds.
pub fn waiting_calls(count: usize) -> String {
    let each = |text: fn(usize) -> String| (0..count).map(text).collect::<String>();
    let sleepers = each(|n| {
        format!(
            r#"(instance $s{n} (instantiate $sleeper (with "wait-for" (func $clock "wait-for"))))"#
        )
    });
    let imports = each(|n| format!(r#"(import "s{n}" (func $s{n} async))"#));
    let lowered = each(|n| format!("(core func $s{n} (canon lower (func $s{n}) async))"));
    let core_imports = each(|n| format!(r#"(import "host" "s{n}" (func $s{n} (result i32)))"#));
    let calls = each(|n| format!("(drop (call $s{n}))"));
    let exports = each(|n| format!(r#"(export "s{n}" (func $s{n}))"#));
    let arguments = each(|n| format!(r#"(with "s{n}" (func $s{n} "sleep"))"#));
    format!(
        r#"(component
            (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
                (export "wait-for" (func async (param "how-long" u64)))))
            (component $sleeper
                (import "wait-for" (func $wait async (param "how-long" u64)))
                (core func $wait (canon lower (func $wait)))
                (core module $code
                    (import "host" "wait" (func $wait (param i64)))
                    (func $use-stack (param $calls i32) (result i32)
                        (if (result i32) (i32.eqz (local.get $calls))
                            (then (i32.const 0))
                            (else (i32.add (local.get $calls)
                                (call $use-stack (i32.sub (local.get $calls) (i32.const 1)))))))
                    (func (export "sleep") (result i32)
                        (drop (call $use-stack (i32.const 12000)))
                        (call $wait (i64.const 3600000000000))
                        (i32.const 0))
                    (func (export "called-back") (param i32 i32 i32) (result i32) (i32.const 0)))
                (core instance $host (export "wait" (func $wait)))
                (core instance $code (instantiate $code (with "host" (instance $host))))
                (func (export "sleep") async (canon lift (core func $code "sleep") async
                    (callback (core func $code "called-back")))))
            {sleepers}
            (component $caller
                (import "wait-for" (func $wait async (param "how-long" u64)))
                {imports}
                (core func $wait (canon lower (func $wait)))
                {lowered}
                (core module $main
                    (import "host" "wait" (func $wait (param i64)))
                    {core_imports}
                    (func (export "run") (result i32)
                        {calls} (call $wait (i64.const 300000000)) (i32.const 0)))
                (core instance $host (export "wait" (func $wait)) {exports})
                (core instance $main (instantiate $main (with "host" (instance $host))))
                (func (export "run") async (result (result)) (canon lift (core func $main "run"))))
            (instance $caller (instantiate $caller
                (with "wait-for" (func $clock "wait-for")) {arguments}))
            (instance $exported (export "run" (func $caller "run")))
            (export "wasi:cli/run@0.3.0" (instance $exported)))"#
    )
}

/// A command that calls itself `depth` times, and then asks the host for random bytes. The host
/// calls the command to allocate memory for them. This function calls itself without end.
pub fn deep_allocation(depth: usize) -> String {
    format!(
        r#"(component
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (core module $allocator
                (memory (export "memory") 1)
                (func $without-end (param $number i32) (result i32)
                    (i32.add (i32.const 1)
                        (call $without-end (i32.add (local.get $number) (i32.const 1)))))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (call $without-end (i32.const 0))))
            (core instance $allocator (instantiate $allocator))
            (core func $bytes (canon lower (func $random "get-random-bytes")
                (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc"))))
            (core module $main
                (import "host" "bytes" (func $bytes (param i64 i32)))
                (func $down (param $calls i32) (result i32)
                    (if (result i32) (i32.eqz (local.get $calls))
                        (then (call $bytes (i64.const 1) (i32.const 0)) (i32.const 0))
                        (else (i32.add (i32.const 1)
                            (call $down (i32.sub (local.get $calls) (i32.const 1)))))))
                (func (export "run") (result i32)
                    (drop (call $down (i32.const {depth}))) (i32.const 0)))
            (core instance $host (export "bytes" (func $bytes)))
            (core instance $main (instantiate $main (with "host" (instance $host))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    )
}

/// A command that makes handles of a resource of its own.
pub fn resources(count: usize) -> String {
    Command {
        version: "0.2.0",
        component: "(type $mine (resource (rep i32)))",
        functions: &[("new", "(canon resource.new $mine)")],
        core: r#"(import "host" "new" (func $new (param i32) (result i32)))"#,
        body: &repeated("(drop (call $new (local.get $a)))", count),
    }
    .text()
}

/// A WASI 0.3 command that makes streams.
pub fn streams(count: usize) -> String {
    Command {
        version: "0.3.0",
        component: "(type $bytes (stream u8))",
        functions: &[("new", "(canon stream.new $bytes)")],
        core: r#"(import "host" "new" (func $new (result i64)))"#,
        body: &repeated("(drop (call $new))", count),
    }
    .text()
}

/// A WASI 0.3 command that connects a file with itself: the host reads the file and appends what it
/// read, while the guest waits.
pub fn file_that_grows() -> String {
    let errors: Vec<String> = FILE_ERRORS
        .iter()
        .map(|name| format!("(case \"{name}\")"))
        .collect();
    let errors = errors.concat();
    let component = format!(
        r#"(import "wasi:filesystem/types@0.3.0" (instance $types
            (export "descriptor" (type $descriptor (sub resource)))
            (type $error-cases (variant {errors} (case "other" (option string))))
            (export "error-code" (type $error (eq $error-cases)))
            (type $path-bits (flags "symlink-follow"))
            (export "path-flags" (type $path-flags (eq $path-bits)))
            (type $open-bits (flags "create" "directory" "exclusive" "truncate"))
            (export "open-flags" (type $open-flags (eq $open-bits)))
            (type $bits (flags "read" "write" "file-integrity-sync" "data-integrity-sync"
                "requested-write-sync" "mutate-directory"))
            (export "descriptor-flags" (type $flags (eq $bits)))
            (export "[method]descriptor.open-at" (func async
                (param "self" (borrow $descriptor)) (param "path-flags" $path-flags)
                (param "path" string) (param "open-flags" $open-flags) (param "flags" $flags)
                (result (result (own $descriptor) (error $error)))))
            (export "[method]descriptor.set-size" (func async
                (param "self" (borrow $descriptor)) (param "size" u64)
                (result (result (error $error)))))
            (export "[method]descriptor.read-via-stream" (func
                (param "self" (borrow $descriptor)) (param "offset" u64)
                (result (tuple (stream u8) (future (result (error $error)))))))
            (export "[method]descriptor.append-via-stream" (func
                (param "self" (borrow $descriptor)) (param "data" (stream u8))
                (result (future (result (error $error))))))))
        (alias export $types "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.3.0" (instance $preopens
            (alias outer 1 $descriptor (type $outer))
            (export "descriptor" (type $descriptor (eq $outer)))
            (export "get-directories"
                (func (result (list (tuple (own $descriptor) string)))))))
        (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
            (export "wait-for" (func async (param "how-long" u64)))))"#
    );
    Command {
        version: "0.3.0",
        component: &component,
        functions: &[
            (
                "directories",
                r#"(canon lower (func $preopens "get-directories")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            (
                "open-at",
                r#"(canon lower (func $types "[method]descriptor.open-at")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            (
                "set-size",
                r#"(canon lower (func $types "[method]descriptor.set-size")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            (
                "read",
                r#"(canon lower (func $types "[method]descriptor.read-via-stream")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            (
                "append",
                r#"(canon lower (func $types "[method]descriptor.append-via-stream")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            ("wait-for", r#"(canon lower (func $clock "wait-for"))"#),
        ],
        core: r#"(import "host" "directories" (func $directories (param i32)))
            (import "host" "open-at" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
            (import "host" "set-size" (func $set-size (param i32 i64 i32)))
            (import "host" "read" (func $read (param i32 i64 i32)))
            (import "host" "append" (func $append (param i32 i32) (result i32)))
            (import "host" "wait-for" (func $wait (param i64)))
            (data (i32.const 512) "tmp/f")"#,
        // Open flags: create. Descriptor flags: read and write.
        body: "(call $directories (i32.const 0))
            (local.set $a (i32.load (i32.load (i32.const 0))))
            (call $open (local.get $a) (i32.const 0) (i32.const 512) (i32.const 5)
                (i32.const 1) (i32.const 3) (i32.const 16))
            (if (i32.load8_u (i32.const 16)) (then unreachable))
            (local.set $b (i32.load (i32.const 20)))
            (call $set-size (local.get $b) (i64.const 1048576) (i32.const 32))
            (call $read (local.get $b) (i64.const 0) (i32.const 64))
            (drop (call $append (local.get $b) (i32.load (i32.const 64))))
            (call $wait (i64.const 3600000000000))",
    }
    .text()
}

/// A WASI 0.2 command that lists its directory `count` times. `after` is code that runs after each
/// list. The handle of the list is in the local `$b`.
pub fn directory_lists(count: usize, after: &str) -> String {
    let errors = "access would-block already bad-descriptor busy deadlock quota exist file-too-large \
        illegal-byte-sequence in-progress interrupted invalid io is-directory loop too-many-links \
        message-size name-too-long no-device no-entry no-lock insufficient-memory \
        insufficient-space not-directory not-empty not-recoverable unsupported no-tty \
        no-such-device overflow not-permitted pipe read-only invalid-seek text-file-busy \
        cross-device";
    let errors = errors.split_whitespace();
    let errors: Vec<String> = errors.map(|name| format!("\"{name}\" ")).collect();
    let errors = errors.concat();
    let component = format!(
        r#"(import "wasi:filesystem/types@0.2.0" (instance $types
            (export "descriptor" (type $descriptor (sub resource)))
            (export "directory-entry-stream" (type $list (sub resource)))
            (type $error-cases (enum {errors}))
            (export "error-code" (type $error (eq $error-cases)))
            (export "[method]descriptor.read-directory" (func
                (param "self" (borrow $descriptor))
                (result (result (own $list) (error $error)))))))
        (alias export $types "descriptor" (type $descriptor))
        (alias export $types "directory-entry-stream" (type $list))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer 1 $descriptor (type $outer))
            (export "descriptor" (type $descriptor (eq $outer)))
            (export "get-directories"
                (func (result (list (tuple (own $descriptor) string)))))))"#
    );
    Command {
        version: "0.2.0",
        component: &component,
        functions: &[
            (
                "directories",
                r#"(canon lower (func $preopens "get-directories")
                    (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc")))"#,
            ),
            (
                "list",
                r#"(canon lower (func $types "[method]descriptor.read-directory")
                    (memory (core memory $allocator "memory")))"#,
            ),
            ("drop", "(canon resource.drop $list)"),
        ],
        core: r#"(import "host" "directories" (func $directories (param i32)))
            (import "host" "list" (func $list (param i32 i32)))
            (import "host" "drop" (func $drop (param i32)))
            (global $count (mut i32) (i32.const 0))"#,
        body: &format!(
            "(call $directories (i32.const 0))
            (local.set $a (i32.load (i32.load (i32.const 0))))
            (loop $next
                (call $list (local.get $a) (i32.const 16))
                (if (i32.load8_u (i32.const 16)) (then unreachable))
                (local.set $b (i32.load (i32.const 20)))
                {after}
                (global.set $count (i32.add (global.get $count) (i32.const 1)))
                (br_if $next (i32.lt_u (global.get $count) (i32.const {count}))))"
        ),
    }
    .text()
}

/// The types of the step world.
const STEP_TYPES: &str = r#"(import "wasm-workflow:step/types@0.1.0" (instance $types
    (type $parameter-fields (record (field "name" string) (field "value" string)))
    (export "parameter" (type $parameter (eq $parameter-fields)))
    (type $artifact-fields (record (field "name" string) (field "path" string)))
    (export "artifact" (type $artifact (eq $artifact-fields)))
    (type $invocation-fields (record
        (field "workflow-name" string) (field "workflow-namespace" string)
        (field "workflow-uid" string) (field "template" string)
        (field "parameters" (list $parameter)) (field "inputs" (list $artifact))
        (field "outputs" (list $artifact)) (field "options" string)))
    (export "invocation" (type $invocation (eq $invocation-fields)))
    (type $outcome-fields (record
        (field "message" (option string)) (field "result" (option string))
        (field "parameters" (list $parameter)) (field "artifacts" (list $artifact))))
    (export "outcome" (type $outcome (eq $outcome-fields)))))
    (alias export $types "invocation" (type $invocation))
    (alias export $types "outcome" (type $outcome))"#;

/// A component of the step world. `body` fills the returned value at the address 16: the tag of the
/// result, and at 20 the outcome, with two optional strings of 12 bytes and two lists of 8 bytes.
/// Its memory has `pages` pages of 64 KiB, filled with the letter `a` from the second page on.
pub fn step(pages: usize, body: &str) -> String {
    format!(
        r#"(component {STEP_TYPES}
            (core module $main
                (memory (export "memory") {pages})
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
                (func (export "run")
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
                    (result i32) (local $i i32)
                    (memory.fill (i32.const 65536) (i32.const 97)
                        (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 65536)))
                    {body}
                    (i32.const 16)))
            (core instance $main (instantiate $main))
            (func $run (param "invocation" $invocation) (result (result $outcome (error string)))
                (canon lift (core func $main "run")
                    (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))
            (export "run" (func $run)))"#
    )
}
