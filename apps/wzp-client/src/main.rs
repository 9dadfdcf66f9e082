//! `wzp-client`: places calls, measures links and keeps an identity, from a terminal or a script.

mod args;
mod call;
mod drift;
mod echo;
mod exit;
mod identity;
mod program;
mod replacement;
mod report;
mod session;
mod speech;
mod status;
mod sweep;

fn main() -> std::process::ExitCode {
    program::run()
}
