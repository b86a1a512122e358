//! Recipes to start from: what `aif recipes new` writes. Short and commented; everything else stands in the reference.

use super::Kind;

/// A commented recipe of this kind, by this name.
pub fn template(kind: Kind, name: &str) -> String {
    let text = match kind {
        Kind::Server => include_str!("templates/server.yaml"),
        Kind::Monitor => include_str!("templates/monitor.yaml"),
        Kind::Client => include_str!("templates/client.yaml"),
    };
    text.replace("@SERVICE@", super::legacy::service_of(name))
        .replace("@NAME@", name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{
        expand::Variables,
        plan::{Source, plan},
    };

    #[test]
    fn templates_plan_without_a_word() {
        let variables = Variables::from([("CONTAINER_DIR".to_owned(), "/i".to_owned())]);
        for kind in Kind::ALL {
            let name = format!("my-{}", kind.name());
            let text = template(kind, &name);
            let source = Source {
                text: &text,
                path: "new.yaml",
                wanted: Some(kind),
                overrides: &[],
            };
            let planned = plan(&source, &variables).unwrap();
            assert!(planned.warnings.is_empty());
            assert_eq!(planned.plan.name(), name);
            assert_eq!(planned.plan.service_name(), "my");
        }
    }
}
