//! The rows of a sweep as a picture: a panel for each tier and jitter, loss to the right, concealed sound upwards, a line for
//! each
//! buffer.

use std::fmt::Write as _;

use super::{Buffer, Row};

const PANEL: (f64, f64) = (260.0, 190.0);
const MARGIN: (f64, f64) = (60.0, 60.0);
/// Room inside a panel for its axes and title.
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 24.0;
/// Lines across a panel.
const STEPS: u8 = 4;
const COLOURS: [&str; 6] = ["#2a7f62", "#b5651d", "#3465a4", "#a40000", "#75507b", "#555753"];

/// Draws all rows.
pub(super) fn draw(rows: &[Row]) -> String {
    let tiers = distinct(rows.iter().map(|row| row.tier));
    let jitters = distinct(rows.iter().map(|row| row.jitter_ms));
    let buffers = distinct(rows.iter().map(|row| row.buffer));
    let loss_max = rows.iter().map(|row| row.loss_percent).max().unwrap_or(0).max(1);
    let concealed_max = rows.iter().map(|row| row.concealed_percent).fold(1.0, f64::max);
    let width = 2.0 * MARGIN.0 + PANEL.0 * jitters.len() as f64;
    let height = 2.0 * MARGIN.1 + PANEL.1 * tiers.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"28\" font-size=\"15\">Speech over a simulated link: share of the sound that had to be concealed, by packets lost</text>\n",
        MARGIN.0
    );
    legend(&mut svg, &buffers);
    for (line, &tier) in tiers.iter().enumerate() {
        for (column, &jitter_ms) in jitters.iter().enumerate() {
            let at = (
                MARGIN.0 + PANEL.0 * column as f64,
                MARGIN.1 + PANEL.1 * line as f64,
            );
            let panel = Panel {
                at,
                loss_max: loss_max.into(),
                concealed_max,
            };
            panel.axes(&mut svg, &format!("{tier}, jitter {jitter_ms} ms"));
            let here = rows
                .iter()
                .filter(|row| row.tier == tier && row.jitter_ms == jitter_ms);
            let here: Vec<&Row> = here.collect();
            for (&buffer, colour) in buffers.iter().zip(COLOURS.iter().cycle()) {
                panel.line(
                    &mut svg,
                    here.iter().copied().filter(|row| row.buffer == buffer),
                    colour,
                );
            }
        }
    }
    svg + "</svg>\n"
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn legend(svg: &mut String, buffers: &[Buffer]) {
    for (number, (buffer, colour)) in buffers.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let x = MARGIN.0 + 110.0 * number as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"40\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"46\">buffer {buffer}</text>",
            x + 18.0
        );
    }
}

struct Panel {
    at: (f64, f64),
    loss_max: f64,
    /// Upper end of the scale, the same in all panels.
    concealed_max: f64,
}

impl Panel {
    fn x(&self, loss_percent: f64) -> f64 {
        self.at.0 + LEFT + (PANEL.0 - LEFT - 16.0) * loss_percent / self.loss_max
    }

    fn y(&self, concealed_percent: f64) -> f64 {
        let share = concealed_percent / self.concealed_max;
        self.at.1 + PANEL.1 - BOTTOM - (PANEL.1 - BOTTOM - TOP) * share
    }

    fn axes(&self, svg: &mut String, title: &str) {
        let (left, right) = (self.x(0.0), self.x(self.loss_max));
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-size=\"12\">{title}</text>",
            self.at.1 + 16.0
        );
        for step in 0..=STEPS {
            let percent = self.concealed_max * f64::from(step) / f64::from(STEPS);
            let y = self.y(percent);
            let _ = writeln!(
                svg,
                "<line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{percent:.0} %</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for share in [0.0, 0.5, 1.0] {
            let loss = self.loss_max * share;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{loss} %</text>",
                self.x(loss),
                self.at.1 + PANEL.1 - 12.0
            );
        }
    }

    fn line<'a>(&self, svg: &mut String, rows: impl Iterator<Item = &'a Row>, colour: &str) {
        let mut points: Vec<(u8, f64)> = rows
            .map(|row| (row.loss_percent, row.concealed_percent))
            .collect();
        points.sort_by_key(|(loss, _)| *loss);
        let mut path = String::new();
        for (loss, concealed) in points {
            let (x, y) = (self.x(loss.into()), self.y(concealed));
            let _ = write!(path, "{x:.1},{y:.1} ");
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            path.trim_end()
        );
    }
}
