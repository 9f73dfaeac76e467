//! Where in a file's text a value stands.

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

use super::path::Path;

/// The line, from 1, of the value at `path`, or of the nearest value above it that is there.
pub(super) fn line_of(text: &str, path: &Path) -> Option<u32> {
    let mut places = Places::default();
    // What was read before a fault of the text still tells.
    let _ = Parser::new_from_str(text).load(&mut places, false);
    let mut wanted = path.clone();
    loop {
        if let Some((_, line)) = places.found.iter().find(|(path, _)| *path == wanted) {
            return Some(*line);
        }
        wanted = wanted.split_last()?.0;
    }
}

#[derive(Default)]
struct Places {
    found: Vec<(Path, u32)>,
    open: Vec<Container>,
}

/// A list or a map whose end has not come.
enum Container {
    List { at: Path, next: usize },
    Map { at: Path, key: Option<String> },
}

impl Places {
    /// The path of a value that begins here; `None` for a key.
    fn value(&mut self) -> Option<Path> {
        match self.open.last_mut() {
            None => Some(Path::default()),
            Some(Container::List { at, next }) => {
                *next += 1;
                Some(at.index(*next - 1))
            }
            Some(Container::Map { at, key }) => key.take().map(|key| at.key(&key)),
        }
    }

    fn scalar(&mut self, text: String, line: u32) {
        if let Some(path) = self.value() {
            return self.note(path, line);
        }
        if let Some(Container::Map { at, key }) = self.open.last_mut() {
            let path = at.key(&text);
            *key = Some(text);
            self.note(path, line);
        }
    }

    /// The first place counts: a map's value stands where its key does.
    fn note(&mut self, path: Path, line: u32) {
        let known = self.found.last().is_some_and(|(last, _)| *last == path);
        if !known && path != Path::default() {
            self.found.push((path, line));
        }
    }

    fn opens(&mut self, line: u32) -> Path {
        // A map that is a key has no path.
        let path = self.value().unwrap_or_default();
        self.note(path.clone(), line);
        path
    }
}

impl MarkedEventReceiver for Places {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = u32::try_from(mark.line()).unwrap_or(u32::MAX);
        match event {
            Event::Scalar(text, ..) => self.scalar(text, line),
            Event::Alias(_) => drop(self.value()),
            Event::SequenceStart(..) => {
                let at = self.opens(line);
                self.open.push(Container::List { at, next: 0 });
            }
            Event::MappingStart(..) => {
                let at = self.opens(line);
                self.open.push(Container::Map { at, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment
limits:
  body: 1MiB
routes:
  - name: a
    match: { path: '/v1/*' }
  - { name: b,
      upstream: c }
policies:
  agents:
    steps:
      - fit_context:
          high: 0.9

      - trim_turns
";

    #[test]
    fn values_stand_where_their_keys_do() {
        for (path, line) in [
            ("limits", 2),
            ("limits.body", 3),
            ("routes", 4),
            ("routes[0].match.path", 6),
            ("routes[1]", 7),
            ("routes[1].upstream", 8),
            ("policies.agents.steps[0].fit_context.high", 13),
            ("policies.agents.steps[1]", 15),
        ] {
            assert_eq!(line_of(TEXT, &Path::parse(path).expect(path)), Some(line), "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_shown_where_it_belongs() {
        let line = |path| line_of(TEXT, &Path::parse(path).expect("a path"));
        assert_eq!(line("routes[1].policy"), Some(7));
        assert_eq!(line("policies.agents.steps[0].fit_context.low"), Some(12));
        assert_eq!(line("upstreams"), None);
    }

    #[test]
    fn a_fault_of_the_text_leaves_what_stands_before_it() {
        assert_eq!(line_of("a: 1\nb: [1\nc: 2", &Path::of(&["a"])), Some(1));
    }
}
