//! The image of a role: got before anything is started from it, and told to the manifest.

use tokio_util::sync::CancellationToken;

use super::{Context, StepNote};
use crate::{
    apptainer::{
        digest::{self, Facts},
        image::{Image, Wanted},
    },
    exit::Failure,
    library,
    run::RecipeEntry,
};

/// Makes sure that it is there and whole, and says so in the step file.
pub(super) async fn fetch(
    image: &Image,
    entry: &RecipeEntry,
    context: &Context,
    step: &StepNote,
) -> Result<Facts, Failure> {
    let wanted = Wanted {
        image,
        recipe: &library::name_of(&context.home, &entry.path),
        by_role: true,
        force: false,
        env: &context.env,
        site: &context.site,
        home: &context.home,
        tell: &|line| tracing::info!("{line}"),
        shutdown: &context.shutdown,
    };
    let facts = wanted.get().await?.facts;
    tell(image, &facts, step);
    Ok(facts)
}

/// Sums an image whose sum nobody keeps: a large one takes a while, and holds nobody up.
pub(super) fn sum(
    image: &Image,
    facts: &Facts,
    context: &Context,
    step: &StepNote,
    over: &CancellationToken,
) {
    if facts.digest.is_some() || !image.path.is_file() {
        return;
    }
    let (image, facts) = (image.clone(), facts.clone());
    let (step, over) = (step.clone(), over.clone());
    context.shutdown.tasks.spawn_blocking(move || {
        let digest = digest::compute(&image.path, &over).digest;
        if digest.is_some() {
            tell(&image, &Facts { digest, ..facts }, &step);
        }
    });
}

fn tell(image: &Image, facts: &Facts, step: &StepNote) {
    let mut told = serde_json::json!({"path": image.path});
    if let (Some(told), Ok(serde_json::Value::Object(facts))) =
        (told.as_object_mut(), serde_json::to_value(facts))
    {
        told.extend(facts);
    }
    step.facts([("image", told)]);
}
