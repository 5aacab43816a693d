//! Workers: processes of this program that compute with untrusted input.
//!
//! A thread that computes cannot be ended, and its memory cannot be limited. With a process, the
//! executor can do both. The executor starts a worker with a hidden command of this program
//! ([`start`]). The worker reads its limits, and enters the sandbox ([`enter`]). Only then, it
//! reads the untrusted input.
//!
//! A worker needs processor time, memory and its three pipes, and nothing else. It gives up the
//! rest with the means that an ordinary user has on Linux:
//!
//! - resource limits (getrlimit(2)): memory, processor time, no new descriptors, no file writes;
//! - a low priority, so that steps run first;
//! - no capabilities (capabilities(7));
//! - `no_new_privs`, and no access by other processes of this user (prctl(2));
//! - a network namespace without interfaces, where the user may create one (namespaces(7));
//! - no file system (landlock(7));
//! - only the system calls that a computation needs (seccomp(2)).
//!
//! Old kernels and some container runtimes lack some of the last three. Each works without the
//! others. If a worker gets neither the network namespace nor the list of system calls, the worker
//! does not start.

mod descriptors;
mod ending;
mod system_calls;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use rustix::process::getrlimit;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

pub use ending::Ending;

/// Address space beyond the memory limit, in bytes: this program, and space that allocators reserve
/// without using it.
const RESERVED: u64 = 4 << 30;
/// How much lower the priority is than that of the executor (nice(2)).
const NICE: i32 = 5;

/// Maximum size of the stack of the main thread, in bytes: the default of Linux.
const MAIN_STACK_BYTES: u64 = 8 << 20;

/// The limits of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processor time, in seconds.
    pub processor_seconds: u64,
}

/// The file of the program that runs (`proc_pid_exe(5)`). This path also works after a new version
/// replaced the file.
pub fn this_program() -> PathBuf {
    "/proc/self/exe".into()
}

/// Starts a worker: the file `program` with the hidden command `command`. The worker has no
/// environment, and three pipes. It is killed when the returned value is dropped.
///
/// # Errors
///
/// The process cannot be started.
pub fn start(program: &Path, command: &str) -> io::Result<Child> {
    let started = Command::new(program)
        .arg(command)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    started.map_err(|error| {
        let program = program.display();
        let advice = match error.kind() {
            io::ErrorKind::NotFound => " (is `/proc` mounted in the container?)",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("cannot start `{program}`: {error}{advice}"),
        )
    })
}

/// Gives up everything that a computation does not need. Call this before the first thread is
/// started: later threads inherit the restrictions.
///
/// # Errors
///
/// - A limit cannot be set.
/// - The system offers neither network namespaces nor system call filters.
pub fn enter(limits: WorkerLimits) -> io::Result<()> {
    descriptors::close_inherited()?;
    prefer_as_victim();
    // Without more privileges, each process may lower its own priority.
    let _ = rustix::process::nice(NICE);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    let own_network = enter_own_network().is_ok();
    give_up_capabilities()?;
    // A ruleset of Landlock needs a descriptor, so it comes before the limit on descriptors.
    let _ = give_up_files();
    limit(limits)?;
    let filtered = system_calls::allow_only_those_of_a_computation();
    match (own_network, filtered) {
        (false, Err(error)) => Err(io::Error::other(format!(
            "this system offers neither network namespaces nor system call filters to an ordinary \
             user: {error}"
        ))),
        _ => Ok(()),
    }
}

/// If memory is short, the kernel ends this process before the executor
/// (`proc_pid_oom_score_adj(5)`).
fn prefer_as_victim() {
    // The file is missing in some container runtimes. The resource limits are the main means.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Moves this process into a network namespace without interfaces.
#[expect(
    deprecated,
    reason = "the function is unsafe only for other flags, which take descriptors from other threads"
)]
fn enter_own_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
}

/// Gives up all capabilities. A new user namespace gives the process all capabilities in it.
fn give_up_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        // The kernel allows this only with a capability, which the process has only in its own user
        // namespace. An old kernel does not know all capabilities.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

fn limit(limits: WorkerLimits) -> io::Result<()> {
    let WorkerLimits {
        memory,
        processor_seconds,
    } = limits;
    let resources = [
        // Private memory that can be written: heaps and stacks. Memory that is only reserved is
        // not included.
        (Resource::Data, memory),
        // `RLIMIT_DATA` does not include stacks that grow.
        (Resource::Stack, MAIN_STACK_BYTES),
        // Before Linux 4.7, `RLIMIT_DATA` does not include mappings. `RLIMIT_AS` includes them.
        (Resource::As, memory.saturating_add(RESERVED)),
        (Resource::Nofile, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ];
    for (resource, value) in resources {
        lower(resource, value, value)?;
    }
    // The signal at this limit is SIGXCPU. At the maximum it is SIGKILL, which does not name the
    // limit.
    lower(Resource::Cpu, processor_seconds, processor_seconds + 1)
}

/// Sets a limit, but not above the inherited hard limit: an ordinary user may not raise a hard
/// limit.
fn lower(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let inherited = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(current.min(inherited)),
        maximum: Some(maximum.min(inherited)),
    };
    setrlimit(resource, limit)?;
    Ok(())
}

/// Gives up access to all files, and to TCP. An old kernel enforces only the rights that it knows.
fn give_up_files() -> Result<(), landlock::RulesetError> {
    let abi = ABI::V5;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_program_that_does_not_exist_names_proc() {
        let error = start(Path::new("/proc/none/exe"), "x")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot start `/proc/none/exe`: "),
            "{error}"
        );
        assert!(error.contains("is `/proc` mounted"), "{error}");
    }
}
