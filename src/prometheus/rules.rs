//! The rule file that Prometheus reads: alerts and recorded series, serialised from structs.
//!
//! A summary is plain text and never a template: what a stranger put into a label is shown as a label and never run.
//! A rule whose series are not there gives nothing, so one file holds the rules of every engine: a service may be
//! served by another engine tomorrow.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::config::Error;
use crate::units::prometheus_duration;

/// Under which name an expression is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The name.
    pub name: &'static str,
    /// The expression.
    pub expr: &'static str,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The expression: what it gives is what is wrong.
    pub expr: String,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How bad it is.
    pub severity: String,
    /// What it means, for people.
    pub summary: String,
}

#[derive(Serialize)]
struct File<'a> {
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Group<'a> {
    name: &'static str,
    rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
struct Rule<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<&'a str>,
    expr: &'a str,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// The text of the rule file.
pub fn rules_yml(alerts: &[Alert], recorded: &[Recorded]) -> Result<String, Error> {
    let records = recorded.iter().map(|recorded| Rule {
        record: Some(recorded.name),
        alert: None,
        expr: recorded.expr,
        hold: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    });
    let alerts = alerts.iter().map(|alert| Rule {
        record: None,
        alert: Some(&alert.name),
        expr: &alert.expr,
        hold: (!alert.hold.is_zero()).then(|| prometheus_duration(alert.hold)),
        labels: BTreeMap::from([("severity", alert.severity.as_str())]),
        annotations: BTreeMap::from([("summary", plain(&alert.summary))]),
    });
    let groups = [
        ("aif-records", records.collect::<Vec<_>>()),
        ("aif-alerts", alerts.collect()),
    ];
    Ok(serde_yaml::to_string(&File {
        groups: groups
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(name, rules)| Group { name, rules })
            .collect(),
    })?)
}

/// A text in which a template finds nothing to do.
fn plain(text: &str) -> String {
    text.replace("{{", "{ {")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_rules() {
        let alert = Alert {
            name: "Hot".to_owned(),
            expr: "t > 85".to_owned(),
            hold: Duration::from_millis(1500),
            severity: "warning".to_owned(),
            summary: "it is {{ hot }}: \"so\"".to_owned(),
        };
        let recorded = Recorded {
            name: "old",
            expr: "e:new",
        };
        insta::assert_snapshot!(rules_yml(&[alert], &[recorded]).unwrap(), @r#"
        groups:
        - name: aif-records
          rules:
          - record: old
            expr: e:new
        - name: aif-alerts
          rules:
          - alert: Hot
            expr: t > 85
            for: 1500ms
            labels:
              severity: warning
            annotations:
              summary: 'it is { { hot }}: "so"'
        "#);
        assert_eq!(rules_yml(&[], &[]).unwrap(), "groups: []\n");
    }
}
