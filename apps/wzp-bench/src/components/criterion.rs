//! Criterion's benches, by way of cargo, and the estimates that they leave.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// One bench's result.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Part {
    component: String,
    /// Median of one run, nanoseconds.
    ns: f64,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} {:>10.3} µs", self.component, self.ns / 1e3)
    }
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

#[derive(Deserialize)]
struct Name {
    full_id: String,
}

/// Runs all benches; their own output goes to stderr.
///
/// # Errors
/// When cargo cannot be started or a bench fails.
pub(super) fn run() -> anyhow::Result<Vec<Part>> {
    let began = SystemTime::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["bench", "--quiet", "-p", "wzp-bench", "--bench", "components"])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("starting cargo, which runs the benches")?;
    ensure!(status.success(), "the benches failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let mut parts = Vec::new();
    collect(&target.join("criterion"), began, &mut parts)?;
    ensure!(!parts.is_empty(), "the benches left no estimates");
    parts.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(parts)
}

/// Every estimate below `folder` that is not older than `since`.
fn collect(folder: &Path, since: SystemTime, parts: &mut Vec<Part>) -> anyhow::Result<()> {
    let what = || format!("reading {}", folder.display());
    for entry in fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            parts.extend(part(&path, since)?);
        } else {
            collect(&path, since, parts)?;
        }
    }
    Ok(())
}

fn part(folder: &Path, since: SystemTime) -> anyhow::Result<Option<Part>> {
    let estimates = folder.join("estimates.json");
    let what = || format!("reading {}", estimates.display());
    if fs::metadata(&estimates)
        .and_then(|meta| meta.modified())
        .with_context(what)?
        < since
    {
        return Ok(None);
    }
    let name = fs::read(folder.join("benchmark.json")).with_context(what)?;
    let name: Name = serde_json::from_slice(&name).with_context(what)?;
    let estimates: Estimates =
        serde_json::from_slice(&fs::read(&estimates).with_context(what)?).with_context(what)?;
    Ok(Some(Part {
        component: name.full_id,
        ns: estimates.median.point_estimate,
    }))
}
