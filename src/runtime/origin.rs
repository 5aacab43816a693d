//! Toolchains and interfaces of other hosts: how to recognise their modules, and how to build a
//! module for this executor instead.

/// The newest release of WASI 0.2 that wasmtime-wasi offers.
pub(super) const WASI_0_2: &str = "0.2.12";
/// The newest release of WASI 0.3 that wasmtime-wasi offers.
pub(super) const WASI_0_3: &str = "0.3.0";

/// Where a module or an import comes from, when it does not come from a WASI toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// wasm-bindgen and wasm-pack: Rust for JavaScript.
    WasmBindgen,
    /// Go's and TinyGo's targets for JavaScript.
    GoForJavaScript,
    /// Emscripten, with JavaScript around the module.
    Emscripten,
    /// AssemblyScript without the WASI shim.
    AssemblyScript,
    /// Another host that is written in JavaScript.
    JavaScript,
    /// WASIX, the interface of Wasmer.
    Wasix,
    /// Threads of WASI 0.1.
    Threads,
    /// The HTTP client of WASI.
    HttpClient,
    /// The HTTP client of the original plugin.
    ExperimentalHttp,
    /// A draft or a release candidate of WASI.
    Draft,
    /// A proposal of WASI, or a version of it, that the executor does not have.
    OtherWasi,
    /// An extension of WASI 0.1 by another runtime.
    ExtendedWasi,
    /// An interface of Spin.
    Spin,
    /// An interface of wasmCloud.
    WasmCloud,
    /// A symbol that the linker did not find.
    Undefined,
    /// An interface of an unknown host.
    Unknown,
}

/// Functions that AssemblyScript's compiler imports from `env`
/// (<https://www.assemblyscript.org/concepts.html#special-imports>).
const ASSEMBLY_SCRIPT: &[&str] = &["abort", "trace", "seed"];
/// Beginnings of the names that Emscripten imports from `env`.
const EMSCRIPTEN: &[&str] = &[
    "emscripten_",
    "_emscripten_",
    "__syscall_",
    "invoke_",
    "_embind_",
    "_emval_",
    "__cxa_",
    "__assert_fail",
    "getTempRet0",
    "setTempRet0",
];
/// Beginnings of core modules that come from a known host.
const CORE_MODULES: &[(&str, Origin)] = &[
    ("wbg", Origin::WasmBindgen),
    ("__wbindgen", Origin::WasmBindgen),
    ("gojs", Origin::GoForJavaScript),
    ("wasix_", Origin::Wasix),
    ("wasi_experimental_http", Origin::ExperimentalHttp),
    ("wasi_snapshot_preview1", Origin::ExtendedWasi),
    ("wasi_unstable", Origin::ExtendedWasi),
    ("rb-js-abi-host", Origin::JavaScript),
    ("teavm", Origin::JavaScript),
    ("wasm:js", Origin::JavaScript),
    ("js_code", Origin::JavaScript),
];
/// Beginnings of the interfaces of components that come from a known host.
const INTERFACES: &[(&str, Origin)] = &[
    ("wasi:http/", Origin::HttpClient),
    ("wasi:", Origin::OtherWasi),
    ("fermyon:", Origin::Spin),
    ("spin:", Origin::Spin),
    ("wasmcloud:", Origin::WasmCloud),
];

impl Origin {
    /// The origin of an import of a core module.
    pub(super) fn of_core(module: &str, name: &str) -> Self {
        let known = CORE_MODULES
            .iter()
            .find(|(start, _)| module.starts_with(start));
        match module {
            // wasm-bindgen imports from its own JavaScript file.
            _ if module.ends_with("_bg.js") => Self::WasmBindgen,
            "go" => Self::GoForJavaScript,
            "wasi" if name == "thread-spawn" => Self::Threads,
            // Emscripten shortens the names of optimised modules.
            "a" => Self::Emscripten,
            "env" if EMSCRIPTEN.iter().any(|start| name.starts_with(start)) => Self::Emscripten,
            "env" if ASSEMBLY_SCRIPT.contains(&name) || name.starts_with("console.") => {
                Self::AssemblyScript
            }
            "env" => Self::Undefined,
            _ => known.map_or(Self::Unknown, |(_, origin)| *origin),
        }
    }

    /// The origin of an import or an export of a component.
    pub(super) fn of_interface(name: &str) -> Self {
        let version = name.split_once('@').map(|(_, version)| version);
        // Only draft versions of WASI have a pre-release part.
        let is_draft = version.is_some_and(|version| version.contains('-'));
        match INTERFACES.iter().find(|(start, _)| name.starts_with(start)) {
            Some((_, Self::HttpClient | Self::OtherWasi)) if is_draft => Self::Draft,
            Some((_, origin)) => *origin,
            None => Self::Unknown,
        }
    }

    /// What the module is, as the end of a sentence that begins with "it".
    pub(super) fn description(self) -> Option<&'static str> {
        Some(match self {
            Self::WasmBindgen => "was built for JavaScript, by wasm-bindgen",
            Self::GoForJavaScript => "was built for JavaScript, by Go or TinyGo",
            Self::Emscripten => "was built for JavaScript, by Emscripten",
            Self::AssemblyScript => "was built for JavaScript, by AssemblyScript",
            Self::JavaScript => "was built for a host in JavaScript",
            Self::Wasix => "was built for WASIX",
            Self::Threads => "was built for WASI threads",
            Self::Spin => "was built for Spin",
            Self::WasmCloud => "was built for wasmCloud",
            _ => return None,
        })
    }

    /// How to build a module that runs here.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::WasmBindgen => {
                "build for `wasm32-wasip1` or `wasm32-wasip2`, without wasm-bindgen; \
                 switch off the features of dependencies for JavaScript, such as `js`"
            }
            Self::GoForJavaScript => {
                "build with `GOOS=wasip1 GOARCH=wasm go build`, or with `tinygo build -target=wasip1`"
            }
            Self::Emscripten => {
                "build a program with `main` and link it with `-sSTANDALONE_WASM -sPURE_WASI`, \
                 or build with the WASI SDK"
            }
            Self::AssemblyScript => {
                "compile with the package `@assemblyscript/wasi-shim`: \
                 `--config ./node_modules/@assemblyscript/wasi-shim/asconfig.json`"
            }
            Self::JavaScript => "build the program for WASI",
            Self::Wasix => "build for WASI, such as `wasm32-wasip1`, without WASIX",
            Self::Threads => {
                "build without threads: for `wasm32-wasip1`, not for `wasm32-wasip1-threads`, \
                 and without `-pthread`"
            }
            Self::HttpClient => {
                "this version gives modules no HTTP: fetch the data with an input artifact of the \
                 kind `http`; if the program needs no HTTP, build it without \
                 (`jco componentize --disable http --disable fetch-event`)"
            }
            Self::ExperimentalHttp => {
                "this version gives modules no HTTP: fetch the data with an input artifact of the \
                 kind `http`"
            }
            Self::Draft => {
                "this executor offers releases of WASI, and no drafts or release candidates: \
                 build with a current toolchain, for WASI 0.2 or 0.3"
            }
            Self::OtherWasi => {
                "this executor offers `wasi:cli`, `clocks`, `filesystem`, `io`, `random` and \
                 `sockets`, up to version 0.2.12 and 0.3.0: build without other interfaces"
            }
            Self::ExtendedWasi => {
                "this function is an extension of another runtime: build without it, with a \
                 WASI toolchain"
            }
            Self::Spin => "build a program for WASI, such as `wasm32-wasip2`, without Spin's SDK",
            Self::WasmCloud => {
                "build a program for WASI, such as `wasm32-wasip2`, without wasmCloud's interfaces"
            }
            Self::Undefined => {
                "the linker did not find this symbol: link the library that has it, and do not use \
                 `--allow-undefined` or `--import-memory`"
            }
            Self::Unknown => "build the module for WASI 0.1, 0.2 or 0.3, without this import",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_tell_which_toolchain_made_the_module() {
        let core = [
            ("wbg", "__wbg_log_1", Origin::WasmBindgen),
            (
                "__wbindgen_placeholder__",
                "__wbindgen_throw",
                Origin::WasmBindgen,
            ),
            ("./app_bg.js", "__wbg_log_1", Origin::WasmBindgen),
            ("gojs", "runtime.ticks", Origin::GoForJavaScript),
            ("go", "runtime.wasmExit", Origin::GoForJavaScript),
            ("env", "emscripten_resize_heap", Origin::Emscripten),
            ("a", "b", Origin::Emscripten),
            ("env", "abort", Origin::AssemblyScript),
            ("env", "console.log", Origin::AssemblyScript),
            ("env", "missing_function", Origin::Undefined),
            ("wasix_32v1", "thread_spawn_v2", Origin::Wasix),
            ("wasi", "thread-spawn", Origin::Threads),
            ("wasi_snapshot_preview1", "sock_open", Origin::ExtendedWasi),
            ("host", "log", Origin::Unknown),
        ];
        for (module, name, origin) in core {
            assert_eq!(Origin::of_core(module, name), origin, "{module} {name}");
        }
        let interfaces = [
            ("wasi:http/outgoing-handler@0.2.0", Origin::HttpClient),
            ("wasi:http/types@0.2.0-rc-2023-12-05", Origin::Draft),
            ("wasi:keyvalue/store@0.2.0-draft2", Origin::Draft),
            ("wasi:clocks/timezone@0.2.3", Origin::OtherWasi),
            ("fermyon:spin/key-value@2.0.0", Origin::Spin),
            ("acme:host/log", Origin::Unknown),
        ];
        for (name, origin) in interfaces {
            assert_eq!(Origin::of_interface(name), origin, "{name}");
        }
    }
}
