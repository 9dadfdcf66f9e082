//! See the library for what this does.

fn main() -> std::process::ExitCode {
    wzp_control::main()
}
