//! Where an image comes from: a URI for `apptainer pull`, or an image file of this machine.
//!
//! A tag is moved by whoever owns it, so that the same recipe may get another image tomorrow; a digest is what it says.
//! Only where a registry is asked there is anything to pin.

use std::path::{Path, PathBuf};

/// A source, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// For `apptainer pull`.
    Uri(String),
    /// A file, which is copied.
    File(PathBuf),
}

/// Does a source always mean the same image?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Yes: it names this digest.
    Digest(String),
    /// It names a tag, which by custom stays.
    Tag(String),
    /// It names no tag, or `latest`.
    Moving,
    /// There is no registry.
    Unknown,
}

impl Source {
    /// Reads a source; a path is one below `home` where it is relative.
    pub fn new(text: &str, home: &Path) -> Self {
        if let Some(path) = text.strip_prefix("file://") {
            return Self::File(home.join(path));
        }
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let is_scheme = |scheme: &str| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        match scheme {
            Some(scheme) if is_scheme(scheme) => Self::Uri(text.to_owned()),
            _ => Self::File(home.join(text)),
        }
    }

    /// Does it always mean the same image?
    pub fn pin(&self) -> Pin {
        let Self::Uri(uri) = self else {
            return Pin::Unknown;
        };
        if let Some(reference) = uri.strip_prefix("library://") {
            // a library has its digests where others have tags
            return match last_part(reference).split_once(':') {
                Some((_, tag)) if tag.starts_with("sha256.") => Pin::Digest(tag.to_owned()),
                Some((_, tag)) if tag != "latest" => Pin::Tag(tag.to_owned()),
                _ => Pin::Moving,
            };
        }
        let Some(reference) = ["docker://", "oras://"]
            .iter()
            .find_map(|scheme| uri.strip_prefix(scheme))
        else {
            return Pin::Unknown;
        };
        if let Some((_, digest)) = reference.split_once('@') {
            return Pin::Digest(digest.to_owned());
        }
        // the colon of a port stands before the last slash
        match last_part(reference).split_once(':') {
            Some((_, tag)) if tag != "latest" => Pin::Tag(tag.to_owned()),
            _ => Pin::Moving,
        }
    }

    /// The same source with this digest in place of its tag.
    pub fn pinned(&self, digest: &str) -> Option<String> {
        let (Self::Uri(uri), Pin::Tag(_) | Pin::Moving) = (self, self.pin()) else {
            return None;
        };
        if uri.starts_with("library://") {
            return None;
        }
        let name = last_part(uri);
        let bare = name.split(':').next().unwrap_or(name);
        let before = &uri[..uri.len() - name.len()];
        Some(format!("{before}{bare}@{digest}"))
    }
}

/// Is it a URI, where a path of an image was expected? The original's recipes name their image so.
pub fn is_uri(text: &str) -> bool {
    text.contains("://")
}

/// The name that `apptainer pull` would give the file: `vllm-openai_v0.5.4.sif`.
pub fn file_name(uri: &str) -> String {
    let reference = last_part(uri);
    let (name, tag) = match reference.split_once('@') {
        Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
        None => reference.split_once(':').unwrap_or((reference, "latest")),
    };
    if Path::new(name).extension().is_some_and(|end| end == "sif") {
        return name.to_owned();
    }
    format!("{name}_{}.sif", tag.replace(':', "."))
}

fn last_part(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(text, Path::new("/home"))
    }

    #[test]
    fn paths_are_files_and_the_rest_is_apptainers() {
        for (text, path) in [
            ("/images/a.sif", "/images/a.sif"),
            ("images/a.sif", "/home/images/a.sif"),
            ("file:///images/a.sif", "/images/a.sif"),
            ("./v1:2.sif", "/home/./v1:2.sif"),
        ] {
            assert_eq!(source(text), Source::File(path.into()), "{text}");
        }
        for uri in [
            "docker://a",
            "oras://h/a:1",
            "oci-archive:/a.tar",
            "https://h/a.sif",
        ] {
            assert_eq!(source(uri), Source::Uri(uri.to_owned()));
        }
    }

    #[test]
    fn a_digest_pins_and_a_missing_tag_moves() {
        let digest = "sha256:00ff";
        for (text, pin) in [
            ("docker://prom/prometheus", Pin::Moving),
            ("docker://prom/prometheus:latest", Pin::Moving),
            ("docker://10.0.0.1:5000/prometheus", Pin::Moving),
            ("docker://a/b:v1", Pin::Tag("v1".to_owned())),
            ("oras://h:5000/a/b:v1", Pin::Tag("v1".to_owned())),
            ("docker://a/b@sha256:00ff", Pin::Digest(digest.to_owned())),
            (
                "docker://a/b:v1@sha256:00ff",
                Pin::Digest(digest.to_owned()),
            ),
            ("library://a/b/c:latest", Pin::Moving),
            ("library://a/b/c", Pin::Moving),
            ("library://a/b/c:v1", Pin::Tag("v1".to_owned())),
            (
                "library://a/b/c:sha256.00ff",
                Pin::Digest("sha256.00ff".to_owned()),
            ),
            ("oci-archive:/a.tar", Pin::Unknown),
            ("/a.sif", Pin::Unknown),
        ] {
            assert_eq!(source(text).pin(), pin, "{text}");
        }
        let pinned = |text: &str| source(text).pinned(digest);
        assert_eq!(
            pinned("docker://h:5000/a:latest").as_deref(),
            Some("docker://h:5000/a@sha256:00ff")
        );
        assert_eq!(
            pinned("docker://prom/prometheus").as_deref(),
            Some("docker://prom/prometheus@sha256:00ff")
        );
        assert_eq!(pinned("docker://a@sha256:11"), None);
        assert_eq!(pinned("/a.sif"), None);
        assert_eq!(pinned("library://a/b/c:latest"), None);
    }

    #[test]
    fn a_file_is_named_as_apptainer_names_it() {
        for (uri, name) in [
            ("docker://prom/prometheus:latest", "prometheus_latest.sif"),
            ("docker://vllm/vllm-openai:v0.5.4", "vllm-openai_v0.5.4.sif"),
            ("docker://127.0.0.1:5000/tiny", "tiny_latest.sif"),
            ("docker://a/b@sha256:00ff", "b_sha256.00ff.sif"),
            ("https://example.org/x/alpine.sif", "alpine.sif"),
        ] {
            assert_eq!(file_name(uri), name, "{uri}");
        }
    }
}
