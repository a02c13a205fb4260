//! Rules for text, with the pattern that the schema shows for each.

use crate::config::shapes::Rule;
use crate::ids::check_name;

/// Longest text that is accepted anywhere.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Longest host name (RFC 1035, 2.3.4), written without the final dot.
pub(crate) const HOST_NAME_BYTES_MAX: usize = 253;

/// Checks `text` against `rule`.
pub(crate) fn check(rule: Rule, name: &str, text: &str) -> Result<(), (String, Option<String>)> {
    if text.len() > TEXT_BYTES_MAX {
        return Err((format!("`{name}` is longer than {TEXT_BYTES_MAX} bytes"), None));
    }
    if text.is_empty() {
        return Err((format!("`{name}` must not be empty"), None));
    }
    let shown: String = text.chars().take(60).collect();
    let visible = text.chars().all(|c| c.is_ascii_graphic());
    let wrong =
        |what: &str, hint: &str| Err((format!("`{name}`: `{shown}` is not {what}"), Some(hint.to_owned())));
    match rule {
        Rule::Any => Ok(()),
        Rule::Name => check_name(text).map_err(|e| {
            let lower = text.to_lowercase().replace(['_', ' ', '.', '/'], "-");
            let suggestion = check_name(&lower).is_ok().then(|| format!("`{lower}` would be accepted"));
            (format!("`{name}`: {e}"), suggestion)
        }),
        Rule::HostName => host_name(text).map_err(|(why, hint)| (format!("`{name}`: `{shown}` {why}"), hint)),
        Rule::RecordName => {
            // A label of `_` alone is none.
            let bare: Vec<&str> = text.split('.').map(|l| l.strip_prefix('_').unwrap_or(l)).collect();
            host_name(&bare.join(".")).map_err(|(why, hint)| (format!("`{name}`: `{shown}` {why}"), hint))
        }
        Rule::Target if text.starts_with('/') && visible => Ok(()),
        Rule::Target if visible && !text.contains("://") => {
            wrong("the target of a request", &format!("it begins with a slash: /{shown}"))
        }
        Rule::Target => {
            wrong("the target of a request", "it begins with a slash and holds no spaces: /health")
        }
        Rule::Host if visible && !text.contains(['/', '@', '?', '#']) => Ok(()),
        Rule::Host => wrong("a host", "such as www.example.com or www.example.com:8443"),
        Rule::Token if text.chars().all(is_token) => Ok(()),
        Rule::Token => wrong("the name of a header", "such as X-Probe-Key"),
        Rule::Metric if is_metric(text) => Ok(()),
        Rule::Metric => {
            wrong("a Prometheus name", "letters, digits and underscores, such as http_requests_total")
        }
        Rule::Url if visible && (text.starts_with("https://") || text.starts_with("http://")) => Ok(()),
        Rule::Url => wrong("an http or https address", "such as https://pages.example.com/drover"),
    }
}

/// The pattern by which an editor can check the rule.
pub(crate) fn pattern(rule: Rule) -> Option<&'static str> {
    match rule {
        Rule::Any => None,
        Rule::Name => Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        Rule::HostName => Some("^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"),
        Rule::RecordName => Some("^_?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\._?[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"),
        Rule::Target => Some("^/[!-~]*$"),
        Rule::Host => Some("^[^/@?#\\s]+$"),
        Rule::Token => Some("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
        Rule::Metric => Some("^[A-Za-z_:][A-Za-z0-9_:]*$"),
        Rule::Url => Some("^https?://[!-~]+$"),
    }
}

/// A lower-case host name of at least one label, without the final dot.
pub(crate) fn host_name(text: &str) -> Result<(), (String, Option<String>)> {
    if text.len() > HOST_NAME_BYTES_MAX {
        return Err((format!("is longer than {HOST_NAME_BYTES_MAX} bytes"), None));
    }
    if let Some(stem) = text.strip_suffix('.') {
        return Err(("ends with a dot".into(), Some(format!("leave the final dot out: {stem}"))));
    }
    if text.split('.').all(|label| check_name(label).is_ok()) {
        return Ok(());
    }
    let lower = text.to_lowercase();
    if lower != text && host_name(&lower).is_ok() {
        return Err(("has capital letters".into(), Some(format!("write {lower}"))));
    }
    Err(("is not a host name".into(), Some("labels of a-z, 0-9 and inner hyphens, joined by dots".into())))
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn is_metric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
