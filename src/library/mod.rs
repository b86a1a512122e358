//! The library of recipes: files found by path or by name, read, and planned with the variables of site and environment.
//!
//! A recipe is named by a path, or by a name that is looked up in `recipes/{servers,monitors,clients}/` of the
//! project. What is handed on is a plan, and the entry for the manifest, in which secrets are masked: a manifest is
//! made to be given away.

mod find;
mod mask;
mod material;
mod route;

use crate::{
    env::Env,
    exit::{Exit, Failure},
    recipe::{
        Kind, Plan,
        expand::Variables,
        fault::Faults,
        plan::{self, Source},
    },
    run::RecipeEntry,
    site::Site,
};

pub use find::{Found, find, list, name_of};
pub use mask::{is_secret, masked};
pub use material::material;
pub use route::{Routed, route_overrides};

/// A recipe, found and planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What the manifest keeps; secrets are masked.
    pub entry: RecipeEntry,
    /// The plan, with everything in it.
    pub plan: Plan,
    /// What should be said about it, one line each with its place.
    pub warnings: Vec<String>,
    /// Keys whose override holds a secret: the entry shows it masked, so it cannot be handed on.
    pub secret_keys: Vec<String>,
}

impl Resolved {
    /// The overrides as arguments for another process of ours.
    ///
    /// # Errors
    /// An override that holds a secret: everybody on the node can read arguments.
    pub fn set_arguments(&self) -> Result<Vec<String>, Failure> {
        if let Some(key) = self.secret_keys.first() {
            let message = format!(
                "--set {key} holds a secret, which others could read in the arguments of a step or job: export it as a variable, and write the value as '${{VARIABLE}}'"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let sets = self.entry.overrides.iter();
        Ok(sets
            .flat_map(|set| ["--set".to_owned(), set.clone()])
            .collect())
    }
}

/// The variables that recipes may use: the site's, above them the environment's (what a user exports is meant), and
/// `AIF_HOME`.
pub fn variables(env: &Env, site: &Site, home: &std::path::Path) -> Variables {
    let mut variables = site.variables(env);
    variables.extend(
        env.iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    variables.insert("AIF_HOME".to_owned(), home.display().to_string());
    variables
}

/// Finds a recipe and plans it.
pub fn resolve(
    home: &std::path::Path,
    name: &str,
    wanted: Option<Kind>,
    overrides: &[String],
    variables: &Variables,
) -> Result<Resolved, Failure> {
    let found = find(home, name, wanted)?;
    plan_found(&found, wanted, overrides, variables)
        .map_err(|faults| Failure::new(Exit::Recipe, faults.to_string()))
}

/// Plans a recipe that is in no file; `path` names where it comes from.
pub fn resolve_text(
    path: &str,
    text: &str,
    wanted: Kind,
    overrides: &[String],
    variables: &Variables,
) -> Result<Resolved, Failure> {
    let found = Found {
        path: path.into(),
        text: text.to_owned(),
    };
    plan_found(&found, Some(wanted), overrides, variables)
        .map_err(|faults| Failure::new(Exit::Recipe, faults.to_string()))
}

/// Plans a recipe that was found.
pub fn plan_found(
    found: &Found,
    wanted: Option<Kind>,
    overrides: &[String],
    variables: &Variables,
) -> Result<Resolved, Faults> {
    let path = found.path.display().to_string();
    let source = Source {
        text: &found.text,
        path: &path,
        wanted,
        overrides,
    };
    let planned = plan::plan(&source, variables)?;
    let mut shown = serde_json::to_value(&planned.plan).unwrap_or_default();
    let secrets = mask::secrets(&shown, variables);
    mask::mask_value(&mut shown, &secrets);
    let masked_sets: Vec<String> = overrides
        .iter()
        .map(|text| masked(text, &secrets))
        .collect();
    let secret_keys = overrides
        .iter()
        .zip(&masked_sets)
        .filter(|(set, masked)| set != masked)
        .filter_map(|(set, _)| Some(set.split_once('=')?.0.to_owned()));
    let secret_keys = secret_keys.collect();
    Ok(Resolved {
        entry: RecipeEntry {
            kind: planned.plan.kind().name().to_owned(),
            path: path.clone(),
            text: masked(&found.text, &secrets),
            overrides: masked_sets,
            plan: shown,
        },
        plan: planned.plan,
        warnings: planned.warnings.iter().map(ToString::to_string).collect(),
        secret_keys,
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::files::{self, Durability};

    fn project() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn fault(name: &str, wanted: Option<Kind>) -> (Exit, String) {
        let failure = resolve(&project(), name, wanted, &[], &Variables::new()).unwrap_err();
        let text = failure
            .to_string()
            .replace(&project().display().to_string(), "HOME");
        (failure.exit, text)
    }

    #[test]
    fn a_recipe_is_found_by_name_or_path() {
        let variables = Variables::from([("CONTAINER_DIR".to_owned(), "/i".to_owned())]);
        let by_name = resolve(&project(), "llamacpp-server", None, &[], &variables).unwrap();
        assert_eq!(by_name.entry.kind, "server");
        let path = project().join("recipes/servers/llamacpp-server.yaml");
        let by_path = resolve(
            Path::new("/nowhere"),
            path.to_str().unwrap(),
            Some(Kind::Server),
            &[],
            &variables,
        )
        .unwrap();
        assert_eq!(by_path.plan, by_name.plan);
        assert!(by_name.warnings.is_empty());
        assert_eq!(name_of(&project(), &by_name.entry.path), "llamacpp-server");
        assert_eq!(name_of(&project(), "./my.yaml"), "./my.yaml");
    }

    #[test]
    fn what_is_not_there_is_told_with_the_nearest_name() {
        let (exit, text) = fault("llamacp-server", Some(Kind::Server));
        assert_eq!(exit, Exit::NoInput);
        insta::assert_snapshot!(text, @r##"no server recipe "llamacp-server" in HOME/recipes/servers; did you mean "llamacpp-server"?"##);
        insta::assert_snapshot!(fault("llamacpp-server", Some(Kind::Client)).1, @r##"no client recipe "llamacpp-server" in HOME/recipes/clients; it is a server recipe"##);
        insta::assert_snapshot!(fault("./no/such.yaml", None).1, @r##"cannot read the recipe ./no/such.yaml"##);
        let (exit, text) = fault("llamacpp-server", None);
        assert_eq!(exit, Exit::Recipe);
        insta::assert_snapshot!(text, @r##"HOME/recipes/servers/llamacpp-server.yaml:9:12: variable CONTAINER_DIR is not set; set `container_dir` in the site file, or export it"##);
    }

    #[test]
    fn no_secret_comes_into_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        let text = "\
name: s-server
service_name: s
service:
  program: [run, --api-key, '${HF_TOKEN}', --key=sesame-7]
  env:
    HF_TOKEN: ${HF_TOKEN}
    MY_PASSWORD: literal-pass   # mine
    TOKENIZERS_PARALLELISM: false
";
        files::write_atomic(&path, text.as_bytes(), 0o600, Durability::Fast).unwrap();
        let variables = Variables::from([("HF_TOKEN".to_owned(), "hf_secret".to_owned())]);
        let overrides = ["service.env.API_KEY=over-secret".to_owned()];
        let resolved = resolve(
            folder.path(),
            path.to_str().unwrap(),
            None,
            &overrides,
            &variables,
        )
        .unwrap();
        let shown = serde_json::to_string(&resolved.entry).unwrap();
        for secret in ["hf_secret", "literal-pass", "over-secret", "sesame-7"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(shown.contains("TOKENIZERS_PARALLELISM: false"));
        assert!(shown.contains("${HF_TOKEN}"));
        let Plan::Server(plan) = resolved.plan else {
            panic!("no server")
        };
        assert_eq!(plan.env["HF_TOKEN"], "hf_secret");
    }

    #[test]
    fn the_environment_stands_above_the_site() {
        let site = Site {
            container_dir: Some("/site".into()),
            ..Site::default()
        };
        let env: Env = [("CONTAINER_DIR", "/mine")].into_iter().collect();
        let both = variables(&env, &site, Path::new("/home"));
        assert_eq!(both["CONTAINER_DIR"], "/mine");
        assert_eq!(both["AIF_HOME"], "/home");
    }
}
