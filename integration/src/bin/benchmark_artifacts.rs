//! Measures the transfer of artifacts: 1 GiB in and out, plain and packed, and 10,000 small files.
//! The baselines are `curl` and `tar | gzip -6` with the same server in the same run.
//!
//! Also prints the memory of this process. By default that includes an S3 server in this process.
//! If the first argument is the path of Garage, Garage is the server.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an unexpected value ends the benchmark, and its result is printed"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifacts::archive::{Pack, Unpack};
use artifacts::quota::{Bounds, Quota};
use artifacts::transfer::{Download, Upload, download, upload};
use artifacts::{ArtifactRepository, ArtifactStore, Location, Stores};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde_json::{Value, json};
use wasm_workflow_executor::app::artifact_host::Host;
use wasm_workflow_executor::config::{Config, NamespaceRules};
use wasm_workflow_integration::other_stores::OtherStore;
use wasm_workflow_integration::s3::{ACCESS_KEY, S3, SECRET_KEY};

const GIB: u64 = 1 << 30;
const FILES: usize = 10_000;
const BOUNDS: Bounds = Bounds {
    bytes: 4 * GIB,
    entries: 100_000,
};
const ROUNDS: usize = 3;

/// 1 MiB of content that compresses to about half of its size.
fn content() -> Vec<u8> {
    let mut seed = 1u64;
    let mut word = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33).to_le_bytes()
    };
    (0..(1 << 20) / 8).flat_map(|_| word()).collect()
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
}

/// Runs a shell command, and returns its duration.
fn shell(command: &str) -> Duration {
    let started = Instant::now();
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", command])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    started.elapsed()
}

/// Largest resident memory of this process so far, in MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// Prints the best time of several rounds for our transfer and for a shell command. The two
/// alternate.
async fn compare(what: &str, against: &str, ours: impl AsyncFn(), theirs: &str) {
    let mut best = Duration::MAX;
    let mut other = Duration::MAX;
    for _ in 0..ROUNDS {
        other = other.min(shell(theirs));
        best = best.min(timed(ours()).await);
    }
    let ratio = 100.0 * other.as_secs_f64() / best.as_secs_f64();
    println!(
        "{what}: {best:.2?}, {against}: {other:.2?}; {ratio:.0} % of its speed; memory so far {} MiB",
        resident()
    );
}

/// The S3 server of the benchmark.
enum Server {
    Own(S3),
    Garage(OtherStore),
}

impl Server {
    async fn start() -> Self {
        match std::env::args_os().nth(1) {
            None => Self::Own(S3::start().await),
            Some(garage) => Self::Garage(OtherStore::garage(Path::new(&garage))),
        }
    }

    fn environment() -> Vec<(String, String)> {
        if std::env::args_os().len() > 1 {
            OtherStore::environment()
        } else {
            S3::environment()
        }
    }

    fn bucket(&self) -> Value {
        match self {
            Self::Own(s3) => s3.bucket(),
            Self::Garage(garage) => garage.bucket(),
        }
    }

    fn curl(&self) -> String {
        match self {
            Self::Own(_) => format!(
                "curl -sSf --aws-sigv4 aws:amz:us-east-1:s3 --user {ACCESS_KEY}:{SECRET_KEY} -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD'"
            ),
            Self::Garage(garage) => garage.curl(),
        }
    }
}

#[tokio::main]
async fn main() {
    // The store reads its keys from the environment, as in production. So the program starts itself
    // again with the keys.
    if std::env::var("AWS_ACCESS_KEY_ID").is_err() {
        let program = std::env::current_exe().unwrap();
        let ended = Command::new(program)
            .args(std::env::args_os().skip(1))
            .envs(Server::environment())
            .status()
            .unwrap();
        assert!(ended.success());
        return;
    }
    let server = Server::start().await;
    let home = tempfile::tempdir().unwrap();
    let benchmark = Benchmark::new(&server, home.path()).await;
    benchmark.large_file().await;
    benchmark.small_files().await;
}

/// A directory, and a store from and to which its files are transferred.
struct Benchmark {
    store: Arc<dyn ArtifactStore>,
    root: Arc<Dir>,
    directory: PathBuf,
    /// URL of the bucket.
    url: String,
    /// Beginning of a shell command that calls `curl` with a signature.
    curl: String,
}

impl Benchmark {
    async fn new(server: &Server, directory: &Path) -> Self {
        let bucket = server.bucket();
        let endpoint = bucket["endpoint"].as_str().unwrap().to_owned();
        let root = Arc::new(Dir::open_ambient_dir(directory, ambient_authority()).unwrap());
        let repository: ArtifactRepository = serde_json::from_value(json!({"s3": bucket})).unwrap();
        let repository = repository.destination().unwrap().unwrap().repository;
        let rules = NamespaceRules::new(&Config::default());
        let host = Host::new(None, [endpoint.clone()], Vec::new(), rules);
        let stores = Stores::new(Arc::new(host), None);
        let location = Location {
            repository,
            key: String::new(),
            default: true,
        };
        Self {
            store: stores.open(&location, "default").await.unwrap(),
            root,
            directory: directory.to_owned(),
            url: format!("http://{endpoint}/artifacts"),
            curl: server.curl(),
        }
    }

    async fn upload(&self, key: &str, path: &str, pack: Pack) {
        let what = Upload { key, path, pack };
        upload(&*self.store, what, &self.root, BOUNDS.bytes)
            .await
            .unwrap();
    }

    async fn download(&self, key: &str, unpack: Unpack) {
        let what = Download {
            key,
            path: "in",
            seen_at: "/in",
            unpack,
            mode: None,
        };
        download(&*self.store, &what, &self.root, &Quota::new(BOUNDS))
            .await
            .unwrap();
        let _ = self
            .root
            .remove_file("in")
            .or_else(|_| self.root.remove_dir_all("in"));
    }

    /// Transfers 1 GiB, and compares the times with those of `curl`.
    async fn large_file(&self) {
        let Self { url, curl, .. } = self;
        let here = self.directory.display();
        let chunk = content();
        let mut big = fs::File::create(self.directory.join("big")).unwrap();
        for _ in 0..GIB >> 20 {
            big.write_all(&chunk).unwrap();
        }
        shell(&format!("{curl} -T {here}/big {url}/big"));
        println!(
            "1 GiB, {ROUNDS} times each, the best; memory before {} MiB",
            resident()
        );
        compare(
            "in, as it is",
            "curl",
            async || self.download("big", Unpack::None).await,
            &format!("{curl} {url}/big -o {here}/got && rm {here}/got"),
        )
        .await;
        compare(
            "out, as it is",
            "curl -T",
            async || self.upload("ours", "big", Pack::None).await,
            &format!("{curl} -T {here}/big {url}/theirs"),
        )
        .await;
        compare(
            "out, packed",
            "tar | gzip -6, curl -T",
            async || self.upload("ours.tgz", "big", Pack::Tar(6)).await,
            &format!(
                "tar -C {here} -cf - big | gzip -6 > {here}/big.tgz && {curl} -T {here}/big.tgz {url}/theirs.tgz"
            ),
        )
        .await;
        compare(
            "in, unpacked",
            "curl | tar -xz",
            async || self.download("theirs.tgz", Unpack::Detect).await,
            &format!(
                "mkdir -p {here}/x && {curl} {url}/theirs.tgz | tar -C {here}/x -xzf - && rm -r {here}/x"
            ),
        )
        .await;
    }

    /// Transfers a directory of small files, one by one and as an archive.
    async fn small_files(&self) {
        let many = self.directory.join("many");
        fs::create_dir(&many).unwrap();
        for number in 0..FILES {
            fs::write(many.join(number.to_string()), [b'x'; 4096]).unwrap();
        }
        let print = |what: &str, took: Duration| {
            println!(
                "{FILES} files of 4 KiB {what}: {took:.2?}; memory so far {} MiB",
                resident()
            );
        };
        let took = timed(self.upload("many", "many", Pack::None)).await;
        print("out", took);
        let took = timed(self.download("many", Unpack::None)).await;
        print("in", took);
        let took = timed(self.upload("many.tgz", "many", Pack::Tar(6))).await;
        print("out, packed", took);
        let took = timed(self.download("many.tgz", Unpack::Detect)).await;
        print("in, unpacked", took);
    }
}
