//! The text format that every Prometheus reads (0.0.4), made of OpenMetrics.
//!
//! They differ where it matters to `promtool check metrics`: a counter's descriptor bears the `_total` of its samples,
//! and there is neither `# UNIT` nor `# EOF`.

use prometheus_client::{encoding::text, registry::Registry};

/// The content type of [`render`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn render(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    // Writing to a string does not fail.
    let _ = text::encode_registry(&mut open_metrics, registry);
    classic(&open_metrics)
}

fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help: Option<&str> = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let suffix = if typed.ends_with(" counter") { "_total" } else { "" };
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            if let Some(text) = help
                .take()
                .and_then(|help| help.strip_prefix("# HELP ")?.strip_prefix(name))
            {
                push(&mut out, &["# HELP ", name, suffix, text.trim_end_matches('.')]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with("# ") {
            push(&mut out, &[line]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
    out.push('\n');
}

#[cfg(test)]
mod tests {

    #[test]
    fn counters_are_described_under_the_name_of_their_samples() {
        let open = "# HELP a_b Help text.\n# TYPE a_b counter\na_b_total{x=\"1\"} 3\n# HELP g Gauge.\n# TYPE g gauge\n\
                    # UNIT g seconds\ng 1\n# EOF\n";
        let classic = "# HELP a_b_total Help text\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 3\n# HELP g Gauge\n\
                       # TYPE g gauge\ng 1\n";
        assert_eq!(super::classic(open), classic);
    }
}
