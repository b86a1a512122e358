//! How many connections this machine gives the load: open files, and what it says when it has no more.
//!
//! Each connection is an open file, and systems start programs with room for 1,024. So a bench takes all it may have
//! ([`raise`]), and the last few are not for connections: results must be written, and the exporter must answer, however
//! many requests are in flight. A connection that this machine refuses itself says nothing of the service, so it is known
//! by its error ([`is_local`]) and has a class of its own. Can fail with the system's word on its limits.

use std::{io, os::fd::RawFd, sync::OnceLock};

use nix::{
    libc,
    sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

/// Open files that connections leave to everything else of a bench.
const SPARE: u64 = 24;
/// Open files of an event loop: three of its poll, one of signals, and two of each of its two timers.
const OF_A_WORKER: u64 = 8;

/// The first file number that is none for a connection.
static END: OnceLock<RawFd> = OnceLock::new();

/// Takes as many open files as this process may have; gives how many these are. To be called before the first
/// connection.
///
/// # Errors
/// What the system says.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many connections can be open at once, of so many files, beside so many workers.
#[must_use]
pub fn connections(files: u64, workers: usize) -> u64 {
    if files == RLIM_INFINITY {
        return u64::MAX;
    }
    files.saturating_sub(SPARE + OF_A_WORKER * workers as u64)
}

/// Is a file of this number one of those that are kept for other things?
pub(super) fn is_spare(file: RawFd) -> bool {
    let end = END.get_or_init(|| {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(RLIM_INFINITY, |(soft, _)| soft);
        RawFd::try_from(files.saturating_sub(SPARE)).unwrap_or(RawFd::MAX)
    });
    file >= *end
}

/// The error of a machine without open files.
pub(super) fn none_left() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

/// Is it this machine that has no connection to give: no open file, no port, no memory?
pub(super) fn is_local(error: &io::Error) -> bool {
    // EAGAIN: the kernel found no free port by itself
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::EADDRNOTAVAIL
                | libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_everything_else() {
        for (files, workers, wanted) in [
            (64, 2, 24),
            (1024, 16, 872),
            (20, 1, 0),
            (RLIM_INFINITY, 16, u64::MAX),
        ] {
            assert_eq!(connections(files, workers), wanted, "{files}");
        }
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        assert!(!is_spare(3) && is_spare(RawFd::try_from(soft).unwrap_or(RawFd::MAX)));
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_service() {
        for (code, local) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::ECONNREFUSED, false),
            (libc::ETIMEDOUT, false),
            (libc::EHOSTUNREACH, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_local(&error), local, "{error}");
        }
    }
}
