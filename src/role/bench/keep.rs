//! Keeps the requests of a load in a file beside its result, as far as that is possible.
//!
//! Nothing here fails: a bench whose disk is full has its result all the same, which says that there are no samples.

use std::{path::Path, sync::Arc};

use super::service::Service;
use crate::{
    load::workload::Content,
    recipe::ClientPlan,
    samples::{Error, Recorder, Setup},
    shutdown::Shutdown,
    stats::{frame::Frame, results::Samples},
};

/// The file of a load; `None` where the recipe wants none.
#[derive(Default)]
pub(super) struct Keep(Option<Result<Arc<Recorder>, Error>>);

impl Keep {
    /// Begins it in the folder of the result.
    pub(super) fn begin(
        folder: &Path,
        plan: &ClientPlan,
        content: Content,
        service: &Service,
        (workers, task, tasks): (usize, Option<u32>, usize),
    ) -> Self {
        if !plan.samples {
            return Self(None);
        }
        let setup = Setup {
            folder: folder.to_owned(),
            task,
            tasks,
            window: Arc::default(),
            targets: service.facts.urls.clone(),
            asked: Box::new(move |index| {
                (!content.is_conversation()).then(|| content.asked(index))
            }),
        };
        Self(Some(Recorder::begin(setup, workers).map(Arc::new)))
    }

    /// Who is told of each request.
    pub(super) fn recorder(&self) -> Option<Arc<Recorder>> {
        self.0.as_ref()?.as_ref().ok().cloned()
    }

    /// Ends it; what is to be told of it in the result.
    pub(super) async fn finish(self, frame: &Frame, shutdown: &Shutdown) -> Option<Samples> {
        let written = match self.0? {
            Ok(recorder) => match serde_json::to_string(frame) {
                Ok(facts) => {
                    let end = move || recorder.finish(&facts);
                    let ended = shutdown.tasks.spawn_blocking(end).await;
                    ended.unwrap_or(Err(Error::Panicked))
                }
                Err(_) => Err(Error::Panicked),
            },
            Err(error) => Err(error),
        };
        Some(match written {
            Ok(written) => {
                if written.missing > 0 {
                    tracing::warn!(
                        missing = written.missing,
                        rows = written.rows,
                        "Not all requests are in the samples: this machine had no time to write them"
                    );
                }
                let name = written.path.file_name().unwrap_or_default();
                Samples {
                    files: vec![name.to_string_lossy().into_owned()],
                    rows: written.rows,
                    missing: written.missing,
                    error: None,
                }
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "There are no samples; the result is whole");
                Samples {
                    error: Some(error),
                    ..Samples::default()
                }
            }
        })
    }
}
