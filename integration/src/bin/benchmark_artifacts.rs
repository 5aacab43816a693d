//! How fast artifacts come and go, beside what they are compared with, on the same server in one run: 1 GiB in and out, as it is and packed, against
//! `curl` and `tar | gzip -6`; and 10,000 small files. Also how much memory that takes in this process, the server's included. The server is one in this
//! process, or where that program is named, Garage.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people"
)]

use std::fs;
use std::io::Write;
use std::path::Path;
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
use wasm_workflow_executor::app::artifact_host::Surroundings;
use wasm_workflow_integration::other_stores::OtherStore;
use wasm_workflow_integration::s3::{ACCESS_KEY, S3, SECRET_KEY};

const GIB: u64 = 1 << 30;
const FILES: usize = 10_000;
const BOUNDS: Bounds = Bounds {
    bytes: 4 * GIB,
    entries: 100_000,
};
const ROUNDS: usize = 3;

/// Half of it can be packed: no log and no picture.
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

/// The best of several, with the other taking turns.
async fn compare(what: &str, against: &str, ours: impl AsyncFn(), theirs: &str) {
    let (mut best, mut other) = (Duration::MAX, Duration::MAX);
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

/// The server, and what asks it beside us.
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
    // The store takes its keys from the environment, as an operator's does.
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
    let (server, home) = (Server::start().await, tempfile::tempdir().unwrap());
    let bucket = server.bucket();
    let endpoint = bucket["endpoint"].as_str().unwrap().to_owned();
    let root = Arc::new(Dir::open_ambient_dir(home.path(), ambient_authority()).unwrap());
    let repository: ArtifactRepository = serde_json::from_value(json!({"s3": bucket})).unwrap();
    let (repository, _) = repository.place().unwrap().unwrap();
    let surroundings = Surroundings::new(None, [endpoint.clone()], Vec::new());
    let stores = Stores::new(Arc::new(surroundings), None);
    let location = Location {
        repository,
        key: String::new(),
        default: true,
    };
    let store: Arc<dyn ArtifactStore> = stores.open(&location, "default").await.unwrap();
    let chunk = content();
    let mut big = fs::File::create(home.path().join("big")).unwrap();
    for _ in 0..GIB >> 20 {
        big.write_all(&chunk).unwrap();
    }
    let (store, root) = (&*store, &root);
    let up = async |key: &str, path: &str, pack: Pack| {
        upload(store, Upload { key, path, pack }, root, BOUNDS.bytes)
            .await
            .unwrap();
    };
    let down = async |key: &str, unpack: Unpack| {
        let what = Download {
            key,
            path: "in",
            unpack,
            mode: None,
        };
        download(store, &what, root, &Quota::new(BOUNDS))
            .await
            .unwrap();
        let _ = root
            .remove_file("in")
            .or_else(|_| root.remove_dir_all("in"));
    };
    let sign = server.curl();
    let (url, here) = (
        format!("http://{endpoint}/artifacts"),
        home.path().display().to_string(),
    );
    shell(&format!("{sign} -T {here}/big {url}/big"));
    println!(
        "1 GiB, {ROUNDS} times each, the best; memory before {} MiB",
        resident()
    );
    compare(
        "in, as it is",
        "curl",
        async || down("big", Unpack::None).await,
        &format!("{sign} {url}/big -o {here}/got && rm {here}/got"),
    )
    .await;
    compare(
        "out, as it is",
        "curl -T",
        async || up("ours", "big", Pack::None).await,
        &format!("{sign} -T {here}/big {url}/theirs"),
    )
    .await;
    let pack = format!(
        "tar -C {here} -cf - big | gzip -6 > {here}/big.tgz && {sign} -T {here}/big.tgz {url}/theirs.tgz"
    );
    compare(
        "out, packed",
        "tar | gzip -6, curl -T",
        async || up("ours.tgz", "big", Pack::Tar(6)).await,
        &pack,
    )
    .await;
    let unpack = format!(
        "mkdir -p {here}/x && {sign} {url}/theirs.tgz | tar -C {here}/x -xzf - && rm -r {here}/x"
    );
    compare(
        "in, unpacked",
        "curl | tar -xz",
        async || down("theirs.tgz", Unpack::Detect).await,
        &unpack,
    )
    .await;
    fs::create_dir(home.path().join("many")).unwrap();
    for number in 0..FILES {
        fs::write(home.path().join(format!("many/{number}")), [b'x'; 4096]).unwrap();
    }
    for (what, took) in [
        ("out", timed(up("many", "many", Pack::None)).await),
        ("in", timed(down("many", Unpack::None)).await),
        (
            "out, packed",
            timed(up("many.tgz", "many", Pack::Tar(6))).await,
        ),
        (
            "in, unpacked",
            timed(down("many.tgz", Unpack::Detect)).await,
        ),
    ] {
        println!(
            "{FILES} files of 4 KiB {what}: {took:.2?}; memory so far {} MiB",
            resident()
        );
    }
}
