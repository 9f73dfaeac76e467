//! One connection that asks and waits.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// Whom to ask for chat completions.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Headers of each request.
    pub headers: HeaderMap,
}

impl Target {
    /// A target with these headers besides those that every client sends.
    ///
    /// # Panics
    /// They are no headers.
    pub fn new(address: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        let mut all = HeaderMap::new();
        let host = HeaderValue::try_from(address.to_string()).expect("an address is a header's value");
        all.insert(header::HOST, host);
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        all.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer bench"));
        for (name, value) in headers {
            all.insert(*name, value.parse().expect("a header's value"));
        }
        Self { address, headers: all }
    }
}

/// A connection with a runtime of its own, on the thread that asks.
pub struct Connection {
    runtime: Runtime,
    target: Target,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The target takes no connection.
    pub fn open(target: &Target) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let sender = runtime.block_on(connect(target.address))?;
        Ok(Self { runtime, target: target.clone(), sender })
    }

    /// Sends a chat and reads its answer to the end; each piece is shown to `heard`. False where it is not answered with
    /// 200; where the connection broke, the next request has a new one.
    pub fn ask(&mut self, body: Bytes, mut heard: impl FnMut(&[u8])) -> bool {
        let mut request = Request::post("/v1/chat/completions").body(Full::new(body)).expect("a request");
        request.headers_mut().clone_from(&self.target.headers);
        let (sender, address) = (&mut self.sender, self.target.address);
        self.runtime.block_on(async {
            if (sender.is_closed() || sender.ready().await.is_err())
                && let Ok(anew) = connect(address).await
            {
                *sender = anew;
            }
            let Ok(mut response) = sender.send_request(request).await else { return false };
            while let Some(frame) = response.frame().await {
                let Ok(frame) = frame else { return false };
                if let Some(data) = frame.data_ref() {
                    heard(data);
                }
            }
            response.status() == 200
        })
    }
}

async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
