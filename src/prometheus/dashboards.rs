//! Dashboards of Grafana, as JSON: the questions of [`super::charts`], and further ones, asked again and again while a run goes on.
//!
//! Pure. They are made from the same questions as the report's charts, so that both show the same, and no file of JSON can fall
//! behind a metric that is renamed. Each line of the report is a query, each of its panels a panel; rates look back over
//! `$__rate_interval`, which Grafana makes four scrapes long at the least (its documentation of the Prometheus data source), from
//! the interval that the data source tells.
//!
//! The form is Grafana's *classic* dashboard model, which its documentation of version 13.1 (*Dashboard JSON model*) still names as
//! one that is read; `schemaVersion` 36 is that of `kinds/dashboard` in its sources of 9.4 to 11, which later ones migrate.
//! No Grafana was at hand to draw them: what is checked is that a real Prometheus answers every question.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::charts::{Ask, Question};

/// How far rates look back, as Grafana fills it in.
pub const WINDOW: &str = "$__rate_interval";
/// Unit id of the data source that is provided; another can be chosen on each dashboard.
pub const DATASOURCE: &str = "aif-prometheus";
/// The classic model's version.
const SCHEMA: u32 = 36;
/// Grafana's grid has 24 columns: two panels in a row.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// The time that dashboards show when they are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The last half hour, renewed every five seconds.
    Live,
    /// From one time to another.
    Span(Timestamp, Timestamp),
}

/// A dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// Its unit id, and the name of its file: `aif-vllm`.
    pub uid: String,
    /// Its title.
    pub title: String,
    /// Its panels.
    pub panels: Vec<Panel>,
}

/// A panel: lines of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// Its title, which no other of the dashboard has.
    pub title: String,
    /// The unit, written at the axis.
    pub unit: String,
    /// Its lines.
    pub lines: Vec<Question>,
}

impl Panel {
    /// A panel; in the expressions `WINDOW` is how far a rate looks back.
    pub fn new(title: &str, unit: &str, lines: &[(&str, &str)]) -> Self {
        let line = |(name, query): &(&str, &str)| Question {
            name: (*name).to_owned(),
            query: query.replace("WINDOW", WINDOW),
        };
        Self {
            title: title.to_owned(),
            unit: unit.to_owned(),
            lines: lines.iter().map(line).collect(),
        }
    }
}

/// The panels of a chart: one of several bears its unit in the title. A panel without questions is left out.
pub fn panels(ask: Ask) -> Vec<Panel> {
    let several = ask.panels.len() > 1;
    let panels = ask.panels.into_iter();
    panels
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(unit, lines)| Panel {
            title: if several {
                format!("{}: {unit}", ask.title)
            } else {
                ask.title.to_owned()
            },
            unit: unit.to_owned(),
            lines,
        })
        .collect()
}

impl Dashboard {
    /// As Grafana reads it from a file.
    pub fn json(&self, shown: Shown) -> Value {
        let (from, to, refresh) = match shown {
            Shown::Live => ("now-30m".to_owned(), "now".to_owned(), "5s"),
            Shown::Span(first, last) => (first.to_string(), last.to_string(), ""),
        };
        let panels = self.panels.iter().enumerate();
        json!({
            "id": null,
            "uid": self.uid,
            "title": self.title,
            "tags": ["aif"],
            "timezone": "browser",
            "editable": true,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA,
            "time": {"from": from, "to": to},
            "refresh": refresh,
            "templating": {"list": [{
                "name": "datasource",
                "label": "Prometheus",
                "type": "datasource",
                "query": "prometheus",
                "current": {"text": DATASOURCE, "value": DATASOURCE},
            }]},
            "panels": panels.map(|(place, panel)| panel.json(place)).collect::<Vec<_>>(),
        })
    }
}

impl Panel {
    fn json(&self, place: usize) -> Value {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let targets = self.lines.iter().enumerate().map(|(number, line)| {
            json!({
                "refId": reference(number),
                "datasource": source,
                "expr": line.query,
                "legendFormat": legend(line),
                "range": true,
            })
        });
        json!({
            "id": place + 1,
            "type": "timeseries",
            "title": self.title,
            "datasource": source,
            "gridPos": {"h": HEIGHT, "w": WIDTH, "x": place % 2 * WIDTH, "y": place / 2 * HEIGHT},
            "fieldConfig": {
                "defaults": {"min": 0, "custom": {"axisLabel": self.unit, "showPoints": "never"}},
                "overrides": [],
            },
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

/// `A`, `B` … as Grafana calls the queries of a panel.
fn reference(number: usize) -> String {
    let letter = u8::try_from(number % 26).unwrap_or(0);
    char::from(b'A' + letter).to_string()
}

/// The name of a line, with the labels by which its series differ: those of the outermost `by`.
fn legend(line: &Question) -> String {
    let labels = line
        .query
        .split_once(" by (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or("", |(labels, _)| labels);
    let labels = labels.split(',').map(str::trim);
    let labels = labels.filter(|label| !label.is_empty() && *label != "le");
    std::iter::once(line.name.clone())
        .chain(labels.map(|label| format!("{{{{{label}}}}}")))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Dashboard {
        Dashboard {
            uid: "aif-x".to_owned(),
            title: "aif: X".to_owned(),
            panels: vec![
                Panel::new(
                    "One",
                    "ms",
                    &[
                        (
                            "p99",
                            "histogram_quantile(0.99, sum by (le) (rate(a_bucket[WINDOW])))",
                        ),
                        ("b", "b"),
                    ],
                ),
                Panel::new("Two", "cores", &[("of", "max by (node, gpu) (c)")]),
                Panel::new("Three", "", &[("d", "d")]),
            ],
        }
    }

    #[test]
    fn a_dashboard_has_what_grafana_looks_for() {
        let json = board().json(Shown::Live);
        assert_eq!(json["uid"], "aif-x");
        assert_eq!(json["time"], json!({"from": "now-30m", "to": "now"}));
        assert_eq!(json["templating"]["list"][0]["name"], "datasource");
        let panels = json["panels"].as_array().unwrap();
        let places: Vec<_> = panels
            .iter()
            .map(|panel| (panel["gridPos"]["x"].clone(), panel["gridPos"]["y"].clone()))
            .collect();
        assert_eq!(
            places,
            [
                (0.into(), 0.into()),
                (12.into(), 0.into()),
                (0.into(), 8.into())
            ]
        );
        let targets = panels[0]["targets"].as_array().unwrap();
        assert_eq!(targets[0]["refId"], "A");
        assert_eq!(targets[1]["refId"], "B");
        assert_eq!(
            targets[0]["expr"],
            "histogram_quantile(0.99, sum by (le) (rate(a_bucket[$__rate_interval])))"
        );
        assert_eq!(
            targets[0]["legendFormat"], "p99",
            "the buckets are no lines"
        );
        assert_eq!(
            panels[1]["targets"][0]["legendFormat"],
            "of {{node}} {{gpu}}"
        );
    }

    #[test]
    fn an_archive_is_shown_at_its_own_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let json = board().json(Shown::Span(at(1_738_324_800), at(1_738_324_920)));
        assert_eq!(
            json["time"],
            json!({"from": "2025-01-31T12:00:00Z", "to": "2025-01-31T12:02:00Z"})
        );
        assert_eq!(json["refresh"], "", "nothing new comes");
    }

    #[test]
    fn a_chart_of_several_units_is_several_panels() {
        let question = |name: &str| {
            vec![Question {
                name: name.to_owned(),
                query: "a".to_owned(),
            }]
        };
        let ask = Ask {
            group: super::super::charts::Group::Node,
            title: "GPU",
            panels: vec![
                ("W", question("w")),
                ("°C", question("c")),
                ("-", Vec::new()),
            ],
        };
        let titles: Vec<String> = panels(ask).into_iter().map(|panel| panel.title).collect();
        assert_eq!(titles, ["GPU: W", "GPU: °C"]);
    }
}
