//! The system calls that a worker may make.
//!
//! A system call that is not in the list fails with `EPERM`. The list contains the calls of the
//! standard library, the memory allocator and threads. Some of these calls are
//! restricted:
//!
//! - `clone` may start a thread, and no process. A filter cannot read the flags of `clone3`, which
//!   are in memory. So `clone3` fails with `ENOSYS`, and the C library then uses `clone`.
//! - `mmap` and `mprotect` may not make memory executable.
//! - `mmap` may make only private memory that does not grow by itself. `RLIMIT_DATA` does not
//!   include shared memory and stacks.
//! - `tgkill` and `tkill` are for `abort`. `tgkill` reaches only this process. `tkill`, which musl
//!   uses, may send only `SIGABRT`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// System calls that are allowed with all arguments.
const ALLOWED: &[c_long] = &[
    // The pipes.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // Signals: `abort`, and the message when a stack overflows.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Clocks and random numbers, for hash tables.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_nanosleep,
];

/// Restricts this thread and the threads that it starts. The thread must have `no_new_privs`.
///
/// # Errors
///
/// The kernel has no filters, or this process may not use them, or the processor's architecture is
/// not supported.
pub(super) fn allow_only_those_of_a_computation() -> Result<(), seccompiler::Error> {
    // The kernel asks all filters. The most restrictive answer is used.
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(clone3.clone(), SeccompAction::Allow, missing)?;

    let mut rules = clone3;
    rules.extend(ALLOWED.iter().map(|call| (*call, Vec::new())));
    let thread = libc::CLONE_THREAD.cast_unsigned().into();
    rules.insert(libc::SYS_clone, rule(vec![bits(0, thread, thread)?])?);
    let not_executable = bits(2, libc::PROT_EXEC.cast_unsigned().into(), 0)?;
    rules.insert(libc::SYS_mprotect, rule(vec![not_executable.clone()])?);
    let kinds = (libc::MAP_TYPE | libc::MAP_GROWSDOWN)
        .cast_unsigned()
        .into();
    let private = bits(3, kinds, libc::MAP_PRIVATE.cast_unsigned().into())?;
    rules.insert(libc::SYS_mmap, rule(vec![not_executable, private])?);
    let own = u64::from(std::process::id());
    rules.insert(
        libc::SYS_tgkill,
        rule(vec![bits(0, u32::MAX.into(), own)?])?,
    );
    let abort = bits(1, u32::MAX.into(), libc::SIGABRT.cast_unsigned().into())?;
    rules.insert(libc::SYS_tkill, rule(vec![abort])?);
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    apply(rules, denied, SeccompAction::Allow)
}

/// The condition that the bits of an argument in `mask` are `expected`.
fn bits(argument: u8, mask: u64, expected: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(mask),
        expected,
    )
}

/// All conditions must be true.
fn rule(conditions: Vec<SeccompCondition>) -> Result<Vec<SeccompRule>, BackendError> {
    Ok(vec![SeccompRule::new(conditions)?])
}

/// `others` is the action for the system calls without a rule.
fn apply(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    action: SeccompAction,
) -> Result<(), seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, others, action, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)
}
