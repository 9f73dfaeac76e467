//! A headless Chromium, driven over the pipe of its `DevTools` protocol: what a page tells assistive technology, and
//! pictures of it.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

/// A running browser; ends when dropped.
pub struct Browser {
    process: Child,
    commands: RefCell<ChildStdin>,
    answers: RefCell<BufReader<ChildStdout>>,
    calls: Cell<u64>,
    _profile: tempfile::TempDir,
}

/// An open page.
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

/// Something on a page, as assistive technology is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its role, like `heading`.
    pub role: String,
    /// Its accessible name.
    pub name: String,
}

impl Browser {
    /// Starts a browser with a profile of its own.
    ///
    /// # Panics
    /// `program` is no Chromium.
    pub fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().expect("a folder can be made");
        // The protocol speaks on descriptors 3 and 4: the shell puts our pipes there.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let commands = process.stdin.take().expect("a pipe was asked for");
        let answers = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        Self {
            process,
            commands: RefCell::new(commands),
            answers: RefCell::new(answers),
            calls: Cell::new(0),
            _profile: profile,
        }
    }

    /// Opens an address in a window that shows this many pixels.
    ///
    /// # Panics
    /// The browser is gone.
    pub fn open(&self, url: &str, width: u32, height: u32) -> Page<'_> {
        let blank = json!({"url": "about:blank"});
        let target = self.call(None, "Target.createTarget", &blank)["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { browser: self, session };
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", &size);
        page.call("Page.navigate", &json!({"url": url}));
        page
    }

    fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let id = self.calls.get() + 1;
        self.calls.set(id);
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut commands = self.commands.borrow_mut();
        commands.write_all(format!("{command}\0").as_bytes()).expect("the browser listens");
        commands.flush().expect("the browser listens");
        loop {
            let mut answer = Vec::new();
            self.answers.borrow_mut().read_until(0, &mut answer).expect("the browser answers");
            assert!(answer.pop().is_some(), "the browser has ended before it answered {method}");
            let mut answer: Value = serde_json::from_slice(&answer).expect("the browser speaks JSON");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Page<'_> {
    /// Waits until each of these elements is on the page, by role and a part of its name. The test's own time limit ends
    /// a wait for what never comes.
    pub fn shows(&self, wanted: &[(&str, &str)]) {
        let mut said = Vec::new();
        loop {
            let elements = self.elements();
            let found = |&&(role, name): &&(&str, &str)| {
                elements.iter().any(|element| element.role == role && element.name.contains(name))
            };
            let missing: Vec<_> = wanted.iter().filter(|wanted| !found(wanted)).copied().collect();
            if missing.is_empty() {
                return;
            }
            if elements != said {
                // Read where nextest ends the test.
                eprintln!("still missing: {missing:?} among {elements:?}");
                said = elements;
            }
            std::thread::yield_now();
        }
    }

    /// Everything that has a role and a name.
    ///
    /// # Panics
    /// The browser is gone.
    pub fn elements(&self) -> Vec<Element> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes").iter();
        let text = |node: &Value, part: &str| node[part]["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .filter(|node| node["ignored"] != true)
            .map(|node| Element { role: text(node, "role"), name: text(node, "name") })
            .filter(|element| !element.name.is_empty())
            .collect()
    }

    /// Looks at the page in a colour scheme, `light` or `dark`.
    pub fn in_scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Runs a script and gives its value.
    pub fn run(&self, script: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            &json!({"expression": script, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].clone()
    }

    /// A picture of the window, as PNG under `target/screenshots`.
    ///
    /// # Panics
    /// The browser is gone, or the file cannot be written.
    pub fn picture(&self, name: &str) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let data = shot["data"].as_str().expect("a picture");
        let png = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        let folder = crate::shared::root().join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        std::fs::write(folder.join(format!("{name}.png")), &png).expect("a picture can be written");
        png
    }

    fn call(&self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }
}
