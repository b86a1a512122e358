//! Why an image did not come: read from what Apptainer said.
//!
//! It ends with 255 whatever happened, and says what in a line of its own. The words are those of Go's libraries and of
//! registries, and have not changed for years; what they do not fit is told as it was said.

use crate::exit::Exit;

/// Why an image did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The registry cannot be reached from here.
    Network,
    /// It has no such image.
    Unknown,
    /// It does not give it to us.
    Denied,
    /// It speaks HTTP, not HTTPS.
    PlainHttp,
    /// It has too much to do, or we asked too often.
    Busy,
    /// A disk or a quota is full.
    Space,
    /// A folder cannot be written.
    Unwritable,
    /// Apptainer does not know this kind of source.
    Kind,
    /// What came is no whole image.
    Flawed,
    /// None of these.
    Other,
}

/// Signs by which a reason is known, the first that fits wins: a full disk on the way is told before what it broke.
const SIGNS: [(Why, &[&str]); 8] = [
    (
        Why::Space,
        &["no space left", "quota exceeded", "file too large"],
    ),
    (
        Why::PlainHttp,
        &["server gave http response to https client"],
    ),
    (
        Why::Network,
        &[
            "no such host",
            "name resolution",
            "server misbehaving",
            "network is unreachable",
            "no route to host",
            "connection refused",
            "connection reset",
            "connection timed out",
            "i/o timeout",
            "handshake timeout",
            "deadline exceeded",
            "proxyconnect",
        ],
    ),
    (
        Why::Busy,
        &[
            "toomanyrequests",
            "too many requests",
            "rate limit",
            "500 internal",
            "502 bad",
            "503 service",
            "504 gateway",
        ],
    ),
    (
        Why::Denied,
        &[
            "authentication required",
            "unauthorized",
            "access to the resource is denied",
            "forbidden",
            "401",
            "403",
        ],
    ),
    (Why::Unwritable, &["permission denied", "read-only file"]),
    (
        Why::Kind,
        &["unsupported transport", "not in transport:reference"],
    ),
    (
        Why::Unknown,
        &[
            "manifest unknown",
            "name unknown",
            "name_unknown",
            "manifest_unknown",
            "not known to registry",
            "was not found",
            "404",
            "no such file or directory",
        ],
    ),
];

impl Why {
    /// What it means that this was said.
    pub fn of(said: &str) -> Self {
        let said = said.to_lowercase();
        let fits = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
        SIGNS
            .iter()
            .find(|(_, signs)| fits(signs))
            .map_or(Self::Other, |(why, _)| *why)
    }

    /// What the system said of a file.
    pub fn of_io(error: &std::io::Error) -> Self {
        Self::of(&error.to_string())
    }

    /// The exit code that it stands for.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Space | Self::Unwritable => Exit::CannotCreate,
            Self::Busy => Exit::TryAgain,
            _ => Exit::NoInput,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apptainer_says_has_a_reason() {
        // all as Apptainer 1.4.5 said them
        for (said, why) in [
            (
                r#"failed to get checksum for docker://prom/prometheus:latest: pinging container registry registry-1.docker.io: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.53:53: no such host"#,
                Why::Network,
            ),
            (
                r#"Get "https://198.51.100.10:5000/v2/": dial tcp 198.51.100.10:5000: connect: network is unreachable"#,
                Why::Network,
            ),
            (
                "reading manifest nope in 127.0.0.1:5055/tiny: manifest unknown",
                Why::Unknown,
            ),
            (
                "GET http://127.0.0.1:5055/v2/sif/none/manifests/1: MANIFEST_UNKNOWN: manifest unknown; map[Tag:1]",
                Why::Unknown,
            ),
            ("the requested image was not found", Why::Unknown),
            (
                "reading manifest 1 in 127.0.0.1:5056/tiny: authentication required",
                Why::Denied,
            ),
            (
                r#"Get "https://127.0.0.1:5055/v2/": http: server gave HTTP response to HTTPS client"#,
                Why::PlainHttp,
            ),
            (
                "error copying image out of cache: could not copy file: write /full/tmp-copy-3579875328: no space left on device",
                Why::Space,
            ),
            (
                "unpack to regular file: short write: write /home/a/.apptainer/cache/x: disk quota exceeded",
                Why::Space,
            ),
            (
                "failed to create temporary file: open /nowrite/tmp-copy-1481022018: permission denied",
                Why::Unwritable,
            ),
            ("Unsupported transport type: bogus", Why::Kind),
            ("it hurts", Why::Other),
        ] {
            assert_eq!(Why::of(said), why, "{said}");
        }
        assert_eq!(Why::Space.exit(), Exit::CannotCreate);
        assert_eq!(Why::Network.exit(), Exit::NoInput);
        assert_eq!(Why::Busy.exit(), Exit::TryAgain);
    }
}
