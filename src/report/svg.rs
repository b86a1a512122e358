//! Line charts as inline SVG: axes, units, gaps, titles on hover; no script, no font, no network.
//!
//! Drawn by hand because a chart in a page that must open from a file on a machine without a network is a hundred lines
//! of text, and a plotting crate brings fonts and bitmaps. Colours come from the page's style (`.s0` to `.s3`), and all
//! lines but the first are dashed, each in its own way, so that a print without colour is understood too. A logarithmic
//! axis is there for distributions, whose ends lie far apart. Pure; cannot fail: a value that is missing or no number is
//! a gap.

use std::fmt::Write as _;

use super::text::{self, escape};

const WIDTH: f64 = 680.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const HEAD: f64 = 24.0;
/// Of names of lines, where one does not hold them.
const ROW: f64 = 16.0;
const BODY: f64 = 112.0;
const GAP: f64 = 14.0;
const FOOT: f64 = 40.0;

/// One line of a panel; values stand beside the chart's `xs`.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Values; `None` is a gap.
    pub values: Vec<Option<f64>>,
}

/// A value with a name, drawn as a line across.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The value.
    pub at: f64,
    /// Its name.
    pub name: String,
}

/// A part of the horizontal axis that is shaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its left end.
    pub from: f64,
    /// Its right end.
    pub to: f64,
    /// Its name.
    pub name: String,
}

/// Lines that share an axis.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The unit of its axis.
    pub unit: String,
    /// Its lines; four at the most can be told apart.
    pub lines: Vec<Line>,
    /// A value that is not to be exceeded.
    pub limit: Option<Limit>,
}

/// Panels over one horizontal axis.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows: read aloud in place of the picture.
    pub title: String,
    /// Title of the horizontal axis, with its unit.
    pub x_title: String,
    /// Unit of the horizontal axis, for hover.
    pub x_unit: String,
    /// Positions.
    pub xs: Vec<f64>,
    /// Panels, from top to bottom.
    pub panels: Vec<Panel>,
    /// Parts that are shaded: warm-up, the time of a load.
    pub shades: Vec<Span>,
    /// Where the horizontal axis ends, where that is not with the last position: charts of one time are drawn alike.
    pub end: Option<f64>,
    /// Is the horizontal axis logarithmic? Then positions are above 0.
    pub log: bool,
    /// Is each value a dot on its line?
    pub dots: bool,
    /// A position that is pointed out.
    pub mark: Option<Limit>,
}

/// Draws it.
pub fn draw(chart: &Chart) -> String {
    let heights = chart.panels.iter().map(|panel| head(panel) + BODY + GAP);
    let height = heights.sum::<f64>() - GAP + FOOT;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{}</title>"#,
        escape(&chart.title)
    );
    let xs = chart.xs.iter().copied().filter(|x| x.is_finite());
    let end = chart.end.unwrap_or_else(|| xs.clone().fold(0.0, f64::max));
    let start = xs.filter(|x| *x > 0.0).fold(f64::INFINITY, f64::min);
    let x = Scale {
        from: LEFT,
        to: WIDTH - RIGHT,
        min: (chart.log && start < end).then_some(start),
        max: if end > 0.0 { end } else { 1.0 },
    };
    let mut above = 0.0;
    for panel in &chart.panels {
        let top = above + head(panel);
        draw_panel(&mut svg, chart, panel, &x, top);
        above = top + BODY + GAP;
    }
    let bottom = height - FOOT;
    let marks = x
        .min
        .map_or_else(|| ticks(x.max, 8), |min| decades(min, x.max));
    for tick in marks.into_iter().filter(|tick| tick.value <= x.max) {
        let at = x.at(tick.value);
        let _ = write!(
            svg,
            r#"<text class="tick" x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 16.0,
            tick.label
        );
    }
    let _ = write!(
        svg,
        r#"<text class="axis" x="{LEFT}" y="{:.1}">{}</text>"#,
        bottom + 34.0,
        escape(&chart.x_title)
    );
    draw_hovers(&mut svg, chart, &x, bottom);
    svg.push_str("</svg>");
    svg
}

fn draw_panel(svg: &mut String, chart: &Chart, panel: &Panel, x: &Scale, top: f64) {
    let finite = panel
        .lines
        .iter()
        .flat_map(|line| &line.values)
        .filter_map(|value| finite(*value));
    let limit = panel.limit.as_ref().filter(|limit| limit.at.is_finite());
    let highest = finite
        .clone()
        .chain(limit.map(|limit| limit.at))
        .fold(0.0, f64::max);
    let marks = ticks(if highest > 0.0 { highest } else { 1.0 }, 4);
    let max = marks.last().map_or(1.0, |tick| tick.value);
    let y = Scale {
        from: top + BODY,
        to: top,
        min: None,
        max,
    };
    for span in chart.shades.iter().filter(|span| span.to > span.from) {
        let from = x.at(span.from);
        let width = (x.at(span.to) - from).max(0.0);
        let _ = write!(
            svg,
            r#"<rect class="shade" x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{BODY}"><title>{}</title></rect>"#,
            escape(&span.name)
        );
    }
    for tick in &marks {
        let at = y.at(tick.value);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{LEFT} {at:.1}H{:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            tick.label
        );
    }
    let _ = write!(
        svg,
        r#"<text class="axis" x="{LEFT}" y="{:.1}">{}</text>"#,
        top - 9.0,
        escape(&panel.unit)
    );
    draw_legend(svg, panel, top - 9.0);
    if finite.count() == 0 {
        let _ = write!(
            svg,
            r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="middle">no values</text>"#,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            top + BODY / 2.0
        );
    }
    if let Some(limit) = limit {
        let (at, name) = (y.at(limit.at), escape(&limit.name));
        let _ = write!(
            svg,
            r#"<path class="limit" d="M{LEFT} {at:.1}H{:.1}"><title>{name}</title></path><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"#,
            WIDTH - RIGHT,
            WIDTH - RIGHT - 4.0,
            // above its line, or below where that is the top
            if at - top < 16.0 { at + 13.0 } else { at - 4.0 }
        );
    }
    if let Some(mark) = chart.mark.as_ref().filter(|mark| mark.at.is_finite()) {
        let (at, name) = (x.at(mark.at), escape(&mark.name));
        let _ = write!(
            svg,
            r#"<path class="limit" d="M{at:.1} {top:.1}v{BODY}"><title>{name}</title></path><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"#,
            at - 4.0,
            top + 12.0
        );
    }
    for (index, line) in panel.lines.iter().enumerate() {
        draw_line(svg, &chart.xs, line, index, (x, &y));
        if chart.dots {
            draw_dots(svg, &chart.xs, line, index, (x, &y));
        }
    }
}

fn draw_dots(svg: &mut String, xs: &[f64], line: &Line, index: usize, (x, y): (&Scale, &Scale)) {
    for (at, value) in xs.iter().zip(&line.values) {
        if let Some(value) = finite(*value) {
            let _ = write!(
                svg,
                r#"<circle class="dot s{index}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
                x.at(*at),
                y.at(value)
            );
        }
    }
}

/// Where the name of each line stands above the panel: from the left, and in which row. Widths are estimated, for SVG cannot
/// measure text without a script.
fn legend(panel: &Panel) -> Vec<(f64, usize)> {
    let width = |text: &str| text.chars().count() as f64 * 6.8;
    let start = LEFT + width(&panel.unit) + 20.0;
    let (mut left, mut row) = (start, 0);
    let place = |line: &Line| {
        let takes = width(&line.name) + 24.0;
        if left > start && left + takes > WIDTH {
            (left, row) = (start, row + 1);
        }
        let at = (left, row);
        left += takes + 20.0;
        at
    };
    panel.lines.iter().map(place).collect()
}

/// Height of what stands above a panel.
fn head(panel: &Panel) -> f64 {
    let rows = legend(panel).last().map_or(0, |(_, row)| *row);
    HEAD + rows as f64 * ROW
}

/// Names of the lines, above the panel, beside its unit: there a narrow screen shows them first.
fn draw_legend(svg: &mut String, panel: &Panel, bottom: f64) {
    let places = legend(panel);
    let rows = places.last().map_or(0, |(_, row)| *row);
    for (index, (line, (left, row))) in panel.lines.iter().zip(places).enumerate() {
        let at = bottom - (rows - row) as f64 * ROW;
        let _ = write!(
            svg,
            r#"<path class="line s{index}" d="M{left:.1} {:.1}h18"/><text class="axis" x="{:.1}" y="{at:.1}">{}</text>"#,
            at - 4.0,
            left + 24.0,
            escape(&line.name)
        );
    }
}

fn draw_line(svg: &mut String, xs: &[f64], line: &Line, index: usize, (x, y): (&Scale, &Scale)) {
    let points = xs
        .iter()
        .zip(&line.values)
        .map(|(at, value)| Some((x.at(*at), y.at(finite(*value)?))));
    let points: Vec<Option<(f64, f64)>> = points.collect();
    let mut path = String::new();
    for stretch in points.split(Option::is_none) {
        match stretch {
            [] => {}
            // a value between two gaps has no line: it is a dot
            [Some((x, y))] => {
                let _ = write!(
                    svg,
                    r#"<circle class="dot s{index}" cx="{x:.1}" cy="{y:.1}" r="2.5"/>"#
                );
            }
            _ => {
                for (position, (x, y)) in stretch.iter().flatten().enumerate() {
                    let _ = write!(
                        path,
                        "{}{x:.1} {y:.1}",
                        if position == 0 { 'M' } else { 'L' }
                    );
                }
            }
        }
    }
    if !path.is_empty() {
        let _ = write!(svg, r#"<path class="line s{index}" d="{path}"/>"#);
    }
}

/// One invisible column for each position, whose title is what all lines say there.
fn draw_hovers(svg: &mut String, chart: &Chart, x: &Scale, bottom: f64) {
    let places: Vec<f64> = chart.xs.iter().map(|at| x.at(*at)).collect();
    let span = places
        .first()
        .zip(places.last())
        .map_or(0.0, |(a, b)| b - a);
    let gaps = places.len().saturating_sub(1).max(1) as f64;
    let column = (span / gaps).clamp(1.0, x.to - x.from);
    for (index, at) in chart.xs.iter().enumerate() {
        let mut title = format!("{} {}", text::number(*at), chart.x_unit);
        for panel in &chart.panels {
            for line in &panel.lines {
                let value = line.values.get(index).copied().flatten();
                let _ = write!(
                    title,
                    "\n{}: {}",
                    line.name,
                    text::quantity(value, &panel.unit)
                );
            }
        }
        let _ = write!(
            svg,
            r#"<rect class="hit" x="{:.1}" y="{HEAD}" width="{column:.2}" height="{:.1}"><title>{}</title></rect>"#,
            x.at(*at) - column / 2.0,
            bottom - HEAD,
            escape(&title)
        );
    }
}

/// From values that start at 0, or, of a logarithmic axis, at `min`, to places in the picture.
struct Scale {
    from: f64,
    to: f64,
    min: Option<f64>,
    max: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = match self.min {
            None => value / self.max,
            Some(min) => (value / min).ln() / (self.max / min).ln(),
        };
        // what is no number stands at the start
        let share = if share.is_finite() { share } else { 0.0 };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }
}

/// A mark of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where it stands.
    pub value: f64,
    /// What stands there.
    pub label: String,
}

/// Marks from 0 to `max` or just above it, 1, 2 or 5 times a power of ten apart, about `count` of them.
pub fn ticks(max: f64, count: u32) -> Vec<Tick> {
    // what is no number is in no range
    if !(1e-300..=1e300).contains(&max) {
        return vec![
            Tick {
                value: 0.0,
                label: "0".to_owned(),
            },
            Tick {
                value: 1.0,
                label: "1".to_owned(),
            },
        ];
    }
    let rough = max / f64::from(count.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let step = power
        * match rough / power {
            r if r <= 1.0 => 1.0,
            r if r <= 2.0 => 2.0,
            r if r <= 5.0 => 5.0,
            _ => 10.0,
        };
    let mut marks = Vec::new();
    let mut index = 0_u32;
    loop {
        let value = f64::from(index) * step;
        marks.push(Tick {
            value,
            label: label(value, step),
        });
        // half a millionth of a step: what rounding may have taken
        if value >= max - step * 5e-7 {
            return marks;
        }
        index += 1;
    }
}

/// Marks of a logarithmic axis within its ends: powers of ten, with 2 and 5 times these where they are few.
pub fn decades(min: f64, max: f64) -> Vec<Tick> {
    let first = min.log10().floor();
    let count = (max.log10().ceil() - first).clamp(0.0, 40.0);
    let times: &[f64] = if count > 4.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = std::iter::successors(Some(0.0), |at: &f64| Some(at + 1.0));
    let powers = powers.take_while(|at| *at <= count);
    powers
        .flat_map(|at| {
            times
                .iter()
                .map(move |times| times * 10_f64.powf(first + at))
        })
        .filter(|value| (min..=max).contains(value))
        .map(|value| Tick {
            value,
            label: text::number(value),
        })
        .collect()
}

fn label(value: f64, step: f64) -> String {
    let (value, step, suffix) = if value >= 1e6 {
        (value / 1e6, step / 1e6, "M")
    } else if value >= 1e4 {
        (value / 1e3, step / 1e3, "k")
    } else {
        (value, step, "")
    };
    let digits = (0..6).find(|digits| {
        let scaled = step * 10_f64.powi(*digits);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1e-3)
    });
    let digits = usize::try_from(digits.unwrap_or(6)).unwrap_or(0);
    format!("{value:.digits$}{suffix}")
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>) -> Chart {
        Chart {
            title: "latency <b>\"now\"".to_owned(),
            x_title: "seconds".to_owned(),
            x_unit: "s".to_owned(),
            xs: (0..values.len()).map(|x| x as f64).collect(),
            panels: vec![Panel {
                unit: "ms".to_owned(),
                lines: vec![Line {
                    name: "median".to_owned(),
                    values,
                }],
                limit: None,
            }],
            shades: vec![Span {
                from: 0.0,
                to: 1.0,
                name: "warm-up".to_owned(),
            }],
            end: None,
            log: false,
            dots: false,
            mark: None,
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let labels = |max, count| {
            ticks(max, count)
                .into_iter()
                .map(|tick| tick.label)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(labels(37.0, 4), "0 10 20 30 40");
        assert_eq!(labels(1.0, 4), "0.0 0.5 1.0");
        assert_eq!(labels(0.013, 4), "0.000 0.005 0.010 0.015");
        assert_eq!(labels(120.0, 8), "0 20 40 60 80 100 120");
        assert_eq!(labels(45_000.0, 4), "0 20k 40k 60k");
    }

    #[test]
    fn a_logarithmic_axis_is_marked_by_decades() {
        let labels = |min, max| {
            let marks = decades(min, max).into_iter();
            marks.map(|tick| tick.label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(1.5, 60.0), "2 5 10 20 50");
        assert_eq!(labels(0.02, 30_000.0), "0.1 1 10 100 1000 10000");
        let mut chart = chart(vec![Some(0.0), Some(50.0), Some(100.0)]);
        chart.xs = vec![1.0, 10.0, 100.0];
        chart.log = true;
        let svg = draw(&chart);
        assert!(svg.contains(r#"d="M58.0"#), "{svg}");
        assert!(
            svg.contains("L363.0"),
            "the middle decade in the middle: {svg}"
        );
    }

    #[test]
    fn a_missing_value_is_a_gap_and_a_lonely_one_a_dot() {
        let svg = draw(&chart(vec![
            Some(1.0),
            Some(2.0),
            None,
            Some(3.0),
            None,
            Some(f64::NAN),
        ]));
        let line = svg.split(r#"<path class="line s0" d=""#).last().unwrap();
        let line = line.split('"').next().unwrap();
        assert_eq!(line.matches('M').count(), 1, "{line}");
        assert_eq!(line.matches('L').count(), 1, "{line}");
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(
            svg.contains("2 s\nmedian: –"),
            "hover says that it is missing"
        );
    }

    #[test]
    fn names_are_escaped_and_an_empty_chart_says_so() {
        let svg = draw(&chart(Vec::new()));
        assert!(svg.contains("latency &lt;b&gt;&quot;now&quot;"));
        assert!(svg.contains("no values"));
    }

    proptest::proptest! {
        #[test]
        fn no_value_breaks_the_picture(values in proptest::collection::vec(proptest::option::of(proptest::num::f64::ANY), 0..40)) {
            let svg = draw(&chart(values));
            proptest::prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
        }

        #[test]
        fn ticks_are_few_and_reach_the_maximum(max in 1e-9_f64..1e12, count in 1_u32..12) {
            let ticks = ticks(max, count);
            proptest::prop_assert!(ticks.len() <= count as usize + 2);
            proptest::prop_assert!(ticks.last().unwrap().value >= max * (1.0 - 1e-6));
        }
    }
}
