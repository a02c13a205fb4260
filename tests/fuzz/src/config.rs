//! Any text is read as a configuration directory, or refused with places that an editor can show. What was read is
//! written and read again as it was.

use drover_model::config::decode::{SOURCE_LINE_BYTES_MAX, SourceFile, load, load_runbooks};
use drover_model::config::diagnostic::Diagnostic;
use drover_model::config::encode::to_yaml;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let file = [SourceFile::new("fuzz.yaml", text.clone())];
    match load(&file) {
        Err(errors) => check_refusal(&text, &errors),
        Ok(loaded) => {
            check_places(&text, &loaded.warnings);
            let written = to_yaml(&loaded.config);
            let again = load(&[SourceFile::new("again.yaml", written.clone())]);
            let again = again.unwrap_or_else(|e| panic!("can't read what was written: {e:?}\n{written}"));
            assert_eq!(again.config, loaded.config, "read otherwise than it was written:\n{written}");
        }
    }
    match load_runbooks(&file) {
        Err(errors) => check_refusal(&text, &errors),
        Ok(books) => assert!(books.iter().all(|b| !b.version.is_empty())),
    }
}

fn check_refusal(text: &str, errors: &[Diagnostic]) {
    assert!(!errors.is_empty(), "refused without a reason");
    check_places(text, errors);
}

fn check_places(text: &str, all: &[Diagnostic]) {
    for d in all {
        assert!(d.line >= 1 && d.column >= 1 && d.length >= 1, "{d:?}");
        assert!(!d.message.is_empty(), "{d:?}");
        assert!(text.is_char_boundary(d.offset), "the place is not in the text: {d:?}");
        let end = d.offset + d.length;
        assert!(
            d.offset == text.len() || text.is_char_boundary(end),
            "the place ends outside of the text: {d:?}"
        );
        assert!(d.source_line.len() <= SOURCE_LINE_BYTES_MAX, "{d:?}");
        assert!(text.contains(d.source_line.trim_end_matches('…')), "the line is not in the text: {d:?}");
    }
}
