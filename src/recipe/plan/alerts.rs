//! The alerts of a monitor recipe.

use std::{collections::BTreeSet, time::Duration};

use super::text;
use crate::recipe::{
    AlertKind, AlertSetting, AlertsPlan, OwnAlert,
    fault::Findings,
    load::{Node, Value},
};

/// What `alerts` says; all of ours where it says nothing.
pub(super) fn plan(root: &Node, findings: &mut Findings) -> AlertsPlan {
    let Some(alerts) = root.get("alerts") else {
        return AlertsPlan::default();
    };
    let is_off = |key: &str| alerts.get(key).and_then(Node::as_bool) == Some(false);
    if is_off("enabled") {
        return AlertsPlan {
            ours: Vec::new(),
            own: Vec::new(),
            alertmanager: None,
        };
    }
    let ours = AlertKind::ALL
        .into_iter()
        .filter(|alert| !is_off(alert.key()))
        .map(|alert| setting(alert, alerts.get(alert.key())))
        .collect();
    AlertsPlan {
        ours,
        own: own(alerts, findings),
        alertmanager: alertmanager(alerts, findings),
    }
}

fn setting(alert: AlertKind, node: Option<&Node>) -> AlertSetting {
    let (threshold, hold) = alert.defaults();
    let said = |key: &str| node.and_then(|node| node.get(key));
    let in_seconds = matches!(alert, AlertKind::TtftP99 | AlertKind::Walltime);
    let told = said("threshold").and_then(|node| {
        if in_seconds {
            node.as_duration().map(|time| time.as_secs_f64())
        } else {
            node.as_f64()
        }
    });
    AlertSetting {
        alert,
        threshold: told.or(threshold),
        hold: said("for").and_then(Node::as_duration).unwrap_or(hold),
    }
}

fn own(alerts: &Node, findings: &mut Findings) -> Vec<OwnAlert> {
    let mut names = BTreeSet::new();
    let rules = alerts.get("rules").map(Node::items).unwrap_or_default();
    let own = |node: &Node| {
        let (alert, expr) = (text(node, "alert")?, text(node, "expr")?);
        if !names.insert(alert.clone()) {
            findings.fault(node.at, format!("a second rule with the name {alert:?}"));
        }
        let summary = text(node, "summary").unwrap_or_else(|| expr.clone());
        Some(OwnAlert {
            hold: node
                .get("for")
                .and_then(Node::as_duration)
                .unwrap_or(Duration::ZERO),
            severity: text(node, "severity").unwrap_or_else(|| "warning".to_owned()),
            alert,
            expr,
            summary,
        })
    };
    rules.iter().filter_map(own).collect()
}

/// Where an Alertmanager is: `host:port`, or a URL of http or https without a user.
fn alertmanager(alerts: &Node, findings: &mut Findings) -> Option<String> {
    let node = alerts.get("alertmanager")?;
    if !matches!(node.value, Value::Scalar { .. }) {
        return None;
    }
    let address = node.as_text()?.to_owned();
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
        .unwrap_or(&address);
    let authority = rest.split('/').next().unwrap_or_default();
    let bad = authority.is_empty()
        || rest.contains("://")
        || authority.contains('@')
        || authority.contains(char::is_whitespace);
    if bad {
        findings.fault(
            node.at,
            "\"alerts.alertmanager\" wants host:port, or a URL of http or https".to_owned(),
        );
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recipe::{
            Kind, Plan,
            expand::Variables,
            fault::Faults,
            plan::{Source, plan},
            schema, tables,
        },
        units,
    };

    fn of(alerts: &str) -> Result<AlertsPlan, Faults> {
        let text = format!("name: m\nservice_name: s\nprometheus: {{}}\n{alerts}");
        let source = Source {
            text: &text,
            path: "m.yaml",
            wanted: Some(Kind::Monitor),
            overrides: &["alerts.memory_high.threshold=0.5".to_owned()],
        };
        plan(&source, &Variables::new()).map(|planned| match planned.plan {
            Plan::Monitor(plan) => plan.alerts,
            _ => panic!("no monitor"),
        })
    }

    fn setting(plan: &AlertsPlan, alert: AlertKind) -> Option<AlertSetting> {
        plan.ours
            .iter()
            .find(|setting| setting.alert == alert)
            .copied()
    }

    #[test]
    fn the_reference_tells_the_defaults_that_hold() {
        let paths = schema::paths(tables::fields(Kind::Monitor));
        for alert in AlertKind::ALL {
            let told = |key: &str| {
                let wanted = format!("alerts.{}.{key}", alert.key());
                let (_, field) = paths.iter().find(|(path, _)| *path == wanted)?;
                field.default
            };
            let (threshold, hold) = alert.defaults();
            let told_hold = told("for").and_then(units::parse_duration);
            assert_eq!(told_hold, Some(hold), "{alert:?}");
            let told_threshold = told("threshold").and_then(|text| text.parse::<f64>().ok());
            assert_eq!(told_threshold, threshold, "{alert:?}");
        }
    }

    #[test]
    fn each_is_on_until_it_is_switched_off_and_all_can_be_turned() {
        let plan = of("").unwrap();
        assert_eq!(plan.ours.len(), AlertKind::ALL.len());
        let memory = setting(&plan, AlertKind::MemoryHigh).unwrap();
        assert_eq!(memory.threshold, Some(0.5), "by an override");

        let plan = of("alerts:\n  gpu_hot: false\n  ttft_p99: {threshold: 1500ms}\n  target_down: {for: 1m}\n  \
                       walltime: {threshold: 10m, for: 0}\n  rules: [{alert: Mine, expr: up == 0}]\n  \
                       alertmanager: https://alerts.example/am\n")
        .unwrap();
        assert_eq!(setting(&plan, AlertKind::GpuHot), None);
        let ttft = setting(&plan, AlertKind::TtftP99).unwrap();
        assert_eq!(
            (ttft.threshold, ttft.hold),
            (Some(1.5), Duration::from_secs(30))
        );
        let down = setting(&plan, AlertKind::TargetDown).unwrap();
        assert_eq!((down.threshold, down.hold), (None, Duration::from_mins(1)));
        let walltime = setting(&plan, AlertKind::Walltime).unwrap();
        assert_eq!(walltime.threshold, Some(600.0));
        assert_eq!(plan.own[0].summary, "up == 0");
        assert_eq!(
            plan.alertmanager.as_deref(),
            Some("https://alerts.example/am")
        );
        let plan = of("alerts: {enabled: false, rules: [{alert: A, expr: up}]}\n").unwrap();
        assert!(plan.ours.is_empty() && plan.own.is_empty());
    }

    #[test]
    fn what_cannot_be_is_told() {
        insta::assert_snapshot!(of("alerts:\n  target_dwn: false\n  error_rate: {threshold: 5}\n  rules:\n  - {alert: A}\n  \
                                    - {alert: B, expr: up}\n  - {alert: B, expr: up}\n  alertmanager: 'me@host'\n").unwrap_err(), @r##"
        m.yaml:5:3: unknown key "target_dwn"; did you mean "target_down"?
        m.yaml:6:27: "alerts.error_rate.threshold" wants a number above 0 to 1, found the number 5
        m.yaml:8:5: "alerts.rules[0]" lacks the key "expr": PromQL; what it gives is what is wrong
        m.yaml:10:5: a second rule with the name "B"
        m.yaml:11:17: "alerts.alertmanager" wants host:port, or a URL of http or https
        "##);
    }
}
