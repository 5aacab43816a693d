//! The main function of a compile worker.

use std::io::{self, BufRead, BufReader, Read, Write};

use wasmtime::Engine;

use super::protocol::{Job, MAX_LINE, Reply, STACK_BYTES};
use crate::runtime::compile_error::{ModuleError, Refusal};
use crate::runtime::engine;
use crate::runtime::inspect::inspect;
use crate::runtime::validate::validate;
use crate::sandbox;

/// Compiles the module on standard input, and writes the reply and the machine code to standard
/// output. A module that cannot be compiled is not an error, but a reply.
pub fn main() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    let job: Job = serde_json::from_slice(&line)?;
    // Nothing before this line depends on the module.
    sandbox::enter(job.limits)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .stack_size(STACK_BYTES);
    // The module is not read yet, so it is not the cause of an error here. For example, the
    // container may have too many processes.
    pool.build_global().map_err(|error| {
        io::Error::other(format!("cannot start the compiler's threads: {error}"))
    })?;
    let engine = Engine::new(&engine::config()).map_err(io::Error::other)?;

    let mut module = Vec::new();
    let length = usize::try_from(job.module_bytes).unwrap_or(usize::MAX);
    if module.try_reserve_exact(length).is_err() {
        return write_reply(&Reply::OutOfMemory, &[]);
    }
    input
        .by_ref()
        .take(job.module_bytes)
        .read_to_end(&mut module)?;
    end_with_the_executor(input)?;

    match compile(&engine, &module) {
        Ok(code) if code.len() as u64 > job.max_code_bytes => {
            write_reply(&Reply::CodeTooLarge, &[])
        }
        Ok(code) => {
            let code_bytes = code.len() as u64;
            write_reply(&Reply::Compiled { code_bytes }, &code)
        }
        Err(Failed::Refused(error)) => write_reply(&Reply::Refused(Refusal::from(&error)), &[]),
        Err(Failed::Compiler(error)) => {
            write_reply(&Reply::CompilerError(Refusal::from(&error)), &[])
        }
        Err(Failed::OutOfMemory) => write_reply(&Reply::OutOfMemory, &[]),
    }
}

/// Ends this process when the executor ends. The kernel then closes the executor's end of the pipe.
fn end_with_the_executor(mut input: BufReader<io::Stdin>) -> io::Result<()> {
    let watch = move || {
        let _ = io::copy(&mut input, &mut io::sink());
        #[expect(clippy::exit, reason = "no other thread can be told to stop compiling")]
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("watch".to_owned());
    thread.stack_size(64 << 10).spawn(watch)?;
    Ok(())
}

enum Failed {
    Refused(ModuleError),
    Compiler(ModuleError),
    OutOfMemory,
}

/// The machine code, as wasmtime serialises it.
fn compile(engine: &Engine, module: &[u8]) -> Result<Vec<u8>, Failed> {
    let refused = |error: ModuleError| Failed::Refused(error);
    // An inspection is fast. A module that cannot run is refused before it is compiled.
    let inspection = inspect(module).map_err(|error| refused(error.into()))?;
    inspection.kind().map_err(|error| refused(error.into()))?;
    let compiled = match inspection.component {
        true => engine.precompile_component(module),
        false => engine.precompile_module(module),
    };
    match compiled {
        Ok(code) => Ok(code),
        Err(error) if is_out_of_memory(&error) => Err(Failed::OutOfMemory),
        Err(error) => {
            validate(module).map_err(refused)?;
            let error = ModuleError::Compile(format!("{error:#}"));
            Err(Failed::Compiler(error))
        }
    }
}

/// Whether the error says that an allocation failed. Most failed allocations abort the process, and
/// return no error.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    let of_wasmtime = error.is::<wasmtime::OutOfMemory>();
    of_wasmtime
        || error.chain().any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|cause| cause.kind() == io::ErrorKind::OutOfMemory)
        })
}

fn write_reply(reply: &Reply, code: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, reply)?;
    output.write_all(b"\n")?;
    output.write_all(code)?;
    output.flush()
}
