//! One row for each class of error: what was written, and the whole finding.

use super::{BASE, assert_errors, base_with, load_text};
use crate::config::decode::sink::{Place, Sink};
use crate::config::decode::{
    DEPTH_MAX, DOCUMENTS_MAX, FILE_BYTES_MAX, FILES_MAX, FINDINGS_MAX, SOURCE_LINE_BYTES_MAX, SourceFile,
    TOTAL_BYTES_MAX, load,
};

#[test]
fn the_base_is_valid_without_a_warning() {
    let loaded = load_text(BASE).unwrap();
    assert_eq!(loaded.warnings, Vec::new());
}

/// What is written instead of what, and the finding.
const FIELDS_KINDS_AND_UNITS: &[(&str, &str, &str)] = &[
    (
        "role: witness",
        "rolle: witness",
        "c.yaml:13:1: unknown field `rolle` of Region (did you mean `role`?)",
    ),
    (
        "role: witness",
        "color: red",
        "c.yaml:13:1: unknown field `color` of Region (known: `kind`, `name`, `role`, `location`, `agents`)",
    ),
    (
        "role: witness",
        "role: witnes",
        "c.yaml:13:7: `role` must be one of serving, witness, not `witnes` (did you mean `witness`?)",
    ),
    (
        "name: watch\n",
        "",
        "c.yaml:11:1: missing field `name` of Region (add `name`: its name: a-z, 0-9 and inner hyphens)",
    ),
    ("name: watch\n", "name:\n", "c.yaml:12:5: `name` has no value (give it one, or take the line out)"),
    (
        "name: watch\n",
        "name: 404\n",
        "c.yaml:12:7: `name` must be text, not the number 404 (write it in quotes: '404')",
    ),
    (
        "name: watch\n",
        "name: The Watch\n",
        "c.yaml:12:7: `name`: `The Watch` may hold only a-z, 0-9 and inner hyphens (`the-watch` would be accepted)",
    ),
    ("latitude: 53.35", "latitude: 153.35", "c.yaml:3:36: `latitude` must be between -90 and 90, not 153.35"),
    ("latitude: 53.35", "latitude: north", "c.yaml:3:36: `latitude` must be a number, not the text `north`"),
    (
        "source_address: 127.0.11.1",
        "source_address: localhost",
        "c.yaml:4:39: `source_address` must be an IP address, not the text `localhost` (such as 192.0.2.1 or 2001:db8::1)",
    ),
    (
        "agents: [{name: us-1}]",
        "agents: us-1",
        "c.yaml:9:9: `agents` must be a list, not the text `us-1` (write the items in [ ] or each after a hyphen)",
    ),
    (
        "agents: [{name: us-1}]",
        "agents: [us-1]",
        "c.yaml:9:10: expected a mapping for agent, not the text `us-1` (its fields: name, source_address)",
    ),
    ("kind: Settings", "kind: Setings", "c.yaml:27:7: unknown kind `Setings` (did you mean `Settings`?)"),
    (
        "kind: Settings",
        "kind: Runbook",
        "c.yaml:27:7: unknown kind `Runbook` (runbooks have a directory of their own)",
    ),
    (
        "kind: Settings\n",
        "",
        "c.yaml:27:1: the document does not say its `kind` (`kind` is one of Region, Service, Dataset, Settings)",
    ),
    (
        "automatic: true",
        "automatic: yes",
        "c.yaml:24:23: `automatic` must be true or false, not the text `yes` (write true)",
    ),
    (
        "automatic: true",
        "failure_threshold: '3'",
        "c.yaml:24:31: `failure_threshold` must be a whole number, not text (take the quotes off: 3)",
    ),
    (
        "automatic: true",
        "failure_threshold: 0",
        "c.yaml:24:31: `failure_threshold` must be between 1 and 1000, not 0",
    ),
    (
        "automatic: true",
        "failure_threshold: -1",
        "c.yaml:24:31: `failure_threshold` must be between 1 and 1000, not -1",
    ),
    (
        "automatic: true",
        "failure_window: 300",
        "c.yaml:24:28: `failure_window` must be a length of time, and 300 has no unit (write it with its unit: 300s)",
    ),
    (
        "automatic: true",
        "soak: 5 parsecs",
        "c.yaml:24:18: `soak` must be a length of time, not the text `5 parsecs` (write it with its unit: 100ms, 30s, 5m, 1h30m, 2d)",
    ),
    (
        "automatic: true",
        "headroom: 10",
        "c.yaml:24:22: `headroom` must be a percentage, and 10 has no unit (write it with its unit: 10%)",
    ),
    ("automatic: true", "headroom: 100%", "c.yaml:24:22: `headroom` must be between 0% and 99.99%, not 100%"),
    (
        "automatic: true",
        "gray_failure_share: 0%",
        "c.yaml:24:32: `gray_failure_share` must be between 0.01% and 100%, not 0%",
    ),
    (
        "automatic: true",
        "automatic: true, automatic: false",
        "c.yaml:24:29: `automatic` is given twice in this mapping, first at c.yaml:24 (keep one of them)",
    ),
    (
        "metrics: {}",
        "peak_load: 900\nmetrics: {}",
        "c.yaml:25:12: `peak_load` must be a rate, and 900 has no unit (write it with its unit: 900rps)",
    ),
    (
        "{path: /health}",
        "{path: health}",
        "c.yaml:23:22: `path`: `health` is not the target of a request (it begins with a slash: /health)",
    ),
    (
        "{path: /health}",
        "{kind: htttp}",
        "c.yaml:23:22: unknown kind `htttp` of `health_check` (did you mean `http`?)",
    ),
    (
        "{path: /health}",
        "{kind: tcp, path: /health}",
        "c.yaml:23:27: unknown field `path` of tcp check (known: `kind`, `interval`, `timeout`, `max_latency`)",
    ),
    (
        "{path: /health}",
        "{kind: https, client_key_file: key.pem}",
        "c.yaml:23:46: `client_key_file` is of no use without `client_certificate_file` (add `client_certificate_file`)",
    ),
    (
        "{path: /health}",
        "{timeout: 31s}",
        "c.yaml:23:25: `timeout` of 31s is longer than the interval of 30s: probes would overlap (at most 30s, or a longer interval)",
    ),
    ("{path: /health}", "{timeout: 99ms}", "c.yaml:23:25: `timeout` must be between 100ms and 1d, not 99ms"),
    (
        "{path: /health}",
        "{interval: 30}",
        "c.yaml:23:26: `interval` must be a length of time, and 30 has no unit (write it with its unit: 30s)",
    ),
    (
        "{path: /health}",
        "{max_latency: 6s}",
        "c.yaml:23:29: `max_latency` of 6s can't be seen: a probe is given up after 5s (at most 5s)",
    ),
    (
        "{path: /health}",
        "!private {path: /health}",
        "c.yaml:23:15: the tag `!private` has no meaning here (take it out)",
    ),
    (
        "kind: Settings",
        "kind: Settings\nlisten: 0.0.0.0:7400",
        "c.yaml:28:9: `listen` must be a loopback address, and 0.0.0.0:7400 is reachable from elsewhere (use 127.0.0.1:7400 and a tunnel or proxy of your own)",
    ),
    (
        "kind: Settings",
        "kind: Settings\nlisten: 127.0.0.1:0",
        "c.yaml:28:9: `listen` must name its port, and 127.0.0.1:0 leaves it to chance",
    ),
    (
        "control: 127.0.0.1:7410",
        "control: 10.0.0.1:7410",
        "c.yaml:31:38: `control` must be a loopback address, and 10.0.0.1:7410 is reachable from elsewhere (use 127.0.0.1:7410 and a tunnel or proxy of your own)",
    ),
    (
        "control: 127.0.0.1:7410",
        "control: localhost",
        "c.yaml:31:38: `control` must be an IP address with a port, not the text `localhost` (such as 127.0.0.1:7400 or [::1]:7400)",
    ),
    (
        "vantage: {",
        "vantage: {silent_after: 1s, ",
        "c.yaml:32:25: `silent_after` of 1s calls an agent silent that reports every 1s (at least 2s: two reports)",
    ),
];

#[test]
fn fields_kinds_and_units() {
    assert_errors(FIELDS_KINDS_AND_UNITS);
}

#[test]
fn a_file_that_is_not_yaml_gives_the_parsers_place() {
    let errors = load_text("kind: Region\nname: [eu\n").unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("c.yaml:3:1: this is not valid YAML: "), "{errors:?}");
    let errors = load_text("kind: \"Region\n").unwrap_err();
    assert!(errors[0].contains("not valid YAML"), "{errors:?}");
}

#[test]
fn comments_and_empty_documents_are_fine() {
    let files =
        [SourceFile::new("a.yaml", "# nothing\n"), SourceFile::new("b.yaml", format!("---\n---\n{BASE}"))];
    assert!(load(&files).is_ok());
    let nothing = load(&[SourceFile::new("a.yaml", "# nothing\n")]).unwrap_err();
    assert!(nothing[0].to_string().starts_with("a.yaml:1:1: no region is configured"));
    assert_eq!(load(&[]).unwrap_err()[0].file, "(no file)");
}

#[test]
fn anchors_and_aliases_are_read_and_bounded() {
    let shared = base_with(&[
        ("health_check: {path: /health}", "health_check: &probe {path: /healthz, interval: 10s}"),
        (
            "metrics: {}\n",
            "metrics: {}\n---\nkind: Service\nname: other\ndns: {name: other.drover.test}\nendpoints:\n  - {region: eu, address: 127.0.11.1, port: 1, capacity: 1rps}\n  - {region: us, address: 127.0.12.1, port: 1, capacity: 1rps}\nmetrics: {}\nhealth_check: *probe\n",
        ),
    ]);
    let config = load_text(&shared);
    // An anchor's life ends with its document.
    assert!(config.unwrap_err()[0].contains("names nothing that ended before it"));
    let inside = base_with(&[("failover: {automatic: true}", "failover: {soak: &t 7m, block_period: *t}")]);
    let config = load_text(&inside).unwrap().config;
    let policy = &config.services.values().next().unwrap().failover;
    assert_eq!(policy.soak, policy.block_period);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let previous = format!("*a{}, ", i - 1).repeat(9);
        bomb.push_str(&format!("a{i}: &a{i} [{previous}]\n"));
    }
    let errors = load_text(&bomb).unwrap_err();
    assert!(errors.iter().any(|e| e.contains("expand to more than")), "{errors:?}");
    let errors = load_text("kind: &a [*a]\n").unwrap_err();
    assert!(errors[0].contains("names nothing that ended before it"), "{errors:?}");
}

#[test]
fn every_limit_is_named_in_its_error() {
    let first = |files: &[SourceFile]| load(files).unwrap_err()[0].to_string();
    let deep = SourceFile::new("deep.yaml", "[".repeat(200));
    let found = first(&[deep]);
    assert!(found.contains(&format!("nested deeper than {DEPTH_MAX} levels")), "{found}");
    let big = SourceFile::new("big.yaml", "#".repeat(FILE_BYTES_MAX + 1));
    assert!(first(&[big]).contains(&FILE_BYTES_MAX.to_string()));
    let many = vec![SourceFile::new("x.yaml", ""); FILES_MAX + 1];
    assert!(load(&many).unwrap_err().iter().any(|d| d.message.contains(&FILES_MAX.to_string())));
    let total =
        vec![SourceFile::new("x.yaml", "#".repeat(FILE_BYTES_MAX)); TOTAL_BYTES_MAX / FILE_BYTES_MAX + 1];
    assert!(first(&total).contains(&TOTAL_BYTES_MAX.to_string()));
    let documents = SourceFile::new("d.yaml", "kind: X\n---\n".repeat(DOCUMENTS_MAX + 1));
    let errors = load(&[documents]).unwrap_err();
    assert_eq!(errors.len(), FINDINGS_MAX + 1);
    assert!(errors.iter().any(|d| d.message.contains(&FINDINGS_MAX.to_string())));
    let endpoints = format!("{}\n", "  - {}\n".repeat(101));
    let errors = load_text(&base_with(&[("endpoints:\n", &format!("endpoints:\n{endpoints}"))])).unwrap_err();
    assert!(errors[0].contains("`endpoints` has 103 items; it must have 1 to 100"), "{errors:?}");
    let wide = load(&[SourceFile::new("w.yaml", format!("kind: {}", "x".repeat(100_000)))]).unwrap_err();
    assert_eq!(wide[0].source_line.len(), SOURCE_LINE_BYTES_MAX);
}

#[test]
fn places_count_characters_for_columns_and_bytes_for_offsets() {
    let text = "# é\r\nkind: Region\r\nname: eu\r\nlocation: {city: Zürich, latitude: 1.0, longitude: 1.0, jurisdicton: EU}\r\n";
    for (bom, text) in [(0, text.to_owned()), (3, format!("\u{feff}{text}"))] {
        let errors = load(&[SourceFile::new("c.yaml", text.as_str())]).unwrap_err();
        let unknown = errors.iter().find(|d| d.message.contains("jurisdicton")).unwrap();
        assert_eq!((unknown.line, unknown.column), (4, 57), "{unknown}");
        assert_eq!(unknown.offset, text.find("jurisdicton").unwrap());
        assert_eq!(unknown.length, "jurisdicton".len(), "with a mark of {bom} bytes");
        assert!(unknown.source_line.starts_with("location:") && unknown.source_line.ends_with('}'));
    }
}

#[test]
fn a_place_marks_whole_characters_and_at_least_one() {
    for (text, start, end, offset, length) in [
        ("é", 0, 0, 0, 2),
        ("é", 0, 1, 0, 2),
        ("é", 1, 1, 0, 2),
        ("aé", 0, 2, 0, 1),
        ("日本", 0, 5, 0, 3),
        ("日\n", 3, usize::MAX, 3, 1),
        ("a", 1, 1, 1, 1),
        ("", 0, 0, 0, 1),
    ] {
        let files = [SourceFile::new("c.yaml", text)];
        let sink = Sink::new(&files);
        sink.error(Place { file: 0, start, end }, "wrong", None);
        let found = sink.finish().0;
        assert_eq!((found[0].offset, found[0].length), (offset, length), "{text:?} {start}..{end}");
    }
    let trailing = load(&[SourceFile::new("c.yaml", "a: 'x'é\n")]).unwrap_err();
    assert_eq!((trailing[0].column, trailing[0].offset, trailing[0].length), (7, 6, 2), "{trailing:?}");
}

#[test]
fn all_errors_of_a_directory_come_at_once_in_order() {
    let text = base_with(&[
        ("latitude: 53.35", "latitude: north"),
        ("role: witness", "role: witness\ncolor: red"),
        ("region: us, address: 127.0.12.1", "region: uss, address: 127.0.12.1"),
        ("{path: /health}", "{interval: 30}"),
        ("zone: drover.test", "zone: other.test"),
    ]);
    let lines: Vec<String> =
        load_text(&text).unwrap_err().iter().map(|e| e.chars().take(11).collect()).collect();
    assert_eq!(lines, ["c.yaml:3:36", "c.yaml:14:1", "c.yaml:20:1", "c.yaml:23:1", "c.yaml:24:2"]);
}
