//! Files that a client recipe names: read and made into what a load is made of.

use std::sync::Arc;

use crate::{
    exit::{Exit, Failure},
    files,
    load::workload::{Material, vectors::Set},
    recipe::ClientPlan,
};

/// Reads the file that a plan names, where it names one.
///
/// # Errors
/// A file that is missing, cannot be read, or has faults, which are told with their lines.
pub fn material(plan: &ClientPlan) -> Result<Material, Failure> {
    let Some(path) = Material::wanted(plan) else {
        return Ok(match &plan.workload.vectors {
            Some(vectors) => Material::Vectors(Arc::new(Set::of(vectors, plan.workload.seed))),
            None => Material::None,
        });
    };
    let text = files::read_text(path).map_err(|error| {
        // text that is no UTF-8 is a fault of the file, not of ours
        let exit = match Exit::of_io(&error.source) {
            Exit::Bug => Exit::Recipe,
            exit => exit,
        };
        let message = format!("cannot read {}, which the recipe names", path.display());
        Failure::caused(exit, message, error.source)
    })?;
    Material::of(plan, &text).map_err(|faults| Failure::new(Exit::Recipe, faults))
}
