//! Images: there, or pulled once however many jobs start together; and their digests.
//!
//! Whoever makes `<image>.lease` exclusively pulls, to a name of its own that is renamed into place; the others wait for
//! the image. The holder renews the lease; one that stands still for a minute on the waiter's own clock (its holder was
//! killed) is taken away by a rename, which only one waiter wins.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{exit::Exit, files, recipe::Container};

/// The holder of a lease renews it this often.
const RENEWAL: Duration = Duration::from_secs(5);
/// A lease that stands still for longer is nobody's.
const LEASE: Duration = Duration::from_mins(1);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is missing, and the recipe does not say where it can be had.
    #[error("image {} is missing; {mend}", image.display())]
    Missing {
        /// The image.
        image: PathBuf,
        /// What to do.
        mend: String,
    },
    /// It could not be pulled.
    #[error(
        "image {} cannot be pulled from {source_uri}{}; where the node has no way out, pull it on one that has: apptainer pull {} {source_uri}",
        image.display(), lines(last), image.display()
    )]
    Pull {
        /// The image.
        image: PathBuf,
        /// Where it was to come from.
        source_uri: String,
        /// The last lines that the program said.
        last: Vec<String>,
    },
    /// There is nothing that runs containers.
    #[error(
        "neither apptainer nor singularity is on the PATH; load its module (site file: modules)"
    )]
    NoProgram,
    /// A file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// Told to end.
    #[error("told to end while waiting for image {}", image.display())]
    Stopped {
        /// The image.
        image: PathBuf,
    },
}

impl Error {
    /// The exit code that it stands for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Missing { .. } | Self::Pull { .. } | Self::NoProgram => Exit::NoInput,
            Self::Files(error) => Exit::of_io(&error.source),
            Self::Stopped { .. } => Exit::Terminated,
        }
    }
}

fn lines(last: &[String]) -> String {
    if last.is_empty() {
        String::new()
    } else {
        format!(": {}", last.join(" | "))
    }
}

/// Makes sure that the image is there.
pub async fn ensure(
    container: &Container,
    program: Option<&Path>,
    log: &Path,
    told_to_end: &CancellationToken,
) -> Result<(), Error> {
    let image = &container.image;
    if image.exists() {
        return Ok(());
    }
    let Some(uri) = &container.source else {
        return Err(Error::Missing {
            image: image.clone(),
            mend: mend_of(image),
        });
    };
    let program = program.ok_or(Error::NoProgram)?;
    if let Some(folder) = image.parent() {
        files::create_folder(folder, 0o755)?;
    }
    let lease = beside(image, "lease");
    let mut watched = (Vec::new(), Instant::now());
    while !image.exists() {
        if files::create_exclusive(&lease, b"0\n", 0o644)? {
            // between the look above and the lease somebody may have finished
            let pulled = if image.exists() {
                Ok(())
            } else {
                tokio::select! {
                    pulled = pull(program, uri, image, log) => pulled,
                    () = renew(&lease) => unreachable!("it renews for ever"),
                    () = told_to_end.cancelled() => Err(Error::Stopped { image: image.clone() }),
                }
            };
            let _ = fs::remove_file(partial(image));
            let _ = fs::remove_file(&lease);
            return pulled;
        }
        let content = fs::read(&lease).unwrap_or_default();
        if content != watched.0 {
            watched = (content, Instant::now());
        } else if watched.1.elapsed() > LEASE {
            tracing::warn!(lease = %lease.display(), "Nobody renews the lease of an image; taking it");
            let away = beside(image, &format!("lease.{}", std::process::id()));
            if fs::rename(&lease, &away).is_ok() {
                let _ = fs::remove_file(&away);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            () = told_to_end.cancelled() => return Err(Error::Stopped { image: image.clone() }),
        }
    }
    Ok(())
}

/// How one comes to an image that no recipe says a source of.
pub fn mend_of(image: &Path) -> String {
    match image.file_name().and_then(|name| name.to_str()) {
        Some("llamacpp.sif") => "make it with: sbatch/image-llamacpp.sh".to_owned(),
        Some("vllm-cpu.sif") => "make it with: sbatch/image-vllm.sh".to_owned(),
        _ => {
            "put it there, or give the recipe a service.container.source to pull it from".to_owned()
        }
    }
}

fn beside(image: &Path, suffix: &str) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    image.with_file_name(format!(".{name}.{suffix}"))
}

fn partial(image: &Path) -> PathBuf {
    beside(image, &format!("{}.partial", std::process::id()))
}

async fn renew(lease: &Path) {
    for count in 1_u64.. {
        tokio::time::sleep(RENEWAL).await;
        let content = format!("{count}\n");
        if let Err(error) =
            files::write_atomic(lease, content.as_bytes(), 0o644, files::Durability::Fast)
        {
            tracing::warn!(%error, "Cannot renew the lease of an image; trying again");
        }
    }
}

async fn pull(program: &Path, uri: &str, image: &Path, log: &Path) -> Result<(), Error> {
    tracing::info!(source = uri, image = %image.display(), "Pulling an image");
    let temporary = partial(image);
    let failed = |last| Error::Pull {
        image: image.to_owned(),
        source_uri: uri.to_owned(),
        last,
    };
    let output = files::open_log(log)?;
    let errors = output
        .try_clone()
        .map_err(|source| files::Error::new("open", log, source))?;
    let status = tokio::process::Command::new(program)
        .args(["pull", "--force"])
        .arg(&temporary)
        .arg(uri)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => fs::rename(&temporary, image)
            .map_err(|source| files::Error::new("write", image, source).into()),
        Ok(_) => Err(failed(files::tail(log, 3))),
        Err(error) => Err(failed(vec![error.to_string()])),
    }
}

/// The SHA-256 of an image: from `<image>.sha256` beside it, else computed; `None` where it is no file or `stop` comes.
pub fn digest(image: &Path, stop: &CancellationToken) -> Option<String> {
    let mut name = image.as_os_str().to_owned();
    name.push(".sha256");
    if let Ok(text) = fs::read_to_string(name)
        && let Some(sum) = text.split_whitespace().next()
        && sum.len() == 64
        && sum.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Some(sum.to_ascii_lowercase());
    }
    let mut file = fs::File::open(image).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    while !stop.is_cancelled() {
        match file.read(&mut buffer).ok()? {
            0 => return Some(format!("{:x}", hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::recipe::Gpu;

    fn container(image: PathBuf, source: Option<&str>) -> Container {
        Container {
            image,
            source: source.map(str::to_owned),
            gpu: Gpu::None,
            binds: Vec::new(),
            args: Vec::new(),
        }
    }

    /// A program that takes `pull --force FILE URI` and does what the script says.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("apptainer");
        let text = format!("#!/bin/sh\n{script}\n");
        files::write_atomic(&path, text.as_bytes(), 0o755, files::Durability::Fast).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_missing_image_names_the_mend() {
        let stop = CancellationToken::new();
        let image = container("/nowhere/llamacpp.sif".into(), None);
        let error = ensure(&image, None, Path::new("/nowhere/log"), &stop)
            .await
            .unwrap_err();
        insta::assert_snapshot!(error, @"image /nowhere/llamacpp.sif is missing; make it with: sbatch/image-llamacpp.sh");
        assert_eq!(error.exit(), Exit::NoInput);
    }

    #[tokio::test]
    async fn many_start_together_and_one_pulls() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "echo pull >>{0}/pulls; sleep 0.3; echo image >$3",
            folder.path().display()
        );
        let program = program(folder.path(), &script);
        let wanted = container(folder.path().join("x/a.sif"), Some("docker://a"));
        let log = folder.path().join("log");
        let stop = CancellationToken::new();
        let one = || ensure(&wanted, Some(&program), &log, &stop);
        let (a, b, c) = tokio::join!(one(), one(), one());
        for outcome in [a, b, c] {
            outcome.unwrap();
        }
        assert_eq!(
            files::read_text(&folder.path().join("pulls")).unwrap(),
            "pull\n"
        );
        let left = fs::read_dir(folder.path().join("x")).unwrap().count();
        assert_eq!(left, 1, "the image alone");
    }

    #[tokio::test]
    async fn a_pull_that_fails_tells_why_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(
            folder.path(),
            "echo half >$3; echo 'FATAL: no route' >&2; exit 255",
        );
        let wanted = container(folder.path().join("x/a.sif"), Some("docker://a"));
        let stop = CancellationToken::new();
        let error = ensure(&wanted, Some(&program), &folder.path().join("log"), &stop)
            .await
            .unwrap_err();
        let text = error
            .to_string()
            .replace(&folder.path().display().to_string(), "DIR");
        insta::assert_snapshot!(text, @"image DIR/x/a.sif cannot be pulled from docker://a: FATAL: no route; where the node has no way out, pull it on one that has: apptainer pull DIR/x/a.sif docker://a");
        assert_eq!(fs::read_dir(folder.path().join("x")).unwrap().count(), 0);
    }

    #[test]
    fn a_digest_is_read_beside_the_image_or_computed() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.sif");
        let put = |path: &Path, text: &str| {
            files::write_atomic(path, text.as_bytes(), 0o644, files::Durability::Fast).unwrap();
        };
        put(&image, "abc");
        let stop = CancellationToken::new();
        let computed = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&image, &stop).as_deref(), Some(computed));
        let told = "1".repeat(64);
        put(
            &folder.path().join("a.sif.sha256"),
            &format!("{told}  a.sif\n"),
        );
        assert_eq!(digest(&image, &stop), Some(told));
        assert_eq!(digest(Path::new("/nowhere"), &stop), None);
    }
}
