//! The resources of the executor's container, and the configuration that fits them.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use crate::config::Capacity;
use crate::text::units::ByteSize;

/// The limits of the executor's container.
#[derive(Debug, Args)]
pub(super) struct Resources {
    /// Processor limit of the executor's container; eight steps run at once for each core
    #[arg(long, value_name = "CORES", default_value = "2")]
    cpu: Cores,
    /// Memory limit of the executor's container; five eighths are for running modules
    #[arg(long, value_name = "BYTES", default_value = "2Gi", value_parser = memory)]
    pub(super) memory: ByteSize,
    /// Disk limit of the executor's container: modules, compiled code, and the files of steps
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "4Gi",
        value_parser = disk
    )]
    ephemeral_storage: ByteSize,
}

impl Resources {
    /// Writes the limits into the container of a manifest. A limit that the manifest does not have
    /// is not added.
    pub(super) fn apply(&self, container: &mut Value) {
        let limits = [
            ("cpu", &self.cpu.text),
            ("memory", &self.memory.to_string()),
            ("ephemeral-storage", &self.ephemeral_storage.to_string()),
        ];
        for (name, value) in limits {
            if let Some(limit) = container["resources"]["limits"].get_mut(name) {
                *limit = json!(value);
            }
        }
    }

    /// The capacity that the executor has by default in this container.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity::of_container(self.cpu.whole, self.memory)
    }

    /// The text of the configuration that divides the memory for modules by the number of steps.
    pub(super) fn configuration(&self) -> String {
        let Capacity { steps, memory, .. } = self.capacity();
        let mebibytes = (memory.0 / u64::from(steps)) >> 20;
        format!("capacity: {{steps: {steps}}}\nlimits: {{memory: {mebibytes}Mi}}")
    }
}

/// The least memory of the container, in bytes: the executor itself needs this much, and modules
/// need the rest.
const LEAST_MEMORY: ByteSize = ByteSize(256 << 20);

/// The memory that the executor itself needs in a container with this memory limit. The default
/// capacity leaves an eighth of a small container to the executor.
pub(super) fn own_memory(limit: ByteSize) -> ByteSize {
    ByteSize(LEAST_MEMORY.0.min(limit.0 / 8))
}

/// The disk space that the manifests request, in bytes. Kubernetes refuses a container whose limit
/// is lower than its request.
const LEAST_DISK: ByteSize = ByteSize(256 << 20);

fn memory(text: &str) -> Result<ByteSize, String> {
    at_least(LEAST_MEMORY, text)
}

fn disk(text: &str) -> Result<ByteSize, String> {
    at_least(LEAST_DISK, text)
}

fn at_least(least: ByteSize, text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size < least => Err(format!("it must be at least {least}")),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of processor cores as Kubernetes writes it: `2`, `1.5` or `500m`.
#[derive(Clone, Debug)]
struct Cores {
    text: String,
    /// The whole cores, at least one. The executor counts its cores in the same way.
    whole: usize,
}

/// The processor time that the manifests request, in thousandths of a core. A limit must not be
/// lower.
const LEAST_CPU: f64 = 50.0;

impl FromStr for Cores {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const INVALID: &str = "it must be a number of cores, such as 4 or 500m, and at least 50m";
        let (digits, factor) = match text.strip_suffix('m') {
            Some(digits) => (digits, 1.0),
            None => (text, 1000.0),
        };
        let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = digits.parse().map_err(|_| INVALID)?;
        let thousandths = number * factor;
        // Kubernetes refuses parts of a thousandth.
        let exact = (thousandths - thousandths.round()).abs() < 1e-6;
        match plain && exact && (LEAST_CPU..1e6).contains(&thousandths) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the number is between 50 and a million"
            )]
            true => Ok(Self {
                text: text.to_owned(),
                whole: ((thousandths / 1000.0) as usize).max(1),
            }),
            false => Err(INVALID),
        }
    }
}
