//! The table as a picture: quality and intelligibility against independent loss, a line a tier.

use std::fmt::{self, Write as _};

use anyhow::Context;
use wzp_sdk_core::voice::mode::Tier;

use super::Row;

const PANEL_WIDTH: f64 = 420.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 50.0;
const SPACING: f64 = 80.0;
const MOST_LOSS: f64 = 30.0;
const COLOURS: [&str; 3] = ["#2a7f62", "#b5651d", "#7a4fa3"];

/// One scale from bottom to top.
struct Panel {
    title: &'static str,
    left: f64,
    low: f64,
    high: f64,
    step: f64,
    value: fn(&Row) -> f64,
}

/// Draws both panels.
///
/// # Errors
/// Never in fact: writing to a string does not fail.
pub(super) fn draw(rows: &[Row]) -> anyhow::Result<String> {
    let mut svg = String::new();
    write(&mut svg, rows).context("drawing")?;
    Ok(svg)
}

fn write(svg: &mut String, rows: &[Row]) -> fmt::Result {
    let width = LEFT * 2.0 + PANEL_WIDTH * 2.0 + SPACING;
    let height = TOP + PANEL_HEIGHT + 90.0;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">"#
    )?;
    writeln!(svg, r#"<rect width="{width}" height="{height}" fill="white"/>"#)?;
    let panels = [
        Panel {
            title: "Speech quality (PESQ-WB)",
            left: LEFT,
            low: 1.0,
            high: 4.64,
            step: 0.5,
            value: |row| row.pesq_wb,
        },
        Panel {
            title: "Intelligibility (STOI)",
            left: LEFT + PANEL_WIDTH + SPACING,
            low: 0.4,
            high: 1.0,
            step: 0.1,
            value: |row| row.stoi,
        },
    ];
    for panel in &panels {
        panel.axes(svg)?;
        for (tier, colour) in Tier::ALL.into_iter().zip(COLOURS) {
            panel.line(svg, rows, tier, colour)?;
        }
    }
    legend(svg, rows)?;
    writeln!(svg, "</svg>")
}

impl Panel {
    fn x(&self, loss_percent: f64) -> f64 {
        self.left + PANEL_WIDTH * loss_percent / MOST_LOSS
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        TOP + PANEL_HEIGHT * (1.0 - share)
    }

    fn axes(&self, svg: &mut String) -> fmt::Result {
        let (left, right, bottom) = (self.left, self.left + PANEL_WIDTH, TOP + PANEL_HEIGHT);
        writeln!(
            svg,
            r#"<text x="{left}" y="{:.0}" font-size="15">{}</text>"#,
            TOP - 18.0,
            self.title
        )?;
        let mut value = self.low;
        while value <= self.high + 1e-9 {
            let y = self.y(value);
            writeln!(
                svg,
                r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#ddd"/>"##
            )?;
            writeln!(
                svg,
                r##"<text x="{:.0}" y="{:.1}" text-anchor="end" fill="#555">{value:.1}</text>"##,
                left - 8.0,
                y + 4.0
            )?;
            value += self.step;
        }
        for loss in [0.0, 5.0, 10.0, 20.0, 30.0] {
            writeln!(
                svg,
                r##"<text x="{:.1}" y="{:.0}" text-anchor="middle" fill="#555">{loss} %</text>"##,
                self.x(loss),
                bottom + 18.0
            )?;
        }
        writeln!(
            svg,
            r##"<text x="{:.0}" y="{:.0}" text-anchor="middle" fill="#555">packets lost, each on its own</text>"##,
            f64::midpoint(left, right),
            bottom + 36.0
        )
    }

    fn line(&self, svg: &mut String, rows: &[Row], tier: Tier, colour: &str) -> fmt::Result {
        let points: Vec<_> = rows
            .iter()
            .filter(|row| row.tier == tier.name() && row.burst_packets <= 1.0)
            .map(|row| (self.x(row.loss_percent), self.y((self.value)(row))))
            .collect();
        if points.is_empty() {
            return Ok(());
        }
        write!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points=""#
        )?;
        for (x, y) in &points {
            write!(svg, "{x:.1},{y:.1} ")?;
        }
        writeln!(svg, r#""/>"#)?;
        points.iter().try_for_each(|(x, y)| {
            writeln!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#
            )
        })
    }
}

fn legend(svg: &mut String, rows: &[Row]) -> fmt::Result {
    let y = TOP + PANEL_HEIGHT + 70.0;
    let mut x = LEFT;
    for (tier, colour) in Tier::ALL.into_iter().zip(COLOURS) {
        let Some(row) = rows.iter().find(|row| row.tier == tier.name()) else {
            continue;
        };
        writeln!(
            svg,
            r#"<rect x="{x}" y="{:.0}" width="14" height="4" fill="{colour}"/>"#,
            y - 6.0
        )?;
        writeln!(
            svg,
            r#"<text x="{:.0}" y="{y}">{tier}: codec {:.1} kbps, on the wire {:.0} kbps</text>"#,
            x + 20.0,
            row.codec_kbps,
            row.wire_kbps
        )?;
        x += 300.0;
    }
    Ok(())
}
