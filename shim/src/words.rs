//! Numbers and text as a person reads them. Pure.

/// Text on one line without control characters: a server's message must not steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `12 s`, `5 m`, `3 h 12 m`, `2 d 4 h`.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big, big_unit, small: u64, small_unit| match small {
        0 => format!("{big} {big_unit}"),
        small => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m"),
        (0, hours, minutes) => two(hours, "h", minutes % 60, "m"),
        (days, hours, _) => two(days, "d", hours % 24, "h"),
    }
}

/// `in 3 h 12 m`, `12 m ago`, `now`.
pub(crate) fn relative(at: u64, now: u64) -> String {
    match (at.saturating_sub(now), now.saturating_sub(at)) {
        (0, 0) => "now".into(),
        (0, past) => format!("{} ago", duration(past)),
        (ahead, _) => format!("in {}", duration(ahead)),
    }
}

/// `9.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count / 1024),
        _ => format!("{}.{} MiB", count / 1_048_576, count % 1_048_576 * 10 / 1_048_576),
    }
}

/// `0.4 ms`, `41 ms`.
pub(crate) fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

/// `1 trunk`, `2 trunks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// `12:34:56 UTC`.
pub(crate) fn clock(at: u64) -> String {
    format!("{:02}:{:02}:{:02} UTC", at / 3600 % 24, at / 60 % 60, at % 60)
}

/// Seconds since 1970, as the broker counts them.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 m"),
            (3599, "59 m"),
            (3600, "1 h"),
            (11_520, "3 h 12 m"),
            (86_400, "1 d"),
            (187_260, "2 d 4 h"),
        ] {
            assert_eq!(duration(seconds), words);
        }
        assert_eq!(clock(1_795_437_296), "12:34:56 UTC");
        assert_eq!(relative(100, 100), "now");
        assert_eq!(relative(160, 100), "in 1 m");
        assert_eq!(relative(40, 100), "1 m ago");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(2048), "2 KiB");
        assert_eq!(bytes(9_857_664), "9.4 MiB");
        assert_eq!(milliseconds(0.42), "0.4 ms");
        assert_eq!(milliseconds(41.3), "41 ms");
        assert_eq!(count(1, "trunk"), "1 trunk");
        assert_eq!(count(0, "trunk"), "0 trunks");
    }

    #[test]
    fn a_hostile_message_stays_on_its_line() {
        assert_eq!(one_line("no\r\nnatssh: fine\x1b[2J\u{9b}x "), "no natssh: fine [2J x");
    }
}
