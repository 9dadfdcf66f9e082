//! From the command line to the exit code.

use std::{
    io::{IsTerminal as _, Write},
    process::{ExitCode, Termination as _},
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use crate::{
    args::{self, Command, Parsed},
    call, drift, echo,
    exit::{Exit, Failure},
    identity,
    report::{Event, Format, Report},
    session::Stop,
    status, sweep,
};

/// How long a name lookup or a read of standard input may hold up the end.
const STRAGGLERS: Duration = Duration::from_millis(100);

/// The program.
pub(crate) fn run() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let invocation = match args::parse(&line) {
        Ok(Parsed::Run(invocation)) => *invocation,
        Ok(Parsed::Print(text)) => {
            // A reader that went away, as in `--help | head`, is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Exit::Ok.report();
        }
        Err(failure) => return complain(&failure, &report(args::wants_json(&line))),
    };
    log(invocation.log);
    let mut report = report(invocation.json);
    match dispatch(invocation.command, &mut report) {
        Ok(()) => Exit::Ok.report(),
        Err(failure) => complain(&failure, &report),
    }
}

fn report(json: bool) -> Report {
    Report::new(if json { Format::Json } else { Format::Text })
}

fn dispatch(command: Command, report: &mut Report) -> Result<(), Failure> {
    match command {
        Command::Identity(action) => identity::run(action, report),
        Command::Sweep(options) => sweep::run(&options, report),
        Command::Call { link, room, sound } => {
            online(async |stop: &mut Stop| call::run(link, room, sound, report, stop).await)
        }
        Command::Echo { link, room, time } => {
            online(async |stop: &mut Stop| echo::run(link, room, time, report, stop).await)
        }
        Command::Drift { link, room, time } => {
            online(async |stop: &mut Stop| drift::run(link, room, time, report, stop).await)
        }
    }
}

fn online(work: impl AsyncFnOnce(&mut Stop) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("the program cannot start its threads: {e}")))?;
    let outcome = runtime.block_on(async {
        let mut stop = Stop::new()?;
        work(&mut stop).await
    });
    runtime.shutdown_timeout(STRAGGLERS);
    outcome
}

fn complain(failure: &Failure, report: &Report) -> ExitCode {
    report.event(&Event::Error {
        text: &failure.text,
        exit_code: failure.exit.code(),
    });
    status::clear();
    eprintln!("wzp-client: {failure}");
    failure.exit.report()
}

fn log(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(status::above)
        .init();
}
