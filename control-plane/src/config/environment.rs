//! The command line together with the environment.

use std::env;

use clap::{CommandFactory, FromArgMatches, builder::Resettable};

use super::Args;

/// Reads both. A variable that is there and empty is how deployments leave a value out, so it is none, for every flag.
pub(super) fn parse() -> Result<Args, clap::Error> {
    let command = Args::command().mut_args(|arg| {
        let value = arg.get_env().and_then(env::var_os);
        if value.is_some_and(|value| value.is_empty()) {
            arg.env(Resettable::Reset)
        } else {
            arg
        }
    });
    Args::from_arg_matches(&command.try_get_matches()?)
}
