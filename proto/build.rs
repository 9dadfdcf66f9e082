//! Compiles the `.proto` files without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let signal = protox::compile(["wzp/signal/v1/signal.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(signal)?;
    #[cfg(feature = "control")]
    {
        let control = protox::compile(["wzp/control/v1/control.proto"], ["proto"])?;
        tonic_prost_build::configure().compile_fds(control)?;
    }
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
