//! The rows of a sweep as text.

use std::fmt::Write as _;

use super::Row;

const HEAD: &str = "tier          loss %  jitter ms  buffer   wire kbps  recovered %  late %  concealed %  longest gap ms  delay ms   MOS";

/// For people; a blank line between groups.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    let mut group = None;
    for row in rows {
        if group.replace((row.tier, row.jitter_ms)) != Some((row.tier, row.jitter_ms)) {
            text.push('\n');
        }
        let _ = write!(
            text,
            "\n{:<12}  {:>6}  {:>9}  {:<7}  {:>9.1}  {:>11.1}  {:>6.1}  {:>11.1}  {:>14}  {:>8.0}  {:>4.2}",
            row.tier.name(),
            row.loss_percent,
            row.jitter_ms,
            row.buffer,
            row.wire_kbps,
            row.recovered_percent,
            row.late_percent,
            row.concealed_percent,
            row.longest_gap_ms,
            row.delay_ms,
            row.mos,
        );
    }
    text + "\n\nwire kbps: with repair, headers, tags, lane, UDP and IPv4. MOS: E-model, 50 ms path."
}

/// For spreadsheets.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "tier,loss_percent,jitter_ms,buffer,wire_kbps,lost_percent,recovered_percent,late_percent,concealed_percent,\
         longest_gap_ms,delay_ms,mos\n",
    );
    for row in rows {
        let Row {
            tier,
            loss_percent,
            jitter_ms,
            buffer,
            wire_kbps,
            lost_percent,
            recovered_percent,
            late_percent,
            concealed_percent,
            longest_gap_ms,
            delay_ms,
            mos,
        } = row;
        let _ = writeln!(
            text,
            "{tier},{loss_percent},{jitter_ms},{buffer},{wire_kbps},{lost_percent},{recovered_percent},{late_percent},\
             {concealed_percent},{longest_gap_ms},{delay_ms},{mos}"
        );
    }
    text
}
