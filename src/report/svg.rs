//! Line charts as inline SVG: axes, units, gaps, titles on hover; no script, no font, no network.
//!
//! Drawn by hand because a chart in a page that must open from a file on a machine without a network is a hundred lines
//! of text, and a plotting crate brings fonts and bitmaps. Colours come from the page's style (`.s0` to `.s7`), and all
//! lines but the first are dashed, each in its own way, so that a print without colour is understood too; from the ninth
//! on they are those of the first, and thin. A logarithmic
//! axis is there for distributions, whose ends lie far apart. Pure; cannot fail: a value that is missing or no number is
//! a gap.

use std::fmt::Write as _;

use super::{
    scale::{Scale, decades, ticks},
    text::{self, escape},
};

const WIDTH: f64 = 680.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const HEAD: f64 = 24.0;
/// Of names of lines, where one does not hold them.
const ROW: f64 = 16.0;
const BODY: f64 = 112.0;
const GAP: f64 = 14.0;
const FOOT: f64 = 40.0;
/// Lines that look different.
const STYLES: usize = 8;

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
    /// Its lines; sixteen at the most can be told apart.
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

/// Classes of a line of this number.
fn style(index: usize) -> String {
    let thin = if index >= STYLES { " thin" } else { "" };
    format!("s{}{thin}", index % STYLES)
}

fn draw_dots(svg: &mut String, xs: &[f64], line: &Line, index: usize, (x, y): (&Scale, &Scale)) {
    let style = style(index);
    for (at, value) in xs.iter().zip(&line.values) {
        if let Some(value) = finite(*value) {
            let _ = write!(
                svg,
                r#"<circle class="dot {style}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
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
        let (at, style) = (bottom - (rows - row) as f64 * ROW, style(index));
        let _ = write!(
            svg,
            r#"<path class="line {style}" d="M{left:.1} {:.1}h18"/><text class="axis" x="{:.1}" y="{at:.1}">{}</text>"#,
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
    let style = style(index);
    let mut path = String::new();
    for stretch in points.split(Option::is_none) {
        match stretch {
            [] => {}
            // a value between two gaps has no line: it is a dot
            [Some((x, y))] => {
                let _ = write!(
                    svg,
                    r#"<circle class="dot {style}" cx="{x:.1}" cy="{y:.1}" r="2.5"/>"#
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
        let _ = write!(svg, r#"<path class="line {style}" d="{path}"/>"#);
    }
}

/// From where to where the column of each place reaches: halfway to its neighbours, and as far to the other side where it has
/// one neighbour only. One place alone has all.
fn columns(places: &[f64], x: &Scale) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let sorted: Vec<f64> = order.iter().map(|index| places[*index]).collect();
    let mut columns = vec![(x.from, x.to); places.len()];
    for (rank, index) in order.into_iter().enumerate() {
        let at = sorted[rank];
        let before = rank.checked_sub(1).map(|rank| (at - sorted[rank]) / 2.0);
        let after = sorted.get(rank + 1).map(|next| (next - at) / 2.0);
        let (Some(left), Some(right)) = (before.or(after), after.or(before)) else {
            continue;
        };
        columns[index] = ((at - left).max(x.from), (at + right).min(x.to));
    }
    columns
}

/// One invisible column for each position, whose title is what all lines say there.
fn draw_hovers(svg: &mut String, chart: &Chart, x: &Scale, bottom: f64) {
    let places: Vec<f64> = chart.xs.iter().map(|at| x.at(*at)).collect();
    let columns = columns(&places, x);
    for (index, (at, (left, right))) in chart.xs.iter().zip(columns).enumerate() {
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
            r#"<rect class="hit" x="{left:.2}" y="{HEAD}" width="{:.2}" height="{:.1}"><title>{}</title></rect>"#,
            right - left,
            bottom - HEAD,
            escape(&title)
        );
    }
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
    fn on_a_logarithmic_axis_the_middle_decade_is_in_the_middle() {
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
    fn a_hover_reaches_halfway_to_its_neighbours() {
        let x = Scale {
            from: 50.0,
            to: 450.0,
            min: None,
            max: 1.0,
        };
        // the axis goes on after the last place
        assert_eq!(
            columns(&[60.0, 100.0, 110.0, 310.0], &x),
            [(50.0, 80.0), (80.0, 105.0), (105.0, 210.0), (210.0, 410.0)]
        );
        assert_eq!(
            columns(&[400.0, 200.0], &x),
            [(300.0, 450.0), (100.0, 300.0)],
            "in whatever order"
        );
        assert_eq!(columns(&[70.0], &x), [(50.0, 450.0)]);
        assert_eq!(columns(&[], &x), []);

        let mut chart = chart(vec![Some(1.0), Some(2.0), Some(3.0)]);
        chart.xs = vec![0.0, 10.0, 100.0];
        let svg = draw(&chart);
        // from 58 to 668 for 0 to 100
        for column in [
            r#"x="58.00" y="24" width="30.50""#,
            r#"x="88.50" y="24" width="305.00""#,
            r#"x="393.50" y="24" width="274.50""#,
        ] {
            assert!(svg.contains(column), "{column} is not in {svg}");
        }
    }

    #[test]
    fn sixteen_lines_are_told_apart() {
        let styles: std::collections::BTreeSet<String> = (0..16).map(style).collect();
        assert_eq!(styles.len(), 16, "{styles:?}");
        assert_eq!(style(9), "s1 thin");
        let page = include_str!("page.css");
        for index in 0..STYLES {
            assert!(page.contains(&format!("svg .line.s{index} ")), "{index}");
            assert!(page.contains(&format!("svg .dot.s{index} ")), "{index}");
        }
        assert!(page.contains("svg .line.thin "));
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
    }
}
