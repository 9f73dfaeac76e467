//! One call as an object: `{"name": "..", "arguments": {..}}`.

use super::Piece;
use super::forms::Known;
use super::json::{Invalid, JsonScan, State};
use super::unescape::Unescape;

/// Follows the object of one call and tells what is known of it.
#[derive(Debug)]
pub(super) struct Call {
    index: usize,
    /// Names of the member that holds the arguments.
    members: &'static [&'static str],
    /// The functions that may be called.
    known: Known,
    scan: JsonScan,
    /// Everything read, until the call has started.
    raw: String,
    started: bool,
    /// The last key of the outer object, as written.
    key: String,
    member: Member,
    name: Option<String>,
    has_arguments: bool,
    has_others: bool,
    /// Arguments that came before the name.
    early: String,
}

/// The member of the outer object whose value is being read.
#[derive(Debug)]
enum Member {
    None,
    /// The name, as written.
    Name(String),
    /// Arguments as an object: its text is passed on.
    Object,
    /// Arguments as a string that holds JSON: what it holds is passed on.
    Text(Unescape),
    /// No arguments.
    Null,
    Other,
}

impl Call {
    pub(super) fn new(index: usize, members: &'static [&'static str], known: Known) -> Self {
        Self {
            index,
            members,
            known,
            scan: JsonScan::new(),
            raw: String::new(),
            started: false,
            key: String::new(),
            member: Member::None,
            name: None,
            has_arguments: false,
            has_others: false,
            early: String::new(),
        }
    }

    /// Whether the call has been announced.
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// What was read of a call that has not started.
    pub(super) fn into_raw(self) -> String {
        self.raw
    }

    /// Takes one more character and adds what it tells to `out`; true when the call is complete. On a fault the
    /// character is not taken.
    pub(super) fn push(&mut self, c: char, out: &mut Vec<Piece>) -> Result<bool, Invalid> {
        let part = self.part_of(c)?;
        let state = self.scan.state();
        self.scan.push(c)?;
        match part {
            Part::Layout => {}
            Part::Key => self.in_key(state, c),
            Part::Begin => self.begin_member(c, out)?,
            Part::Inside => self.in_member(c, out),
        }
        if self.scan.depth() == 1 && self.scan.state() == State::Comma {
            self.end_member(out)?;
        }
        let complete = self.scan.state() == State::End;
        if complete {
            self.complete(out)?;
        }
        if !self.started {
            self.raw.push(c);
        }
        Ok(complete)
    }

    /// What `c` belongs to in the outer object.
    fn part_of(&self, c: char) -> Result<Part, Invalid> {
        let layout = matches!(c, ' ' | '\t' | '\n' | '\r');
        match (self.scan.depth(), self.scan.state()) {
            (0, _) if layout || c == '{' => Ok(Part::Layout),
            (0, _) => Err(Invalid),
            (1, State::Value) if layout => Ok(Part::Layout),
            (1, State::Value) => Ok(Part::Begin),
            (1, State::Colon | State::Comma) => Ok(Part::Layout),
            (1, State::Key | State::FirstKey) if c != '"' => Ok(Part::Layout),
            (1, State::Key | State::FirstKey) => Ok(Part::Key),
            (1, State::String { key } | State::Escape { key } | State::Unicode { key, .. }) if key => {
                Ok(Part::Key)
            }
            _ => Ok(Part::Inside),
        }
    }

    fn in_key(&mut self, state: State, c: char) {
        if matches!(state, State::Key | State::FirstKey) {
            self.key.clear();
        }
        self.key.push(c);
    }

    /// The first character of a member's value.
    fn begin_member(&mut self, c: char, out: &mut Vec<Piece>) -> Result<(), Invalid> {
        let key: String = serde_json::from_str(&self.key).map_err(|_| Invalid)?;
        let arguments = self.members.contains(&key.as_str());
        match (key.as_str(), c) {
            ("name", '"') if self.name.is_none() => self.member = Member::Name(c.to_string()),
            (_, _) if arguments && self.has_arguments => return Err(Invalid),
            (_, '{') if arguments => {
                self.member = Member::Object;
                self.arguments_begin(out);
                self.fragment("{", out);
            }
            (_, '"') if arguments => {
                self.member = Member::Text(Unescape::default());
                self.arguments_begin(out);
            }
            (_, 'n') if arguments => self.member = Member::Null,
            ("name", _) => return Err(Invalid),
            _ if arguments => return Err(Invalid),
            _ => {
                self.has_others = true;
                self.member = Member::Other;
            }
        }
        Ok(())
    }

    fn in_member(&mut self, c: char, out: &mut Vec<Piece>) {
        match &mut self.member {
            Member::Name(written) => written.push(c),
            Member::Object => self.fragment(c.encode_utf8(&mut [0; 4]), out),
            Member::Text(unescape) => {
                let text = unescape.push(c);
                self.fragment(&text, out);
            }
            Member::None | Member::Null | Member::Other => {}
        }
    }

    fn end_member(&mut self, out: &mut Vec<Piece>) -> Result<(), Invalid> {
        match std::mem::replace(&mut self.member, Member::None) {
            Member::Name(written) => {
                let name: String = serde_json::from_str(&written).map_err(|_| Invalid)?;
                if name.is_empty() || !self.known.has(&name) {
                    return Err(Invalid);
                }
                self.name = Some(name);
                if self.has_arguments {
                    self.start(out);
                }
            }
            Member::Null => {
                self.arguments_begin(out);
                self.fragment("{}", out);
            }
            Member::None | Member::Object | Member::Text(_) | Member::Other => {}
        }
        Ok(())
    }

    fn arguments_begin(&mut self, out: &mut Vec<Piece>) {
        self.has_arguments = true;
        self.start(out);
    }

    /// Announces the call, once its name is known.
    fn start(&mut self, out: &mut Vec<Piece>) {
        let Some(name) = self.name.clone() else { return };
        self.started = true;
        self.raw.clear();
        out.push(Piece::CallStart { index: self.index, name });
        let early = std::mem::take(&mut self.early);
        self.fragment(&early, out);
    }

    fn fragment(&mut self, text: &str, out: &mut Vec<Piece>) {
        if !self.started {
            self.early.push_str(text);
        } else if !text.is_empty() {
            out.push(Piece::CallArguments { index: self.index, json_fragment: text.to_owned() });
        }
    }

    /// The outer object is closed. A call of nothing but a name has no arguments: `{}`.
    fn complete(&mut self, out: &mut Vec<Piece>) -> Result<(), Invalid> {
        if self.name.is_none() || (!self.has_arguments && self.has_others) {
            return Err(Invalid);
        }
        if !self.has_arguments {
            self.arguments_begin(out);
            self.fragment("{}", out);
        }
        out.push(Piece::CallEnd { index: self.index });
        Ok(())
    }
}

/// What a character belongs to in the outer object.
enum Part {
    /// White space, braces, colons and commas.
    Layout,
    /// A key.
    Key,
    /// The first character of a value.
    Begin,
    /// The rest of a value.
    Inside,
}
