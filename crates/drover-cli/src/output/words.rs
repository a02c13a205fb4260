//! Times and lengths of time as people say them.

use super::Look;
use super::paint::GLUE;
use drover_model::{Span, Timestamp};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time in its two largest units: `450 ms`, `3.2 s`, `3 m 20 s`, `2 h 5 m`, `4 d 3 h`.
pub fn span(span: Span) -> String {
    let millis = span.as_millis();
    if millis == 0 {
        return format!("0{GLUE}s");
    }
    if millis < 1_000 {
        return format!("{millis}{GLUE}ms");
    }
    let seconds = millis / 1_000;
    let two = |big: u64, unit: &str, small: u64, lesser: &str| {
        if small == 0 {
            format!("{big}{GLUE}{unit}")
        } else {
            format!("{big}{GLUE}{unit}{GLUE}{small}{GLUE}{lesser}")
        }
    };
    match seconds {
        0..10 if millis % 1_000 >= 100 => format!("{seconds}.{}{GLUE}s", millis % 1_000 / 100),
        0..MINUTE => format!("{seconds}{GLUE}s"),
        MINUTE..HOUR => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        HOUR..DAY => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
    }
}

/// In its largest unit alone.
fn rough(span: Span) -> String {
    let seconds = span.as_millis() / 1_000;
    match seconds {
        0..MINUTE => format!("{seconds}{GLUE}s"),
        MINUTE..HOUR => format!("{}{GLUE}m", seconds / MINUTE),
        HOUR..DAY => format!("{}{GLUE}h", seconds / HOUR),
        _ => format!("{}{GLUE}d", seconds / DAY),
    }
}

/// How long ago, or in how long: `3 m ago`, `in 2 h`, `now`.
pub fn ago(look: &Look, at: Timestamp) -> String {
    let (past, future) = (look.now.since(at), at.since(look.now));
    if future.as_millis() >= 1_000 {
        format!("in{GLUE}{}", rough(future))
    } else if past.as_millis() < 1_000 {
        "now".to_owned()
    } else {
        format!("{}{GLUE}ago", rough(past))
    }
}

/// The reader's local time with its zone; the date only when it is another day.
pub fn clock(look: &Look, at: Timestamp) -> String {
    let local = |t: Timestamp| {
        jiff::Timestamp::from_millisecond(t.as_millis()).ok().map(|t| t.to_zoned_datetime(look.zone.clone()))
    };
    let (Some(then), Some(now)) = (local(at), local(look.now)) else { return at.to_string() };
    let format = if then.date() == now.date() { "%H:%M:%S %Z" } else { "%Y-%m-%d %H:%M:%S %Z" };
    then.strftime(format).to_string().replace(' ', GLUE.encode_utf8(&mut [0; 4]))
}

/// Text in which every RFC 3339 time, as the API writes them into sentences, is the reader's.
pub fn local_times(look: &Look, text: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('T') {
        let found = at.checked_sub(DATE_LENGTH).and_then(|start| Some((start, time_at(rest, start)?)));
        let upto = match found {
            Some((start, (time, end))) => {
                done.push_str(&rest[..start]);
                done.push_str(&clock(look, time));
                end
            }
            None => {
                done.push_str(&rest[..=at]);
                at + 1
            }
        };
        rest = &rest[upto..];
    }
    done + rest
}

/// `2026-11-24`.
const DATE_LENGTH: usize = 10;

/// The time that begins at `start`, and where it ends.
fn time_at(text: &str, start: usize) -> Option<(Timestamp, usize)> {
    let candidate = text.get(start..)?;
    let end = start + candidate.find('Z')? + 1;
    Some((text.get(start..end)?.parse().ok()?, end))
}

/// Until when something holds, and how much of it is left.
pub fn left(look: &Look, until: Option<Timestamp>) -> String {
    match until {
        None => "no expiry".to_owned(),
        Some(t) if t <= look.now => format!("past its end by {}", span(whole(look.now.since(t)))),
        Some(t) => format!("{} left, until {}", span(whole(t.since(look.now))), clock(look, t)),
    }
}

/// Without the milliseconds that nobody reads.
pub fn whole(span: Span) -> Span {
    if span.as_millis() < 10_000 { span } else { Span::from_secs(span.as_millis() / 1_000) }
}

/// `1 region`, `3 regions`.
pub fn count(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// Names in a row.
pub fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::*;

    fn plain(text: String) -> String {
        super::super::paint::finish(&text, false)
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        for (millis, text) in [
            (0, "0 s"),
            (450, "450 ms"),
            (3_200, "3.2 s"),
            (3_020, "3 s"),
            (59_999, "59 s"),
            (200_000, "3 m 20 s"),
            (7_500_000, "2 h 5 m"),
            (356_400_000, "4 d 3 h"),
        ] {
            assert_eq!(plain(span(Span::from_millis(millis))), text);
        }
    }

    #[test]
    fn times_in_sentences_become_local() {
        let text = "Till 2026-09-29T12:30:00.000Z or 2026-09-30T00:00:00Z, T+3, 12T4 and ünd2026-09T";
        let local = "Till 14:30:00 CEST or 2026-09-30 02:00:00 CEST, T+3, 12T4 and ünd2026-09T";
        assert_eq!(plain(local_times(&look(80), text)), local);
    }

    #[test]
    fn times_are_local_with_their_zone_and_an_age() {
        let look = look(80);
        let ago = |look: &Look, t| plain(super::ago(look, t));
        let left = |look: &Look, t| plain(super::left(look, t));
        let before = |secs| look.now - Span::from_secs(secs);
        let clock = |look: &Look, t| plain(super::clock(look, t));
        assert_eq!(clock(&look, before(90)), "13:58:30 CEST");
        assert_eq!(clock(&look, before(90_000)), "2026-09-28 13:00:00 CEST");
        assert_eq!(ago(&look, before(190)), "3 m ago");
        assert_eq!(ago(&look, before(0)), "now");
        assert_eq!(ago(&look, look.now + Span::from_hours(2)), "in 2 h");
        assert_eq!(left(&look, Some(before(30))), "past its end by 30 s");
        assert_eq!(left(&look, Some(look.now + Span::from_mins(65))), "1 h 5 m left, until 15:05:00 CEST");
    }
}
