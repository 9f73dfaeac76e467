//! Listeners on unix sockets: clients, operators and commands come in by a file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Sidecar, plimsoll};

use crate::tooling::{run, stdout, tool};

fn config(mock: &Mock, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "
listen: {{ data: 'unix:{folder}/data.sock', admin: 'unix:{folder}/admin.sock', socket_mode: '0600' }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', context: 8000 }} }}
routes: [{{ name: default, upstream: other, policy: chat }}]
",
        mock.url
    )
}

/// varnishtest is the client: it speaks HTTP/1.1 and HTTP/2 over a socket's file.
const CLIENT: &str = r#"vtest "by a file"
client c1 -connect "${data}" {
	txreq -url "/any" -hdr "connection: close"
	rxresp
	expect resp.status == 200
	expect resp.body == "[7]"
} -run
client c2 -connect "${data}" {
	txpri
	stream 0 {
		rxsettings
		rxwinup
		txsettings
		txsettings -ack
		rxsettings
		expect settings.ack == true
	} -run
	stream 1 {
		txreq -req GET -scheme http -url "/any" -hdr ":authority" "localhost"
		rxresp
		expect resp.status == 200
		expect resp.body == "[8]"
	} -run
} -run
client c3 -connect "${admin}" {
	txreq -url "/readyz" -hdr "host: whatever.example"
	rxresp
	expect resp.status == 200
} -run
"#;

#[test]
fn clients_and_operators_come_in_by_a_file() {
    let Some(varnishtest) = tool(".tools/bin/varnishtest") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(vec![Answer::json("[7]"), Answer::json("[8]")]);
    let sidecar = Sidecar::start(&config(&mock, folder.path()));
    let [data, admin] = ["data.sock", "admin.sock"].map(|name| folder.path().join(name));
    for socket in [&data, &admin] {
        assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let case = folder.path().join("client.vtc");
    std::fs::write(&case, CLIENT).unwrap();
    let mut command = Command::new(varnishtest);
    for (name, socket) in [("data", &data), ("admin", &admin)] {
        command.arg("-D").arg(format!("{name}={}", socket.display()));
    }
    let (passed, printed) = run(command.args(["-t", "60"]).arg(case));
    assert!(passed, "{printed}");
    // A command asks where the configuration says.
    let shown = stdout(plimsoll().args(["ps", "--json", "--admin"]).arg(format!("unix:{}", admin.display())));
    assert!(shown.contains("default"), "{shown}");
    drop(sidecar);
    assert!(!data.exists() && !admin.exists(), "their files go with them");
}

#[test]
fn a_socket_that_is_listened_on_is_not_taken_and_a_stale_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(Vec::new());
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config(&mock, folder.path())).unwrap();
    let serve = || {
        let mut command = plimsoll();
        command.args(["serve", "--config"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let first = Sidecar::start(&config(&mock, folder.path()));
    let (good, said) = run(&mut serve());
    assert!(
        !good && said.contains("another process listens there") && said.contains("listen.data"),
        "{said}"
    );
    drop(first);
    // A killed process leaves its files.
    let mut killed = serve().spawn().unwrap();
    greeted(&mut killed);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(folder.path().join("data.sock").exists());
    let _next = Sidecar::start(&config(&mock, folder.path()));
}

fn greeted(process: &mut std::process::Child) {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("clients") && line.contains("unix:")), "it greets");
}
