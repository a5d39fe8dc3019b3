//! Turns the protos into Rust: messages, services, and the descriptors of our own API for reflection. Nothing else.

use std::error::Error;
use std::path::PathBuf;

/// Our own API: clients are made too (for the command line and the tests), and reflection tells of it.
const OURS: [&str; 2] = ["tollgate/v1/admission.proto", "tollgate/v1/accounts.proto"];
/// A trimmed view of Envoy's API: kept out of reflection, which would pass it off as the whole.
const ENVOY: [&str; 1] = ["envoy/config/core/v3/base.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut ours = protox::Compiler::new(["proto"])?;
    ours.include_imports(true).include_source_info(true).open_files(OURS)?;
    std::fs::write(out.join("tollgate.bin"), ours.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".").compile_fds(ours.file_descriptor_set())?;

    tonic_prost_build::configure().bytes(".").compile_fds(protox::compile(ENVOY, ["proto"])?)?;
    Ok(())
}
