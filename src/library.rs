//! stub
use crate::{recipe::Plan, run::RecipeEntry};
/// A recipe found and planned.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As the manifest keeps it.
    pub entry: RecipeEntry,
    /// The plan.
    pub plan: Plan,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// stub
pub fn variables(
    _env: &crate::env::Env,
    _site: &crate::site::Site,
    _home: &std::path::Path,
) -> std::collections::BTreeMap<String, String> {
    todo!()
}
/// stub
pub fn resolve(
    _home: &std::path::Path,
    _name: &str,
    _kind: Option<crate::recipe::Kind>,
    _sets: &[String],
    _variables: &std::collections::BTreeMap<String, String>,
) -> Result<Resolved, crate::exit::Failure> {
    todo!()
}
