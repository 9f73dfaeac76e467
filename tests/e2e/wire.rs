//! HTTP as it must not be written, and as it may be: cases of varnishtest, which scripts both the client and the
//! upstream byte for byte. Each file of `tests/wire` is a case and holds its promise in its first line.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use plimsoll_tests::Sidecar;
use plimsoll_tests::shared::root;

use crate::tooling::{run, tool};

/// An address that nobody else binds: of the loopback network, by this process's id.
pub(crate) fn own_address() -> String {
    static PORT: AtomicU16 = AtomicU16::new(8000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 | (high & 63), middle, low);
    format!("{address}:{}", PORT.fetch_add(1, Ordering::Relaxed))
}

/// `/v1/chat/*` is governed, all else is passed on unread; a case's `#config` lines stand behind.
fn sidecar(case: &str, upstream: &str) -> Sidecar {
    let options: String = case
        .lines()
        .filter_map(|line| line.strip_prefix("#config "))
        .map(|line| format!("{line}\n"))
        .collect();
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ url: 'http://{upstream}', context: 8000 }} }}
routes:
  - {{ name: governed, match: {{ path: /v1/chat/* }}, upstream: other, policy: chat }}
  - {{ name: default, upstream: other }}
{options}"
    ))
}

fn judge(name: &str) {
    let Some(varnishtest) = tool(".tools/bin/varnishtest") else { return };
    let file = root().join("tests/wire").join(format!("{name}.vtc"));
    let case = std::fs::read_to_string(&file).expect("the case can be read");
    let upstream = own_address();
    let sidecar = sidecar(&case, &upstream);
    let data = sidecar.data_url.strip_prefix("http://").expect("an address");
    let mut command = Command::new(varnishtest);
    command.args(["-t", "60", "-D", &format!("data={data}"), "-D", &format!("upstream={upstream}")]);
    let (passed, printed) = run(command.arg(file));
    assert!(passed, "{printed}");
}

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                judge(stringify!($name));
            }
        )+

        const CASES: &[&str] = &[$(stringify!($name)),+];
    };
}

cases! {
    answers,
    broken_chunks,
    chunks,
    codings,
    expect,
    heads,
    hop_by_hop,
    lengths,
    no_bodies,
    pipelines,
    targets,
}

#[test]
fn every_case_is_run() {
    let files = std::fs::read_dir(root().join("tests/wire")).expect("the cases are there");
    let mut found: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".vtc")?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, CASES);
}

/// varnishtest reads no trailers.
#[test]
fn trailers_pass_both_ways() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let sidecar = sidecar("", &address);
    let seen = std::thread::spawn(move || {
        let (mut connection, _) = upstream.accept().unwrap();
        let seen = read_until(&mut connection, "\r\n0\r\nx-sum: 9\r\n\r\n");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-cost\r\n\r\n2\r\nok\r\n0\r\nx-cost: 7\r\n\r\n";
        connection.write_all(answer.as_bytes()).unwrap();
        seen
    });
    let mut client = TcpStream::connect(sidecar.data_url.strip_prefix("http://").unwrap()).unwrap();
    let request = "POST /x HTTP/1.1\r\nhost: localhost\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\n\
                   transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 9\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    let answer = read_until(&mut client, "\r\n2\r\nok\r\n0\r\nx-cost: 7\r\n\r\n");
    assert!(answer.contains("\r\ntrailer: x-cost\r\n"), "{answer}");
    let seen = seen.join().unwrap();
    assert!(seen.contains("\r\ntrailer: x-sum\r\n") && seen.contains("\r\nte: trailers\r\n"), "{seen}");
}

/// What comes, up to this end of it.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
    while !read.ends_with(end.as_bytes()) {
        let more = stream.read(&mut buffer).unwrap();
        assert!(more > 0, "the end came before {end:?}: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..more]);
    }
    String::from_utf8(read).unwrap()
}
