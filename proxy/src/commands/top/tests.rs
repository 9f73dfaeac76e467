use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

/// A state as a sidecar has answered it, with a leak planted.
fn recorded() -> Value {
    serde_json::from_str(include_str!("state.json")).unwrap()
}

fn drawn(state: &Value, lost: Option<&str>) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(120, 32)).unwrap();
    let lines = view::screen("http://127.0.0.1:7490", state, lost);
    terminal.draw(|frame| frame.render_widget(Paragraph::new(lines), frame.area())).unwrap();
    terminal
}

#[test]
fn a_state_is_drawn() {
    insta::assert_snapshot!(drawn(&recorded(), None).backend());
}

#[test]
fn a_sidecar_that_has_gone_is_told_over_its_last_figures() {
    let terminal = drawn(&recorded(), Some("no sidecar answers"));
    let text = terminal.backend().to_string();
    assert!(text.contains("no sidecar answers (figures of the last reading)"), "{text}");
    assert!(text.contains("leak check: suspect: slack"), "{text}");
}

#[test]
fn whatever_is_missing_is_no_panic() {
    for state in
        [Value::Null, serde_json::json!({"upstreams": {"a": {"kind": "engine"}, "b": {"kind": "http"}}})]
    {
        let text = drawn(&state, None).backend().to_string();
        assert!(text.contains("plimsoll -"), "{text}");
    }
}

#[test]
fn q_escape_and_interrupt_end_it() {
    let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
    for (code, modifiers, expected) in [
        (KeyCode::Char('q'), KeyModifiers::NONE, true),
        (KeyCode::Esc, KeyModifiers::NONE, true),
        (KeyCode::Char('c'), KeyModifiers::CONTROL, true),
        (KeyCode::Char('c'), KeyModifiers::NONE, false),
        (KeyCode::Up, KeyModifiers::NONE, false),
    ] {
        assert_eq!(ends(&key(code, modifiers)), expected, "{code:?}");
    }
    assert!(!ends(&Event::FocusGained));
}
