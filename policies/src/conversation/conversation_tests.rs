use super::*;
use crate::support::parse;

const BODY: &str = r#"{ "model":"m\/1", "messages" : [
  {"role":"system","content":"s", "x":1.50},
  {"content":"hi \u00e9","role":"user"} ,
  {"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"q\":1}"}}]},
  {"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"one"},{"type":"image","i":1E3},{"type":"text","text":"two"}]}
 ], "tools": [ ], "max_tokens" : 7, "max_tokens":8 }
"#;

#[test]
fn messages_are_added_around() {
    let body = r#"{ "model":"m", "messages" : [ {"role":"user","content":"hi"} ], "x":1.0 }"#;
    let (first, last) = (r#"{"role":"system","content":"s"}"#, r#"{"role":"user","content":"more"}"#);
    let plain = Conversation::parse_chat(body.into()).unwrap();
    let after = plain.extended(&[first], &[last], Some("[]")).unwrap();
    let want = r#"{"tools":[], "model":"m", "messages" : [{"role":"system","content":"s"}, {"role":"user","content":"hi"},{"role":"user","content":"more"} ], "x":1.0 }"#;
    assert_eq!(&*after.to_json(), want);
    assert!(!after.is_changed() && after.messages().len() == 3);
    let empty = Conversation::parse_chat(r#"{"messages":[],"tools":[1]}"#.into()).unwrap();
    let after = empty.extended(&[first], &[last], Some("[2]")).unwrap();
    assert_eq!(&*after.to_json(), &format!(r#"{{"messages":[{first},{last}],"tools":[1]}}"#));
    assert_eq!(&*empty.extended(&[], &[], None).unwrap().to_json(), &*empty.to_json());
    assert!(empty.extended(&["{"], &[], None).is_err());
    let tool = after.with_tool("2").unwrap();
    assert_eq!(tool.tools(), Some("[1,2]"));
    // Edits of a policy are part of the new text.
    assert!(tool.extended(&[], &[], None).unwrap().to_json().ends_with(r#""tools":[1,2]}"#));
    assert!(
        Conversation::parse_chat(r#"{"messages":[],"tools":[ ]}"#.into()).unwrap().with_tool("2").is_none()
    );
}

#[test]
fn a_saved_conversation_goes_on_without_its_system_messages_twice() {
    let (system, developer) = (r#"{"role":"system","content":"s"}"#, r#"{"role":"developer","content":"d"}"#);
    let (asked, other) = (r#"{"role":"user","content":"hi"}"#, r#"{"role":"system","content":"o"}"#);
    let resumed = |own: &[&str], saved: &[&str]| {
        let body = format!(r#"{{"messages":[{}],"x":1.50}}"#, own.join(","));
        let whole = Conversation::parse_chat(body.into()).unwrap().resuming(saved, None).unwrap();
        assert!(whole.to_json().ends_with(r#"],"x":1.50}"#));
        whole.messages().iter().map(|message| message.json().to_owned()).collect::<Vec<_>>()
    };
    let saved = [system, developer, asked, other];
    // However they are written, and one without the other.
    let spelled = r#"{ "content":"\u0073", "role":"system" }"#;
    assert_eq!(resumed(&[spelled, developer, asked], &saved), [&saved[..], &[asked]].concat());
    assert_eq!(resumed(&[other, developer, asked], &saved), [&saved[..], &[other, asked]].concat());
    assert_eq!(resumed(&[system], &saved), saved);
    // Only what stands first counts, here and there.
    assert_eq!(resumed(&[asked, system], &saved), [&saved[..], &[asked, system]].concat());
    assert_eq!(resumed(&[system, asked], &[asked, system]), [asked, system, system, asked]);
    assert_eq!(resumed(&[system, asked], &[]), [system, asked]);
}

#[test]
fn views() {
    let conversation = parse(BODY);
    let messages = conversation.messages();
    let roles: Vec<Role> = messages.iter().map(Message::role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(messages[1].text(), "hi é");
    assert_eq!(messages[3].text(), "one\ntwo");
    assert_eq!(messages[3].tool_call_id(), Some("a"));
    let call = ToolCall { id: Some("a".into()), name: "f".into(), arguments: r#"{"q":1}"#.into() };
    assert_eq!(messages[2].tool_calls(), [call]);
    assert_eq!(conversation.field("model"), Some(r#""m\/1""#));
    assert_eq!(conversation.tools(), Some("[ ]"));
    assert_eq!(conversation.output_limit(), Some(8));
    assert!(!conversation.is_changed());
    assert_eq!(&*conversation.to_json(), BODY);
}

#[test]
fn dropping_keeps_every_other_byte() {
    let edited = parse(BODY).without("test", |index| (index == 1).then_some(3));
    let gone = ",\n  {\"content\":\"hi \\u00e9\",\"role\":\"user\"}";
    assert_eq!(&*edited.to_json(), BODY.replace(gone, ""));
    assert_eq!(edited.dropped().len(), 1);
    assert_eq!((edited.dropped()[0].message.text(), edited.dropped()[0].by), ("hi é", "test"));
    let first = parse(BODY).without("test", |index| (index == 0).then_some(0));
    assert_eq!(
        &*first.to_json(),
        BODY.replace("{\"role\":\"system\",\"content\":\"s\", \"x\":1.50},\n  ", "")
    );
    let last = parse(BODY).without("test", |index| (index == 3).then_some(0));
    assert!(last.to_json().contains("]}\n ], \"tools\""), "{}", last.to_json());
}

#[test]
fn text_is_spliced_where_it_stands() {
    let conversation = parse(BODY);
    let message = &conversation.messages()[3];
    let slots = message.slots();
    let edited = conversation.with_messages(vec![(3, message.with_text(&slots[1], "2 \"é\""))]);
    assert_eq!(&*edited.to_json(), BODY.replace(r#""two""#, r#""2 \"é\"""#));
    assert!(!edited.messages()[3].is_original() && edited.messages()[2].is_original());
}

#[test]
fn members_of_the_body_are_spliced() {
    let edited = parse(BODY).with_output_limit(5).with_tools("[1]".into());
    assert_eq!(
        &*edited.to_json(),
        BODY.replace("[ ]", "[1]").replace(r#""max_tokens":8"#, r#""max_tokens":5"#)
    );
    let added = parse(r#"{"messages":[]}"#).with_output_limit(5).with_inserted(0, Message::user("x"));
    assert_eq!(&*added.to_json(), r#"{"messages":[{"role":"user","content":"x"}],"max_tokens":5}"#);
    let both = parse(r#"{"max_tokens":9,"messages":[],"max_completion_tokens":10}"#);
    assert_eq!(both.output_limit(), Some(10));
    let json = both.with_output_limit(4).to_json();
    assert_eq!(&*json, r#"{"max_tokens":4,"messages":[],"max_completion_tokens":4}"#);
}

#[test]
fn the_last_of_duplicates_counts() {
    let body = r#"{"messages":7,"messages":[{"role":"user","role":"tool","content":"a","content":"b"}],"x":1,"x":2}"#;
    let conversation = parse(body);
    assert_eq!((conversation.messages()[0].role(), conversation.messages()[0].text()), (Role::Tool, "b"));
    assert_eq!(conversation.field("x"), Some("2"));
    let escaped = parse(r#"{"mess\u0061ges":[{"r\u006fle":"\u0075ser","content":"x"}]}"#);
    assert_eq!(escaped.messages()[0].role(), Role::User);
}

#[test]
fn odd_shapes_are_opaque() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let odd = [
        "null",
        "17",
        "\"x\"",
        "[]",
        "{}",
        "-1E999",
        "{\"role\":7,\"content\":{}}",
        "{\"role\":\"user\"}",
        r#"{"role":"assistant","content":null,"tool_calls":null}"#,
        r#"{"role":"assistant","tool_calls":[7,{"id":5}]}"#,
        r#"{"role":"tool","tool_call_id":1.0,"content":[1,{"type":"text"},{"type":"text","text":5}]}"#,
        &deep,
    ];
    for json in odd {
        let conversation = parse(&format!(r#"{{"messages":[{json}]}}"#));
        let message = &conversation.messages()[0];
        assert_eq!((message.json(), message.text(), message.tool_call_id()), (json, "", None));
        let _ = (message.tool_calls(), message.name(), message.has_calls());
    }
    let lone = &parse(r#"{"messages":[{"role":"user","content":"a\ud800b"}]}"#).messages()[0].clone();
    assert!(lone.text().starts_with('a') && lone.text().ends_with('b'));
    assert!(!lone.decode(&lone.slots()[0]).unwrap().exact);
}

#[test]
fn what_is_no_request_says_why_and_where() {
    let faults = [
        ("", "EOF while parsing a value", 1, 0),
        ("{\"messages\":[{]}", "key must be a string", 1, 15),
        ("[]", "invalid type: sequence, expected a JSON object with `messages`", 1, 0),
        ("{\n\"model\":1}", "the body must have a member `messages`", 2, 10),
        ("{\"messages\":{\"a\":1}}", "`messages` must be an array", 1, 20),
        ("{\"messages\":[]} x", "trailing characters", 1, 17),
    ];
    for (body, what, line, column) in faults {
        let error = Conversation::parse_chat(body.into()).unwrap_err();
        assert_eq!((error.what.as_str(), error.line, error.column), (what, line, column), "{body}");
    }
}

#[test]
fn usage_is_asked_for_where_it_was_not() {
    let asked = |options: &str| {
        let body = format!(r#"{{"stream": true{options}, "messages": [] }}"#);
        Conversation::parse_chat(body.as_str().into())
            .unwrap()
            .asking_usage()
            .map(|asked| asked.to_json().to_string())
    };
    let expected = |options: &str| Some(format!(r#"{{"stream": true{options} }}"#));
    let appended = r#"{"stream": true, "messages": [] ,"stream_options":{"include_usage":true}}"#;
    assert_eq!(asked("").as_deref(), Some(appended));
    for (options, spliced) in [
        (r#", "stream_options": null"#, r#"{"include_usage":true}"#),
        (r#", "stream_options": {"include_usage": false}"#, r#"{"include_usage":true}"#),
        (r#", "stream_options": {"b": 1, "a": 2}"#, r#"{"b":1,"a":2,"include_usage":true}"#),
    ] {
        assert_eq!(asked(options), expected(&format!(r#", "stream_options": {spliced}, "messages": []"#)));
    }
    assert_eq!(asked(r#", "stream_options": {"include_usage": true}"#), None);
    assert_eq!(asked(r#", "stream_options": 7"#), None);
    assert!(Conversation::parse_chat(r#"{"messages": []}"#.into()).unwrap().asking_usage().is_none());
}
