//! The reasons why bytes cannot be made into a module.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::inspect::NotWasm;
use super::load_error::{LoadError, clipped_to};
use super::module_source::ReadError;
use super::retain::Retain;
use crate::step::CompileLimits;
use crate::text::units::{ByteSize, Time};

/// Maximum length of a refusal's message, in characters. Messages contain names of the module. Many
/// refusals are remembered.
const MAX_MESSAGE: usize = 1 << 10;

const BUILD_AGAIN: &str = "build the module again, for WASI 0.1, 0.2 or 0.3";

/// The reason why this executor cannot run the bytes as a module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The bytes are not WebAssembly, or are damaged.
    #[error(transparent)]
    NotWasm(#[from] NotWasm),
    /// The module is valid, and this executor cannot run it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine refuses the code of the module.
    #[error("the module cannot be compiled: {0}")]
    Compile(String),
}

impl ModuleError {
    /// What the author of the module, or of the template, can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotWasm(error) => error.hint(),
            Self::Load(error) => error.hint(),
            Self::Compile(_) => BUILD_AGAIN,
        }
    }
}

/// A [`ModuleError`] that a compile worker found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    hint: String,
}

impl Refusal {
    /// The refusal of a module whose nesting is too deep for the compiler.
    pub(super) fn too_deep() -> Self {
        Self {
            message: "the module cannot be compiled: its code is nested too deeply".to_owned(),
            hint: "split the largest functions of the module".to_owned(),
        }
    }
}

impl From<&ModuleError> for Refusal {
    fn from(error: &ModuleError) -> Self {
        Self {
            message: clipped_to(&error.to_string(), MAX_MESSAGE),
            hint: error.hint().to_owned(),
        }
    }
}

/// A limit of [`CompileLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileLimit {
    /// [`CompileLimits::time`].
    Time,
    /// [`CompileLimits::memory`].
    Memory,
}

impl CompileLimit {
    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
        }
    }
}

/// The reason why a module was not compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompileError {
    /// The module cannot be run by this executor.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The compiled module cannot be linked or loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The module needs more than the limits allow.
    #[error(
        "the module cannot be compiled within {} and {} ({}): the compiler reached the {} limit",
        Time(.limits.time), ByteSize(.limits.memory), names(*.reached, *.capped), .reached.name()
    )]
    Limit {
        /// The limit that was reached.
        reached: CompileLimit,
        /// All limits.
        limits: CompileLimits,
        /// Whether the memory limit is as high as the memory of all workers allows.
        capped: bool,
    },
    /// An earlier compilation of the module failed, and its end is remembered.
    #[error("{0}; the executor remembers this error of an earlier step for ten minutes")]
    Remembered(Box<CompileError>),
    /// The machine code and the metadata of the module are too large to be kept in memory.
    #[error(
        "the machine code and the metadata of the module are larger than {} (a quarter of \
         `capacity.compileMemory`), and they can only be kept in memory",
        ByteSize(*.most)
    )]
    CodeTooLarge {
        /// Maximum size of the machine code and the metadata, in bytes.
        most: u64,
    },
    /// The bytes of the module could not be read again within the time limit.
    #[error(
        "the module was not compiled within {} (`limits.compile.time`): reading it again took too long",
        Time(*.0)
    )]
    SlowRead(Duration),
    /// The bytes of the module cannot be read again.
    #[error("the module cannot be read: {0}")]
    Unreadable(ReadError),
    /// The compiler reported an error for a valid module.
    #[error("{refusal}")]
    Compiler {
        /// The compiler's error.
        refusal: Refusal,
        /// Memory of the compiler, in bytes.
        memory: u64,
    },
    /// The compiler crashed while it compiled the module.
    #[error("the module cannot be compiled: the compiler crashed ({how})")]
    Crashed {
        /// The panic's message, or the signal.
        how: String,
        /// Memory of the compiler, in bytes.
        memory: u64,
    },
    /// The compiler reached its time limit, but this machine gave it little processor time.
    #[error(
        "the module was not compiled within {} (`limits.compile.time`): this machine is busy, and \
         the compiler got only {} of processor time",
        Time(*.time), Time(*.processor)
    )]
    Starved {
        /// The time limit.
        time: Duration,
        /// Processor time of the compiler.
        processor: Duration,
    },
    /// The compile worker could not do its work. The cause may be this machine.
    #[error("the compile worker failed: {0}")]
    Worker(String),
}

/// The names of the settings that decide about a limit.
fn names(reached: CompileLimit, capped: bool) -> &'static str {
    match (reached, capped) {
        (CompileLimit::Memory, true) => "`limits.compile` and `capacity.compileMemory`",
        _ => "`limits.compile`",
    }
}

impl CompileError {
    /// What the author of the module, or of the template, can do.
    pub fn hint(&self) -> &str {
        match self {
            Self::Remembered(error) => error.hint(),
            Self::Limit {
                reached: CompileLimit::Memory,
                capped: true,
                ..
            } => {
                "make the module smaller, or raise `capacity.compileMemory`: the compiler and the bytes of \
                 one module together may use three quarters of this memory"
            }
            Self::Refused(refusal) | Self::Compiler { refusal, .. } => &refusal.hint,
            Self::Load(error) => error.hint(),
            Self::Limit { .. } => {
                "make the module smaller, or raise `limits.compile` (the template's own, or the \
                 operator's)"
            }
            Self::Crashed { .. } => {
                "report this message and the module; a build of the module with another compiler, or \
                 other optimisations, may compile"
            }
            Self::Starved { .. } => {
                "run the step again; if this error repeats, give the executor more processor time, or \
                 raise `limits.compile.time`"
            }
            Self::CodeTooLarge { .. } => {
                "serve the module without `Cache-Control: no-store`, or raise \
                 `capacity.compileMemory`; if other modules fail, too, the code directory of the \
                 executor cannot be used"
            }
            Self::SlowRead(_) => {
                "run the step again; if this error repeats, raise `limits.compile.time`"
            }
            Self::Unreadable(_) | Self::Worker(_) => {
                "run the step again; if this error repeats, report it with the log of the executor"
            }
        }
    }

    /// Whether the module needs more than the limits allow.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Remembered(error) => error.is_limit(),
            error => matches!(error, Self::Limit { .. } | Self::CodeTooLarge { .. }),
        }
    }

    /// Whether the same module fails in the same way with these limits. The header of
    /// [`super::compiler`] has the rule as a table.
    pub fn repeats_with(&self, limits: CompileLimits, retain: Retain) -> bool {
        match self {
            // An error of the engine may be a lack of memory in this process.
            Self::Load(LoadError::Engine(_))
            | Self::Unreadable(_)
            | Self::SlowRead(_)
            | Self::Worker(_)
            | Self::Starved { .. } => false,
            Self::CodeTooLarge { .. } => retain == Retain::InMemory,
            Self::Remembered(error) => error.repeats_with(limits, retain),
            Self::Refused(_) | Self::Load(_) => true,
            Self::Compiler { memory, .. } | Self::Crashed { memory, .. } => {
                limits.memory <= *memory
            }
            Self::Limit {
                reached: CompileLimit::Time,
                limits: tried,
                ..
            } => limits.time <= tried.time,
            Self::Limit {
                reached: CompileLimit::Memory,
                limits: tried,
                ..
            } => limits.memory <= tried.memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: CompileLimits = CompileLimits {
        time: Duration::from_secs(10),
        memory: 100 << 20,
    };

    #[test]
    fn an_error_that_more_memory_may_avoid_is_remembered_only_for_the_same_memory_or_less() {
        let memory = LIMITS.memory;
        let refusal = Refusal::from(&ModuleError::Compile("unknown".to_owned()));
        let how = "signal 11 ended it".to_owned();
        for error in [
            CompileError::Compiler { refusal, memory },
            CompileError::Crashed { how, memory },
            CompileError::Limit {
                reached: CompileLimit::Memory,
                limits: LIMITS,
                capped: false,
            },
        ] {
            let with =
                |memory| error.repeats_with(CompileLimits { memory, ..LIMITS }, Retain::OnDisk);
            assert!(with(memory) && with(memory - 1), "{error}");
            assert!(!with(memory + 1), "{error}");
        }
    }

    #[test]
    fn an_error_of_a_busy_machine_is_not_remembered() {
        let time = Duration::from_secs(3);
        let processor = Duration::from_millis(400);
        let error = CompileError::Starved { time, processor };
        assert!(!error.repeats_with(LIMITS, Retain::OnDisk));
        assert_eq!(
            error.to_string(),
            "the module was not compiled within 3s (`limits.compile.time`): this machine is busy, and \
             the compiler got only 400ms of processor time"
        );
    }

    /// The template can have set the lower limit itself.
    #[test]
    fn the_hint_for_a_limit_names_the_limits_of_the_template_and_of_the_operator() {
        let error = CompileError::Limit {
            reached: CompileLimit::Time,
            limits: CompileLimits {
                time: Duration::from_millis(100),
                memory: CompileLimits::MIN_MEMORY,
            },
            capped: true,
        };
        assert_eq!(
            error.hint(),
            "make the module smaller, or raise `limits.compile` (the template's own, or the \
             operator's)"
        );
    }

    /// Raising `limits.compile` would not help.
    #[test]
    fn an_error_names_the_capacity_if_the_capacity_decides_about_the_memory() {
        let error = CompileError::Limit {
            reached: CompileLimit::Memory,
            limits: LIMITS,
            capped: true,
        };
        assert_eq!(
            error.to_string(),
            "the module cannot be compiled within 10s and 100Mi (`limits.compile` and \
             `capacity.compileMemory`): the compiler reached the memory limit"
        );
        assert!(error.hint().contains("raise `capacity.compileMemory`"));
        let error = CompileError::Remembered(Box::new(error));
        assert!(
            error
                .to_string()
                .ends_with("the executor remembers this error of an earlier step for ten minutes")
        );
        assert!(error.repeats_with(LIMITS, Retain::OnDisk));
    }
}
