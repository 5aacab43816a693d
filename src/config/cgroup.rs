//! The default capacity: from the cores of the machine, and from the memory limit of the container.
//!
//! A container's memory limit is a file of its control group (cgroups(7)). Every group above it may
//! have a limit too, and the lowest limit applies. Version 1 and version 2 of control groups keep
//! the limit in different files, and both are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// Most steps wait for a network or a disk at times, so several steps share a core.
const SLOTS_PER_CORE: usize = 8;
const MAX_SLOTS: usize = 64;
/// Used if no limit and no size of the machine's memory can be read.
const FALLBACK_MEMORY: u64 = 1 << 30;

/// The cores that this process may use.
pub(super) fn available_cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// The memory that this process may use, in bytes.
pub(super) fn memory_of_this_process() -> u64 {
    available_memory(Path::new("/"))
}

/// Default number of slots: eight for each core, at most 64.
pub(super) fn default_slots(cores: usize) -> u32 {
    let slots = cores.saturating_mul(SLOTS_PER_CORE).min(MAX_SLOTS);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Default memory for all running modules, in bytes: five eighths of the memory that the executor
/// may use. The compiler gets a quarter, and the executor itself the rest.
pub(super) fn default_memory(available: u64) -> u64 {
    available / 8 * 5
}

/// Default memory for all processes that compile modules, in bytes: a quarter of the memory that
/// the executor may use.
pub(super) fn default_compile_memory(available: u64) -> u64 {
    available / 4
}

/// The memory that this process may use, in bytes: the lowest limit of its control groups, or the
/// memory of the machine if that is less. `root` is the directory with `proc` and `sys`.
fn available_memory(root: &Path) -> u64 {
    let limits = limit_files(root)
        .into_iter()
        // A file without a limit has the text `max`.
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits
        .chain(machine_memory(root))
        .min()
        .unwrap_or(FALLBACK_MEMORY)
}

/// The files that may have a memory limit for this process.
fn limit_files(root: &Path) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in groups.lines() {
        // Each line is `number:controllers:path`. Version 2 has no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a cgroup namespace the path may not exist below the mount point. The limit is then in
        // the directory of the mount point itself.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(root.join(mount).join(group).join(file));
        }
    }
    files
}

/// The memory of the machine, in bytes.
fn machine_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_applies() {
        let with = |files: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            available_memory(root.path())
        };
        let machine = (
            "proc/meminfo",
            "MemTotal:       16384 kB\nMemFree:        1 kB\n",
        );
        assert_eq!(with(&[]), 1 << 30);
        assert_eq!(with(&[machine]), 16 << 20);
        let second = ("proc/self/cgroup", "0::/kubepods/pod/container\n");
        assert_eq!(
            with(&[machine, second, ("sys/fs/cgroup/memory.max", "max\n")]),
            16 << 20
        );
        assert_eq!(
            with(&[machine, second, ("sys/fs/cgroup/memory.max", "4194304\n")]),
            4 << 20
        );
        let pod = ("sys/fs/cgroup/kubepods/pod/memory.max", "2097152\n");
        assert_eq!(
            with(&[
                machine,
                second,
                ("sys/fs/cgroup/memory.max", "4194304\n"),
                pod
            ]),
            2 << 20
        );
        let first = ("proc/self/cgroup", "9:cpu:/a\n4:hugetlb,memory:/a\n");
        let limit = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "3145728\n");
        let none = (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(with(&[machine, first, limit, none]), 3 << 20);
    }
}
