//! Proposals to extend WebAssembly: which the engine has, and which it does not have.

use wasmparser::WasmFeatures;

/// A proposal that the engine does not have.
pub(super) struct Proposal {
    pub(super) feature: WasmFeatures,
    pub(super) name: &'static str,
    /// How to build a module without it.
    pub(super) hint: &'static str,
}

/// The features that wasmtime has by default, and so the engines of this program.
pub(super) const SUPPORTED: WasmFeatures = WasmFeatures::WASM3
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::CM_ASYNC);

const COMPONENT_HINT: &str =
    "build the component with a toolchain for the releases of WASI 0.2 or 0.3";

/// The proposals that the engine does not have, and that some toolchains use.
pub(super) const UNSUPPORTED: &[Proposal] = &[
    Proposal {
        feature: WasmFeatures::LEGACY_EXCEPTIONS,
        name: "the old proposal for exceptions",
        hint: "build with the exceptions of WebAssembly 3.0 (`-sWASM_LEGACY_EXCEPTIONS=0` for \
               Emscripten, `-mllvm -wasm-use-legacy-eh=false` for clang), or translate the module \
               with `wasm-opt --translate-to-exnref`",
    },
    Proposal {
        feature: WasmFeatures::SHARED_EVERYTHING_THREADS,
        name: "the proposal \"shared-everything threads\"",
        hint: "build without threads",
    },
    Proposal {
        feature: WasmFeatures::STACK_SWITCHING,
        name: "the proposal \"stack switching\"",
        hint: "build without stack switching",
    },
    Proposal {
        feature: WasmFeatures::CUSTOM_PAGE_SIZES,
        name: "the proposal \"custom page sizes\"",
        hint: "build with pages of 64 KiB",
    },
    Proposal {
        feature: WasmFeatures::WIDE_ARITHMETIC,
        name: "the proposal \"wide arithmetic\"",
        hint: "build without the target feature `wide-arithmetic`",
    },
    Proposal {
        feature: WasmFeatures::CM_ASYNC_STACKFUL.union(WasmFeatures::CM_MORE_ASYNC_BUILTINS),
        name: "a proposal for asynchronous components",
        hint: COMPONENT_HINT,
    },
    Proposal {
        feature: WasmFeatures::CM_ERROR_CONTEXT,
        name: "the proposal \"error-context\" of the component model",
        hint: COMPONENT_HINT,
    },
    Proposal {
        feature: WasmFeatures::CM_THREADING,
        name: "the proposal for threads in components",
        hint: COMPONENT_HINT,
    },
    Proposal {
        feature: WasmFeatures::CM_FIXED_LENGTH_LISTS.union(WasmFeatures::CM_MAP),
        name: "a proposal for new types in components",
        hint: COMPONENT_HINT,
    },
];

/// All features that this file knows.
pub(super) fn known() -> WasmFeatures {
    let unsupported = UNSUPPORTED.iter().map(|proposal| proposal.feature);
    unsupported.fold(SUPPORTED, WasmFeatures::union)
}
