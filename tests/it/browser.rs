//! A real browser without a screen: Chromium, spoken to in its own protocol through a pair of pipes.
//!
//! Pages are asked what a person would meet: how wide they are, what the keyboard reaches, what is read aloud. A machine
//! without Chromium fails these tests (`tests/run.sh` installs it).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Where Chromium may be.
const PROGRAMS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];

/// A browser with one page.
pub(crate) struct Browser {
    child: std::process::Child,
    to: File,
    from: BufReader<File>,
    session: String,
    last: u64,
    login: Option<(String, String)>,
    /// URLs that it asked for.
    pub(crate) asked: Vec<String>,
    _home: TempDir,
}

impl Browser {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let program = PROGRAMS
            .iter()
            .find(|path| std::path::Path::new(path).exists());
        let program = program.expect("chromium is not here: apt-get install chromium");
        let home = TempDir::with_prefix("aif-browser-").expect("a temporary folder");
        let pipe = |name: &str| {
            let path = home.path().join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#, program])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                home.path().join("profile").display()
            ))
            .arg("about:blank")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let to = File::options().write(true).open(to).expect("its ear");
        let from = BufReader::new(File::open(from).expect("its mouth"));
        let mut browser = Self {
            child,
            to,
            from,
            session: String::new(),
            last: 0,
            login: None,
            asked: Vec::new(),
            _home: home,
        };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attached);
        let session = attached["sessionId"].as_str().expect("a session");
        session.clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// What it answers who asks for a password.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) {
        self.login = Some((user.to_owned(), password.to_owned()));
        self.call("Fetch.enable", &json!({"handleAuthRequests": true}));
    }

    /// Sets the size of its window; a narrow one is a phone's.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets how it shows: `screen` or `print`, `light` or `dark`.
    pub(crate) fn media(&mut self, media: &str, scheme: &str) {
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"media": media, "features": feature}),
        );
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        self.asked.clear();
        let gone = self.call("Page.navigate", &json!({"url": url}));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        let loaded = "document.readyState === 'complete' && location.href !== 'about:blank'";
        for _ in 0..200 {
            if self.look(loaded) == json!(true) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{url} is not loaded");
    }

    /// The value of an expression in the page.
    pub(crate) fn look(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut told = self.call("Runtime.evaluate", &asked);
        assert!(told["exceptionDetails"].is_null(), "{expression}: {told}");
        told["result"]["value"].take()
    }

    /// Presses the key that goes on to the next thing.
    pub(crate) fn tab(&mut self) {
        let key = |kind: &str| json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
        self.call("Input.dispatchKeyEvent", &key("rawKeyDown"));
        self.call("Input.dispatchKeyEvent", &key("keyUp"));
    }

    /// What is read aloud: role and name of everything.
    pub(crate) fn aloud(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes").iter();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .filter(|node| node["ignored"] == false)
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .collect()
    }

    /// Writes a picture of the page.
    pub(crate) fn picture(&mut self, path: &std::path::Path) {
        use base64::Engine as _;
        let told = self.call(
            "Page.captureScreenshot",
            &json!({"captureBeyondViewport": true}),
        );
        let coded = told["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(coded)
            .expect("base64");
        let mut file = File::create(path).expect("a file");
        file.write_all(&bytes).expect("written");
    }

    fn send(&mut self, method: &str, parameters: &Value) -> u64 {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser hears");
        self.last
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let id = self.send(method, parameters);
        loop {
            let mut bytes = Vec::new();
            self.from
                .read_until(0, &mut bytes)
                .expect("the browser speaks");
            assert_eq!(bytes.pop(), Some(0), "the browser has ended at {method}");
            let mut message: Value = serde_json::from_slice(&bytes).expect("JSON");
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.hear(&message);
        }
    }

    /// Takes note of what it tells by itself, and lets its requests go on.
    fn hear(&mut self, message: &Value) {
        let told = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = told["request"]["url"].as_str().unwrap_or_default();
                self.asked.push(url.to_owned());
            }
            Some("Fetch.requestPaused") => {
                self.send(
                    "Fetch.continueRequest",
                    &json!({"requestId": told["requestId"]}),
                );
            }
            Some("Fetch.authRequired") => {
                let (user, password) = self.login.clone().unwrap_or_default();
                let answer = json!({"response": "ProvideCredentials", "username": user, "password": password});
                let answer =
                    json!({"requestId": told["requestId"], "authChallengeResponse": answer});
                self.send("Fetch.continueWithAuth", &answer);
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
