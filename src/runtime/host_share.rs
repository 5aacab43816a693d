//! The memory that one step can make resident in this process, outside its linear memories and
//! tables.
//!
//! The host allocates memory for a guest: for arguments of host calls, for values that the guest
//! returns, and for handles of resources, streams, futures and tasks. Only this file has the
//! formula. For a step with the limit `memory`:
//!
//! ```text
//! call bytes = memory / 64, between 1 MiB and 8 MiB; or the largest outcome, if that is more
//! handles    = memory / 32 / 1 KiB, between 1,024 and 100,000
//! share      = 2 × call bytes + handles × 1 KiB + instances + module
//!
//! linear memories + tables + (share - smallest share) ≤ memory
//! ```
//!
//! - wasmtime charges the bytes that a guest passes to the host against the *call bytes*, for each
//!   call. Two copies exist at the same time: the value that wasmtime made, and the value that the
//!   host makes from it.
//! - A host function returns at most the call bytes, too. Buffers of files and of standard output
//!   are handled in parts of 256 KiB.
//! - wasmtime counts *handles* over all instances of the step. 1 KiB for each handle is an estimate
//!   with a reserve: a task of the host with a timer needs about 250 bytes.
//! - The memory of *instances*, and of the *module*, is known before the module
//!   runs (`metadata`). Steps of one module share its metadata, but each step is charged.
//!
//! Outside its limit, each step may use 16 MiB, so that the host does not use up a small limit:
//!
//! - 3 MiB for calls and handles (the *smallest share*);
//! - 512 KiB for instances;
//! - 4 MiB for the metadata of the module, and for its code if no file has it;
//! - 2 MiB for each of four stacks: of two calls into the module, of an idle task of wasmtime, and
//!   of the last call that ended (the `limiter` takes further stacks from the step's memory);
//! - 512 KiB for the end of its output.
//!
//! Core modules have no handles and return no values. So only their instances can need more than
//! the smallest share.
//!
//! The formula does not contain the names that `read-directory` of WASI 0.2 collects for each open
//! stream of a directory. `docs/security.md` has their size.

use super::kind::Kind;
use super::limits::GuestLimits;

const MIN_CALL_BYTES: u64 = 1 << 20;
const MAX_CALL_BYTES: u64 = 8 << 20;
const CALL_PART_OF_MEMORY: u64 = 64;
/// Copies of the bytes of one call that exist at the same time.
const COPIES: u64 = 2;

const HANDLE_BYTES: u64 = 1 << 10;
const MIN_HANDLES: u64 = 1 << 10;
/// wasmtime's own default.
const MAX_HANDLES: u64 = 100_000;
const HANDLES_PART_OF_MEMORY: u64 = 32;
/// Memory of instances that is not taken from the step's memory, in bytes.
const FREE_INSTANCE_BYTES: u64 = 512 << 10;

/// Memory of the module that is not taken from the step's memory, in bytes.
pub const FREE_MODULE_BYTES: u64 = 4 << 20;

/// The host's part of a step's memory. See the file's header for the formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostShare {
    /// Maximum that one host call, or the returned value, may copy between guest and host, in
    /// bytes.
    pub(super) call_bytes: usize,
    /// Maximum number of live handles of a component.
    pub(super) handles: usize,
    /// Memory of the module's instances, in bytes.
    instance_bytes: u64,
    /// Memory of the module's metadata, and of code that no file has, in bytes.
    module_bytes: u64,
}

impl HostShare {
    /// The share of a step with these limits that runs a module of this kind. `instance_bytes` is
    /// the memory of the module's instances, and `module_bytes` the memory of its metadata, and of
    /// code that no file has.
    pub(super) fn of(
        limits: &GuestLimits,
        kind: Kind,
        instance_bytes: u64,
        module_bytes: u64,
    ) -> Self {
        let memory = match kind {
            Kind::CoreCommand => 0,
            Kind::Command | Kind::CommandP3 | Kind::Step => limits.memory,
        };
        let call_bytes = (memory / CALL_PART_OF_MEMORY).clamp(MIN_CALL_BYTES, MAX_CALL_BYTES);
        let handles =
            (memory / HANDLES_PART_OF_MEMORY / HANDLE_BYTES).clamp(MIN_HANDLES, MAX_HANDLES);
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            call_bytes: number(call_bytes.max(limits.outcome)),
            handles: number(handles),
            instance_bytes,
            module_bytes,
        }
    }

    /// The part that is taken from the step's memory, in bytes.
    pub(super) fn reserved(self) -> u64 {
        let smallest = Self::bytes(MIN_CALL_BYTES, MIN_HANDLES);
        Self::bytes(self.call_bytes as u64, self.handles as u64)
            .saturating_sub(smallest)
            .saturating_add(self.instance_bytes.saturating_sub(FREE_INSTANCE_BYTES))
            .saturating_add(self.module_bytes.saturating_sub(FREE_MODULE_BYTES))
    }

    fn bytes(call_bytes: u64, handles: u64) -> u64 {
        call_bytes
            .saturating_mul(COPIES)
            .saturating_add(handles.saturating_mul(HANDLE_BYTES))
    }

    /// The message for a guest that exceeded its share, with the value of the limit. `None` if the
    /// guest was ended for another reason. wasmtime's errors have no public type, so this function
    /// searches their text.
    pub(super) fn explain(self, reason: &str) -> Option<String> {
        if reason.contains("fuel allocated for hostcalls has been exhausted") {
            let limit = self.call_bytes;
            Some(format!(
                "it passed more than {limit} bytes to the host at once"
            ))
        } else if reason.contains("handle limit exceeded") {
            let limit = self.handles;
            Some(format!(
                "it has more than {limit} handles of resources, streams, futures and tasks"
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::LimitGuard;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn share(memory: u64, outcome: u64, kind: Kind) -> HostShare {
        let guard = LimitGuard::for_test(memory);
        let limits = GuestLimits {
            outcome,
            ..guard.limits().clone()
        };
        HostShare::of(&limits, kind, 0, 0)
    }

    #[test]
    fn the_share_grows_with_the_memory_of_a_component() {
        let small = share(32 * MIB, 0, Kind::Step);
        assert_eq!((small.call_bytes, small.handles), (1 << 20, 1024));
        assert_eq!(small.reserved(), 0);
        let large = share(512 * MIB, 0, Kind::Step);
        assert_eq!((large.call_bytes, large.handles), (8 << 20, 16_384));
        assert_eq!(large.reserved(), 29 * MIB);
        let core = share(512 * MIB, 0, Kind::CoreCommand);
        assert_eq!(core, small, "a core module has no handles");
    }

    #[test]
    fn large_instances_and_large_metadata_need_memory_of_the_step() {
        let limits = LimitGuard::for_test(MIB).limits().clone();
        let reserved = |instances, metadata| {
            HostShare::of(&limits, Kind::CoreCommand, instances, metadata).reserved()
        };
        assert_eq!(reserved(512 << 10, 4 * MIB), 0);
        assert_eq!(reserved(2 * MIB, 5 * MIB), 5 * MIB / 2);
        assert_eq!(reserved(u64::MAX, 0), u64::MAX - (512 << 10));
    }

    #[test]
    fn the_largest_outcome_can_always_be_returned() {
        let share = share(32 * MIB, 4 * MIB, Kind::Step);
        assert_eq!(share.call_bytes, 4 << 20);
        assert_eq!(share.reserved(), 6 * MIB);
    }
}
