//! A client that shows what came back, byte for byte.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Connections that rest are left sooner than a sidecar leaves them: a request never meets one that is being closed.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().no_proxy().timeout(None).pool_idle_timeout(Duration::from_secs(5));
    client.build().expect("a client can be built")
});

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    fn read(response: Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().expect("the body arrives whole").to_vec(),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The body as JSON, where the status is 200.
    ///
    /// # Panics
    /// The status is another one.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// A header as text; empty where it is absent.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The objects of an event stream, without the closing `[DONE]`.
    ///
    /// # Panics
    /// The stream does not end with `[DONE]`, or an event is no JSON.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let mut data: Vec<_> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.iter().map(|data| serde_json::from_str(data).expect("each event is JSON")).collect()
    }
}

/// `GET url`.
///
/// # Panics
/// Nobody answers.
pub fn get(url: &str) -> Reply {
    get_with(url, &[])
}

/// `GET url` with these headers.
///
/// # Panics
/// Nobody answers.
pub fn get_with(url: &str, headers: &[(&str, &str)]) -> Reply {
    let request =
        headers.iter().fold(CLIENT.get(url), |request, (name, value)| request.header(*name, *value));
    Reply::read(request.send().expect("somebody answers"))
}

/// `DELETE url` with these headers.
///
/// # Panics
/// Nobody answers.
pub fn delete_with(url: &str, headers: &[(&str, &str)]) -> Reply {
    let request =
        headers.iter().fold(CLIENT.delete(url), |request, (name, value)| request.header(*name, *value));
    Reply::read(request.send().expect("somebody answers"))
}

/// A request of any method, with these very bytes and headers.
///
/// # Panics
/// It is no method, or nobody answers.
pub fn request(method: &str, url: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Reply {
    let request = CLIENT.request(method.parse().expect("a method"), url).body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Reply::read(request.send().expect("somebody answers"))
}

/// `POST url` with a JSON body.
///
/// # Panics
/// Nobody answers.
pub fn post(url: &str, body: &Value) -> Reply {
    post_with(url, body.to_string().into_bytes(), &[])
}

/// `POST url` with these very bytes and headers.
///
/// # Panics
/// Nobody answers.
pub fn post_with(url: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Reply {
    Reply::read(open(url, body, headers))
}

/// As [`post_with`], the body still unread: dropping it leaves.
///
/// # Panics
/// Nobody answers.
pub fn open(url: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Response {
    let request = CLIENT.post(url).header("content-type", "application/json").body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().expect("somebody answers")
}
