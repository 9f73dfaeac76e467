//! The program as users run it: a process that greets, serves and is told to stop.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};

/// The base URL for clients that a process greets with on its piped standard output. Its reader leaves then.
///
/// # Panics
/// The process ends without a greeting, or its output is no pipe.
pub fn greeting(process: &mut Child) -> String {
    let [clients] = addresses(process, ["clients"]);
    clients
}

/// The addresses that a process greets with behind these words, in the order of its lines; as [`greeting`].
///
/// # Panics
/// The process ends without a greeting, or its output is no pipe.
pub fn addresses<const N: usize>(process: &mut Child, names: [&str; N]) -> [String; N] {
    let stdout = process.stdout.take().expect("a pipe was asked for");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    names.map(|name| {
        let line = lines.find(|line| line.contains(name)).expect("a greeting");
        line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned()
    })
}

/// Sends SIGTERM in the middle of a stream, and reads it to its regular end.
///
/// # Panics
/// The stream breaks off.
pub fn stop_within(mut stream: impl Read, process: &Child) {
    stream.read_exact(&mut [0; 5]).expect("the stream begins");
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the stream is drained");
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
}
