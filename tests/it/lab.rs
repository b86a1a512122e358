//! A laboratory for whole runs: a scrubbed environment, a registry and a home of its own, and the real binary.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

/// A place to run aif in.
pub(crate) struct Lab {
    folder: TempDir,
}

impl Lab {
    /// An empty home with the project's own recipes and sites.
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("aif-lab-").expect("a temporary folder");
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["recipes", "sbatch", "jobs"] {
            std::os::unix::fs::symlink(project.join(name), folder.path().join(name))
                .expect("a link");
        }
        Self { folder }
    }

    /// The laboratory's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// The binary, in an environment without Slurm.
    pub(crate) fn aif(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aif"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path())
            .env("AIF_HOME", self.path())
            .env("TMPDIR", self.path())
            .env("AIF_SITE", "plain")
            .env("SCRIPTED_ENGINE", scripted_engine())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.aif(arguments).output().expect("aif starts"))
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        let child = self
            .aif(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("aif starts");
        Started { child: Some(child) }
    }

    /// The one run folder that there is.
    pub(crate) fn run_folder(&self) -> PathBuf {
        let mut runs: Vec<_> = std::fs::read_dir(self.path().join("results"))
            .expect("a results folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(runs.len(), 1, "one run: {runs:?}");
        runs.remove(0)
    }

    /// A JSON file below the run folder.
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let path = self.run_folder().join(name);
        let text =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Records that are left in the registry.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        fn below(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    below(&path, found);
                } else if path.extension().is_some_and(|end| end == "json") {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        below(&self.path().join(".ubenchai/discover"), &mut found);
        found
    }

    /// Processes whose environment names this laboratory, with their command lines.
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("HOME={}", self.path().display());
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
        pids.filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok())
            .filter(|pid: &i32| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark.as_bytes())
            })
            .map(|pid| {
                let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
                (pid, command.unwrap_or_default().replace('\0', " "))
            })
            .filter(|(_, command)| !command.is_empty())
            .collect()
    }

    /// Whatever a run left behind.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let left = self.processes().into_iter();
        left.map(|(_, command)| command).collect()
    }

    /// The process of this laboratory whose command begins so (without the program's folder), if it runs.
    pub(crate) fn pid_of(&self, words: &str) -> Option<i32> {
        let found = self.processes().into_iter().find(|(_, command)| {
            let first = command.split(' ').next().unwrap_or_default();
            let folder = first.rfind('/').map_or(0, |at| at + 1);
            command[folder..].starts_with(&format!("{words} "))
        });
        found.map(|(pid, _)| pid)
    }

    /// Waits until nothing of this laboratory runs any more.
    pub(crate) fn assert_nothing_left(&self) {
        wait_until(Duration::from_secs(5), "no process is left", || {
            self.leftovers().is_empty()
        });
        assert!(
            self.records().is_empty(),
            "records left: {:?}",
            self.records()
        );
    }
}

/// Path of a program of `tests/` that stands in for a real one; cargo builds it with the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_aif"))
        .parent()
        .expect("the folder of the binary");
    let path = folder.join("examples").join(name);
    // a whole `cargo test` builds it; `cargo test --test it` does not
    assert!(
        path.exists(),
        "build it first: cargo build --example {name}"
    );
    path
}

/// Path of the scripted engine that stands in for a real one.
pub(crate) fn scripted_engine() -> PathBuf {
    example("scripted-engine")
}

/// The scripted engine as a process of its own; it is killed when the test forgets it.
pub(crate) struct Engine {
    child: std::process::Child,
    port: u16,
}

impl Engine {
    /// Starts it with these flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(scripted_engine())
            .args(flags)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the engine starts");
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().expect("its output"))
            .read_line(&mut said)
            .expect("its first line");
        let port = said.trim().rsplit(' ').next().unwrap_or_default();
        Self {
            port: port.parse().unwrap_or_else(|_| panic!("no port: {said}")),
            child,
        }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it counted.
    pub(crate) fn stats(&self) -> serde_json::Value {
        self.get("/stats")
    }

    /// The requests of the load that it was asked, with their headers: those of the calibration, for one token, left out.
    pub(crate) fn asked(&self) -> Vec<serde_json::Value> {
        let mut asked = self.get("/asked");
        let asked = std::mem::take(asked.as_array_mut().expect("a list"));
        let is_load = |asked: &serde_json::Value| asked["body"]["max_tokens"] != 1;
        asked.into_iter().filter(is_load).collect()
    }

    fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Held by tests that measure rates, one at a time: two loads on two cores would measure each other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Within so many parts of a hundred.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: f64, wanted: f64, percent: f64) {
    assert!(
        (found - wanted).abs() <= wanted * percent / 100.0,
        "{what}: {found}, not {wanted} within {percent} %"
    );
}

/// A clock that a test reads.
pub(crate) struct Clock(jiff::Timestamp);

/// Starts a clock.
pub(crate) fn now() -> Clock {
    Clock(jiff::Timestamp::now())
}

impl Clock {
    /// Time since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        jiff::Timestamp::now()
            .duration_since(self.0)
            .try_into()
            .unwrap_or_default()
    }
}

/// Waits for something, and says what it waited for when it does not come.
pub(crate) fn wait_until(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = now();
    while !done() {
        assert!(start.elapsed() < limit, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with everything that it said where it did not end so.
    #[track_caller]
    pub(crate) fn assert_exit(&self, code: i32) -> &Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// A process that runs; it is killed when the test forgets it.
pub(crate) struct Started {
    child: Option<std::process::Child>,
}

impl Started {
    /// Starts a command.
    pub(crate) fn of(mut command: Command) -> Self {
        let child = command.spawn().expect("it starts");
        Self { child: Some(child) }
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("it runs").id()).expect("a pid")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("a signal");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        Ended::of(
            &self
                .child
                .take()
                .expect("it runs")
                .wait_with_output()
                .expect("its end"),
        )
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
