//! Compiles the `.proto` files without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["wzp/signal/v1/signal.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
