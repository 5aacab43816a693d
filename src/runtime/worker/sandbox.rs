//! Limits a compile worker before it reads a module.
//!
//! The worker needs processor time, memory and its three pipes, and nothing else. It gives up the
//! rest with the means that an ordinary user has on Linux:
//!
//! - resource limits (getrlimit(2)): memory, processor time, no new descriptors, no file writes;
//! - a low priority, so that steps run first;
//! - no capabilities (capabilities(7));
//! - `no_new_privs`, and no access by other processes of this user (prctl(2));
//! - a network namespace without interfaces, where the user may create one (namespaces(7));
//! - no file system (landlock(7));
//! - only the system calls that the compiler needs (seccomp(2)).
//!
//! Old kernels and some container runtimes lack some of the last three. Each works without the
//! others. If a worker gets neither the network namespace nor the list of system calls, the worker
//! does not start.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr};
use rustix::process::getrlimit;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::protocol::{Job, MAIN_STACK_BYTES};
use super::{descriptors, system_calls};

/// Address space beyond the memory limit, in bytes: this program, and space that allocators reserve
/// without using it.
const RESERVED: u64 = 4 << 30;
/// How much lower the priority is than that of the executor (nice(2)).
const NICE: i32 = 5;

/// Gives up everything that compiling does not need. Call this before the first thread is started:
/// later threads inherit the restrictions.
pub(super) fn enter(job: &Job) -> io::Result<()> {
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
    limit(job)?;
    let filtered = system_calls::allow_only_those_of_the_compiler();
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

fn limit(job: &Job) -> io::Result<()> {
    let limits = [
        // Private memory that can be written: heaps and stacks. Memory that is only reserved is
        // not included.
        (Resource::Data, job.memory),
        // `RLIMIT_DATA` does not include stacks that grow.
        (Resource::Stack, MAIN_STACK_BYTES),
        // Before Linux 4.7, `RLIMIT_DATA` does not include mappings. `RLIMIT_AS` includes them.
        (Resource::As, job.memory.saturating_add(RESERVED)),
        (Resource::Nofile, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ];
    for (resource, value) in limits {
        lower(resource, value, value)?;
    }
    // The signal at this limit is SIGXCPU. At the maximum it is SIGKILL, which does not name the
    // limit.
    let processor_seconds = job.processor_seconds;
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
