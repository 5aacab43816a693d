//! What this machine has, or the container that this process is in.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

const STEPS_PER_CORE: usize = 8;
const MOST_STEPS: usize = 64;

/// How many steps at once: eight for each core, for most wait for something now and then; at least 8 and at most 64.
pub(super) fn steps() -> u32 {
    let cores = available_parallelism().map_or(1, usize::from);
    u32::try_from((cores * STEPS_PER_CORE).min(MOST_STEPS)).unwrap_or(u32::MAX)
}

/// The memory for the modules of all steps: three quarters of what there is. The rest is for what is around them.
pub(super) fn steps_memory() -> u64 {
    memory(Path::new("/")) / 4 * 3
}

/// The least of the limits on this process's control group and those above it, in either version; else the machine's memory.
fn memory(root: &Path) -> u64 {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let mut files = Vec::new();
    for line in groups.lines() {
        // `number:controllers:path` (cgroups(7)); version 2 has no controllers.
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
        // In a namespace of its own the path may not be there, and the limit is at the root.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(Path::new(mount).join(above).join(file));
        }
    }
    let limits = files.iter().filter_map(|file| {
        fs::read_to_string(root.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let meminfo = read("proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    limits
        .chain(total.map(|kib: u64| kib << 10))
        .min()
        .unwrap_or(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let with = |files: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            memory(root.path())
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
