//! PESQ-WB and STOI, by the script that the demonstration uses too.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// Calls the script.
pub(super) struct Judge {
    python: PathBuf,
    script: PathBuf,
}

/// What the script says of a pair, or the mean of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(super) struct Scores {
    pub(super) pesq_wb: f64,
    pub(super) stoi: f64,
    pub(super) estoi: f64,
    pub(super) delay_ms: f64,
}

impl Judge {
    /// # Errors
    /// When Python or the script is not there.
    pub(super) fn new(python: PathBuf, script: PathBuf) -> anyhow::Result<Self> {
        for path in [&python, &script] {
            ensure!(
                path.exists(),
                "{} is missing: run `make setup` in the top folder first",
                path.display()
            );
        }
        Ok(Self { python, script })
    }

    /// The mean over pairs of an original and what was heard of it, judged on all cores.
    ///
    /// # Errors
    /// When the script fails, or cannot judge a pair.
    pub(super) fn mean(&self, pairs: &[(PathBuf, PathBuf)]) -> anyhow::Result<Scores> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let each = pairs.len().div_ceil(cores).max(1);
        let mut running = Vec::new();
        for some in pairs.chunks(each) {
            let child = Command::new(&self.python)
                .arg(&self.script)
                .args(some.iter().flat_map(|(original, heard)| [original, heard]))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("starting {}", self.python.display()))?;
            running.push(child);
        }
        let mut all = Vec::new();
        for child in running {
            let output = child.wait_with_output().context("waiting for the judge")?;
            let said = String::from_utf8(output.stdout).context("reading what the judge says")?;
            if !output.status.success() {
                bail!("{} failed: {}", self.script.display(), said.trim());
            }
            all.extend(parse(&said)?);
        }
        ensure!(
            all.len() == pairs.len(),
            "the judge spoke of {} pairs, not {}",
            all.len(),
            pairs.len()
        );
        Ok(mean(&all))
    }
}

fn parse(said: &str) -> anyhow::Result<Vec<Scores>> {
    said.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("parsing the judge's {line}")))
        .collect()
}

fn mean(all: &[Scores]) -> Scores {
    let of = |figure: fn(&Scores) -> f64| all.iter().map(figure).sum::<f64>() / all.len().max(1) as f64;
    Scores {
        pesq_wb: of(|scores| scores.pesq_wb),
        stoi: of(|scores| scores.stoi),
        estoi: of(|scores| scores.estoi),
        delay_ms: of(|scores| scores.delay_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_judge_names_the_remedy() {
        let error = Judge::new("no/such/python".into(), "no/such/script".into())
            .err()
            .unwrap();
        assert!(error.to_string().contains("make setup"), "{error}");
    }

    #[test]
    fn lines_become_their_mean() {
        let said = r#"{"reference":"a","degraded":"b","delay_ms":100.0,"seconds":9,"pesq_wb":4.0,"stoi":0.9,"estoi":0.8}
{"reference":"c","degraded":"d","delay_ms":120.0,"seconds":9,"pesq_wb":3.0,"stoi":0.8,"estoi":0.6}"#;
        let scores = mean(&parse(said).unwrap());
        assert!((scores.pesq_wb - 3.5).abs() < 1e-9 && (scores.delay_ms - 110.0).abs() < 1e-9);
        assert!(parse("not JSON").is_err());
    }
}
