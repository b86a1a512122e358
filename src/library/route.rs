//! Overrides of a stack, handed to the recipes that they mean.

use crate::{
    exit::{Exit, Failure},
    recipe::{
        Kind,
        schema::{self, nearest},
        tables,
    },
};

/// The overrides of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routed {
    /// Of the server recipe.
    pub server: Vec<String>,
    /// Of the monitor recipe.
    pub monitor: Vec<String>,
    /// Of the client recipes.
    pub client: Vec<String>,
}

impl Routed {
    /// The overrides of a kind.
    pub fn of(&self, kind: Kind) -> &[String] {
        match kind {
            Kind::Server => &self.server,
            Kind::Monitor => &self.monitor,
            Kind::Client => &self.client,
        }
    }

    fn add(&mut self, kind: Kind, set: &str) {
        match kind {
            Kind::Server => self.server.push(set.to_owned()),
            Kind::Monitor => self.monitor.push(set.to_owned()),
            Kind::Client => self.client.push(set.to_owned()),
        }
    }
}

/// Hands `[server:|monitor:|client:]key=value` to the kinds that are meant: those named, else every kind of the stack
/// whose table knows the key.
pub fn route_overrides(sets: &[String], kinds: &[Kind]) -> Result<Routed, Failure> {
    let mut routed = Routed::default();
    for set in sets {
        let Some((target, _)) = set.split_once('=') else {
            return Err(usage(set, "wants KEY=VALUE"));
        };
        if let Some((prefix, path)) = target.split_once(':') {
            let kind = match prefix {
                "server" => Kind::Server,
                "monitor" => Kind::Monitor,
                "client" | "bench" => Kind::Client,
                _ => {
                    return Err(usage(
                        set,
                        "has an unknown prefix; there are server:, monitor: and client:",
                    ));
                }
            };
            if !kinds.contains(&kind) {
                return Err(usage(
                    set,
                    &format!("means a {} recipe, and there is none", kind.name()),
                ));
            }
            if !schema::knows(kind, path) {
                return Err(unknown(set, path, &[kind]));
            }
            routed.add(kind, &set[prefix.len() + 1..]);
            continue;
        }
        let knowing: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|kind| schema::knows(*kind, target))
            .collect();
        if knowing.is_empty() {
            return Err(unknown(set, target, kinds));
        }
        for kind in knowing {
            routed.add(kind, set);
        }
    }
    Ok(routed)
}

fn usage(set: &str, what: &str) -> Failure {
    let key = set.split('=').next().unwrap_or_default();
    Failure::new(Exit::Usage, format!("--set {key}: {what}"))
}

fn unknown(set: &str, path: &str, kinds: &[Kind]) -> Failure {
    let paths: Vec<(String, _)> = kinds
        .iter()
        .flat_map(|kind| schema::paths(tables::fields(*kind)))
        .collect();
    let near = nearest(path, paths.iter().map(|(path, _)| path.as_str()));
    let ending = paths
        .iter()
        .find(|(known, _)| known.rsplit('.').next() == Some(path));
    let advice = near
        .or(ending.map(|(known, _)| known.as_str()))
        .map_or_else(
            || "`aif recipes schema --reference` lists the keys".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    usage(
        set,
        &format!("no key of a {} recipe; {advice}", names.join(" or ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(sets: &[&str]) -> Result<Routed, String> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        route_overrides(&sets, &Kind::ALL).map_err(|failure| {
            assert_eq!(failure.exit, Exit::Usage);
            failure.to_string()
        })
    }

    #[test]
    fn a_key_goes_to_the_recipes_that_know_it() {
        let routed = route(&[
            "workload.seed=1",
            "prometheus.port=9091",
            "service.env.A=b:c=d",
            "orchestration.resources.time_limit=1h",
            "server:orchestration.resources.cpu_cores=2",
        ])
        .unwrap();
        let shared = "orchestration.resources.time_limit=1h";
        assert_eq!(routed.client, ["workload.seed=1", shared]);
        assert_eq!(routed.monitor, ["prometheus.port=9091", shared]);
        assert_eq!(
            routed.of(Kind::Server),
            [
                "service.env.A=b:c=d",
                shared,
                "orchestration.resources.cpu_cores=2"
            ]
        );
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused() {
        insta::assert_snapshot!(route(&["workload.sed=1"]).unwrap_err(), @r##"--set workload.sed: no key of a server or monitor or client recipe; did you mean "workload.seed"?"##);
        insta::assert_snapshot!(route(&["concurrent_users=1"]).unwrap_err(), @r##"--set concurrent_users: no key of a server or monitor or client recipe; did you mean "workload.concurrent_users"?"##);
        insta::assert_snapshot!(route(&["server:workload.seed=1"]).unwrap_err(), @r##"--set server:workload.seed: no key of a server recipe; `aif recipes schema --reference` lists the keys"##);
        insta::assert_snapshot!(route(&["x:workload.seed=1"]).unwrap_err(), @r##"--set x:workload.seed: has an unknown prefix; there are server:, monitor: and client:"##);
        insta::assert_snapshot!(route(&["workload.seed"]).unwrap_err(), @r##"--set workload.seed: wants KEY=VALUE"##);
        let only = route_overrides(&["monitor:name=x".to_owned()], &[Kind::Server]);
        insta::assert_snapshot!(only.unwrap_err(), @r##"--set monitor:name: means a monitor recipe, and there is none"##);
    }
}
