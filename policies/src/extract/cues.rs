//! What a piece of a conversation is worth keeping for, judged by its words.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::identifiers::identifiers;

/// Who said a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaker {
    User,
    Assistant,
    /// A tool call of the assistant.
    Call,
    Tool,
    /// A line of a former summary that names no speaker, for example one that a model wrote.
    Note,
}

/// What a piece is, the most valuable first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    /// Something the users told about themselves or their world.
    Fact,
    /// A choice, a rule or an error.
    Decision,
    /// What the user asked for.
    Request,
    /// It names an identifier.
    Detail,
    /// Anything else that the user said.
    Remark,
}

/// Statements that users want remembered.
static FACTS: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        // "my order number is 4711", "our release server has moved to db-41", "my port: 8080"
        r"\b(?:my|our)\s(?:\S+\s){1,9}(?:is|are|was|were|has|have|got|will be)(?:\s|:)\s*[^\s?]",
        r"\b(?:my|our)\s(?:\S+\s){0,6}\S+\s?[:=]\s*\S",
        // "db-41 is our server", "as my order number I have 4711", "change my budget to 500"
        r"\b(?:is|are)\s(?:my|our)\s\S",
        r"\b(?:as|change|need|use|update|with)\s(?:my|our)\s\S",
        r"\bi\s(?:was born|live|lived|come|grew|work|earn|speak|play|prefer|like|love|hate|use|own|must|booked|saved|manage|study)\s\S",
        r"\bi(?:'m|’m|\sam)\s(?:an?\s|called|from|allergic|learning|living|flying|travell?ing|going to|writing from|(?-i:\p{Lu}))",
        r"\bi\s(?:will travel|talked to my|walked home with my|have an? (?:\S+\s){1,3}(?:called|named|to|at))\s\S",
        r"\bi have moved\b",
        r"\bmy\s\p{L}+\s(?-i:\p{Lu})\p{L}",
        r"\b(?:allergic|allergy|call me|(?:called|named|known as)\s\S)",
        r"^(?:hi,? |hello,? )?this is (?-i:\p{Lu})",
        r"\bwe\s(?:are|use|have|keep|live|call|prefer|store|host|deploy|run)\s\S",
        r"\b(?:remember|note|keep in mind|for later|for the record|fyi|just so you know|important)\b",
        r"\b(?:stored|saved|located|kept|hosted|lives)\s(?:in|at|as|on|under)\s\S",
        // "The database name is orders.", "amber-7 is the wifi network."
        r"^(?:\S+\s){0,3}the\s(?:\S+\s){1,3}is\s[^\s?]+$",
        r"^\S+(?:\s\S+){0,2}\sis\sthe\s(?:\S+\s){0,5}[^\s?]+$",
    ])
});

/// "Order number: 4711", "port = 8080".
static LABELLED: LazyLock<Regex> = LazyLock::new(|| {
    one(r"^(?:\p{L}[\p{L}'’-]*\s){0,4}\p{L}[\p{L}'’-]*\s?[:=]\s*[^\s=]+(?:\s[^\s=]+){0,5}$")
});

/// "The version of project Pine is 1.26.4."; the group is the value.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    one(r"\b(?:the|its|his|her|their)\s(?:[\p{L}'’-]+\s){1,7}(?:is|are)\s(\S+(?:\s\S+){0,3}?)(?:[.!]\s|$)")
});

/// Words that announce that something said before no longer holds.
static CORRECTIONS: LazyLock<Regex> = LazyLock::new(|| {
    one(
        r"(?:\bactually\b|\bcorrection\b|\bupdate:|\bi was wrong\b|\bno longer\b|\bchange of plans\b|\b(?:has|have|had) (?:changed|moved)\b|\b(?:is|are|lives?) now\b|\b(?:my|our|i|we)\b.*\bnow[.!]?$|^(?:sorry|now|no),?\s(?:my|our|the|i|we)\b|\b(?:my|our|the|a) new\b|\bchange (?:my|our|the)\b|\binstead\b)",
    )
});

static DECISIONS: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        r"\b(?:decided|decision|agreed|approved|confirmed|we will|we'll|let's|let us|going with|go ahead|root cause)\b",
        r"\b(?:must|must not|mustn't|never|always|do not|don't|only)\s(?:use|be|do|change|touch|delete|deploy|share|write|call|push|run|edit|add|remove)\b",
        r"\bi(?:'ve| have)\s(?:created|updated|changed|fixed|added|removed|booked|cancelled|canceled|sent|deployed|restarted|refunded|scheduled|moved|renamed|merged|written|implemented|applied)\b",
        r"\bthe (?:fix|cause|problem|bug|culprit|reason) (?:is|was)\b",
    ])
});

static ERRORS: LazyLock<Regex> = LazyLock::new(|| {
    one(
        r"\b(?:errors?|err|fail(?:s|ed|ure|ures)?|exception|traceback|panic(?:ked)?|fatal|denied|refused|timed? ?out|not found|cannot|unable to|invalid|exit code [1-9])\b",
    )
});

static REQUESTS: LazyLock<Regex> = LazyLock::new(|| {
    one(
        r"[?？؟]\W*$|^(?:please|can|could|would|will|should|what|which|who|where|when|why|how|is|are|do|does|did|tell|show|give|find|list|write|make|create|add|fix|check|look|explain|help|book|cancel|change|send|open|read|run|search|restart|update|remove|delete|summari[sz]e|translate|compare|count|repeat)\b|\b(?:i(?:'d| would) like|i (?:want|need)|i(?:'m| am) looking for)\b",
    )
});

/// What `text` is worth keeping for; `None` where nothing speaks for it.
pub(super) fn kind(speaker: Speaker, text: &str) -> Option<Kind> {
    match speaker {
        Speaker::Note => Some(Kind::Fact),
        Speaker::User => of_user(text),
        Speaker::Assistant if DECISIONS.is_match(text) => Some(Kind::Decision),
        Speaker::Assistant | Speaker::Tool if ERRORS.is_match(text) => Some(Kind::Decision),
        Speaker::Call => Some(Kind::Detail),
        _ => identifiers(text).into_iter().any(tells_apart).then_some(Kind::Detail),
    }
}

fn of_user(text: &str) -> Option<Kind> {
    let request = REQUESTS.is_match(text);
    if FACTS.is_match(text) || is_correction(text) || (!request && is_statement(text)) {
        Some(Kind::Fact)
    } else if request {
        Some(Kind::Request)
    } else if DECISIONS.is_match(text) || ERRORS.is_match(text) {
        Some(Kind::Decision)
    } else if !identifiers(text).is_empty() {
        Some(Kind::Detail)
    } else {
        (!is_english(text)).then_some(Kind::Remark)
    }
}

/// "Port: 8080", or a statement whose value is an identifier or a name.
fn is_statement(text: &str) -> bool {
    let value = NAMED.captures(text).and_then(|found| found.get(1)).map_or("", |value| value.as_str());
    LABELLED.is_match(text) || value.contains(char::is_uppercase) || !identifiers(value).is_empty()
}

/// "12.0" of a tool says nothing by itself; "ORD-1", "/srv" and "48213" do.
pub(super) fn tells_apart(identifier: &str) -> bool {
    identifier.contains(char::is_alphabetic) || identifier.bytes().filter(u8::is_ascii_digit).count() > 3
}

/// Whether the cues of this file had their chance: it holds one of the commonest English words, or hardly any word.
fn is_english(text: &str) -> bool {
    let common = ["the", "and", "of", "was", "than", "we", "you", "my", "it", "they", "that", "this", "with"];
    let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let short = words.clone().count() < 4;
    text.is_ascii()
        && (short || words.any(|word| common.iter().any(|known| word.eq_ignore_ascii_case(known))))
}

/// Whether the piece replaces what was said before about the same subject.
pub(super) fn is_correction(text: &str) -> bool {
    !text.ends_with('?') && CORRECTIONS.is_match(text)
}

static LEAD_INS: LazyLock<Regex> = LazyLock::new(|| {
    one(
        r"^(?:(?:correction|update|note|sorry|actually|by the way|for later|for the record|change of plans|hi|hello|so)[:,]?\s+)+",
    )
});

/// Ways to name what a sentence tells about; the first group is the subject.
static SUBJECTS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"\b(?:keep|kept|saved?|find|found|put|store|stored)\s(?:my|our|the)\s(.{2,60}?)\s(?:in|at|as|on|under)\s",
        r"\b(?:change|update|need|as)\s(?:my|our|the)\s(.{2,60}?)(?:\sto\s|\si\s|[.!]|$)",
        r"\bhave\san?\s(\S{2,30})\s(?:called|named)\b",
        r"\b(?:talked to|with|call)\s(?:my|our)\s([\p{L}'’-]{2,30})",
        r"\b(?:is|are)\s(?:my|our)\s([^,.!?]{2,60})",
        r"\b(?:my|our|your|the user's|the)\s([^,.!?:=]{2,60}?)\s?(?:\b(?:is|are|was|were|has|have|got|will be|lives)\b|[:=])",
        r"\b(?:is|are)\s(?-i:the)\s([^,.!?]{2,60})",
        r"^([\p{L}'’ -]{2,40}?)\s?[:=]",
    ]
    .iter()
    .map(|pattern| one(pattern))
    .collect()
});

/// Subjects that are told with a verb of their own: (pattern, subject).
static VERBS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\b(?:i(?:'m| am)? |we |user )(?:live|lives|living)\b|\b(?:i|we) have moved to\b", "home"),
        (r"\b(?:i|user) (?:work|works) (?:as|now as)\b|\bi(?:'m| am) an? ", "job"),
        (r"\b(?:i|user) (?:work|works) (?:at|for)\b", "company"),
        (r"\bi(?:'m|’m| am) (?:called\b|(?-i:\p{Lu}))|\bcall me\b|\bthis is (?-i:\p{Lu})", "name"),
        (r"\b(?:i|we|user)\b.{0,20}\b(?:travel|travelling|traveling|flying|fly|going) to\b|\btrip (?:goes )?to\b", "destination"),
        (r"\ballergic to\b", "allergy"),
        (r"\b(?:i|user) speaks?\b", "language"),
        (r"\b(?:i|user)\b.{0,4} (?:plays?|learning) the\b", "instrument"),
        (r"\b(?:i|user) comes? from\b|\bi was born in\b|\bi(?:'m| am) from\b", "home town"),
    ]
    .into_iter()
    .map(|(pattern, subject)| (one(pattern), subject))
    .collect()
});

/// What a statement tells about, so that a correction finds what it corrects: "deadline", "deploy key", "home".
pub(super) fn subject(text: &str) -> Option<String> {
    let text = LEAD_INS.find(text).map_or(text, |lead_in| &text[lead_in.end()..]);
    let named = SUBJECTS.iter().find_map(|pattern| Some(pattern.captures(text)?.get(1)?.as_str()));
    let verb =
        || VERBS.iter().find(|(pattern, _)| pattern.is_match(text)).map(|(_, subject)| (*subject).to_owned());
    named.map(label).filter(|label| !label.is_empty()).or_else(verb)
}

/// The subject without marks of possession and words that do not tell it apart.
fn label(named: &str) -> String {
    let lower = named.to_lowercase().replace('’', "'");
    let words =
        lower.split_whitespace().filter(|word| !["new", "own", "now", "please", "actually"].contains(word));
    let label = words.collect::<Vec<_>>().join(" ");
    let label = label.trim_start_matches("name of my ").trim_end_matches("'s name");
    let label = label.trim_matches(|c: char| !c.is_alphanumeric());
    if label == "home city" { "home".to_owned() } else { label.to_owned() }
}

fn set(patterns: &[&str]) -> RegexSet {
    RegexSet::new(patterns.iter().map(|pattern| any_case(pattern)))
        .expect("the patterns are constants of this file. This is a bug.")
}

fn one(pattern: &str) -> Regex {
    Regex::new(&any_case(pattern)).expect("the pattern is a constant of this file. This is a bug.")
}

/// ASCII word borders: the fast engine of `regex` knows no others, and all cue words are English.
fn any_case(pattern: &str) -> String {
    format!("(?i){}", pattern.replace(r"\b", r"(?-u:\b)"))
}
