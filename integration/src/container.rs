//! A control group with a memory limit (cgroups(7)), as a container has one. If its processes need
//! more memory, the kernel kills one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where version 1 and version 2 of control groups are usually mounted, and the names of the files.
const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
        kills: "memory.oom_control",
    },
    Version {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        peak: "memory.peak",
        kills: "memory.events",
    },
];

#[derive(Debug)]
struct Version {
    root: &'static str,
    limit: &'static str,
    peak: &'static str,
    /// The file that has a line `oom_kill N`.
    kills: &'static str,
}

/// A control group. It is removed when this value is dropped, after its processes have ended.
#[derive(Debug)]
pub struct Container {
    directory: PathBuf,
    version: &'static Version,
}

impl Container {
    /// A control group with this limit, in bytes. `None` if this process may not create control
    /// groups.
    pub fn new(memory: u64) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("wasm-workflow-test-{}-{number}", std::process::id());
        VERSIONS.iter().find_map(|version| {
            let directory = Path::new(version.root).join(&name);
            fs::create_dir(&directory).ok()?;
            let container = Self { directory, version };
            // Without the memory controller, the file does not exist.
            fs::write(container.file(version.limit), memory.to_string()).ok()?;
            Some(container)
        })
    }

    /// The command that starts a program in the control group: a program and its first arguments.
    pub fn wrapper(&self) -> Vec<String> {
        let join = format!(
            "echo $$ > '{}' && exec \"$@\"",
            self.file("cgroup.procs").display()
        );
        ["sh", "-c", &join, "sh"].map(str::to_owned).to_vec()
    }

    /// The largest memory of the group so far, with its pages of files, in bytes. `None` if the
    /// kernel does not count it.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.file(self.version.peak))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Starts to count the peak anew. Some kernels cannot do this.
    pub fn reset_peak(&self) {
        let _ = fs::write(self.file(self.version.peak), "0");
    }

    /// The number of processes that the kernel has killed because the group had no memory left.
    pub fn killed(&self) -> u64 {
        let counters = fs::read_to_string(self.file(self.version.kills)).unwrap_or_default();
        let killed = counters
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        killed
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A killed process leaves the group a little later.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
