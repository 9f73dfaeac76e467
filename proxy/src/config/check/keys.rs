//! API keys of callers, and the routes that ask for them.

use super::super::faults::{Fault, near};
use super::super::path::Path;
use super::super::raw::Raw;
use super::super::secret::Secret;
use super::super::valid::Key;
use super::Check;

impl Check<'_> {
    pub(super) fn keys(&mut self, raw: &Raw) -> Vec<Key> {
        let section = Path::of(&["keys"]);
        let asked = |name: &String| {
            raw.routes.iter().any(|route| route.keys.iter().any(|key| key == name || key == "*"))
        };
        let mut keys: Vec<Key> = Vec::new();
        for (name, secret) in &raw.keys {
            let at = section.key(name);
            self.name(&at, name);
            let Some(hash) = hash(secret) else {
                let hint = "`plimsoll key new` makes a key and prints both; `plimsoll key hash` reads one that there is";
                self.fault(at, "is not the hash of a key: `sha256:` and 64 hexadecimal digits", hint);
                continue;
            };
            if let Some(same) = keys.iter().find(|key| key.hash == hash) {
                self.fault(
                    at,
                    format!("is the key of `{}`, too", same.name),
                    "a caller has a key of its own",
                );
            } else if !asked(name) {
                let message = "is asked for by no route: it only names its caller";
                self.findings.warn(Fault::new(at, message).hint("`keys` of a route"));
            }
            keys.push(Key { name: name.clone(), hash });
        }
        keys
    }

    /// The names that a route asks for.
    pub(super) fn keys_of(&mut self, at: &Path, wanted: &[String]) -> Vec<String> {
        let mut known: Vec<String> = self.names("keys").into_iter().map(str::to_owned).collect();
        known.sort();
        for (index, name) in wanted.iter().enumerate().filter(|(_, name)| *name != "*") {
            if !known.contains(name) {
                let fault = Fault::new(at.index(index), format!("no key is named `{name}`"));
                let fault = fault.maybe_hint(near(name, known.iter().map(String::as_str)));
                self.findings.fault(fault);
            }
        }
        if !wanted.iter().any(|name| name == "*") {
            return wanted.to_vec();
        }
        if known.is_empty() {
            self.fault(at.clone(), "there are no keys: nobody could come in", "add some to `keys`");
        }
        known
    }
}

fn hash(secret: &Secret) -> Option<[u8; 32]> {
    let digits = secret.expose().strip_prefix("sha256:").filter(|digits| digits.len() == 64)?.as_bytes();
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}
