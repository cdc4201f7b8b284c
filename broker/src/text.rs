//! Text from the other side, made fit for one line of a person's terminal.

/// One line: runs of blanks and line breaks become one blank, control
/// characters are dropped (a hostile server must not drive the terminal), and
/// 500 characters are enough.
#[must_use]
pub fn one_line(text: &str) -> String {
    let words =
        text.split_whitespace().map(|word| word.chars().filter(|c| !c.is_control()).collect::<String>());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
        if line.chars().count() > 500 {
            line = line.chars().take(500).collect();
            line.push('…');
            break;
        }
    }
    line
}

/// A duration in words, to the second: `45 s`, `12 min`, `3 h 12 min`, `2 d 4 h`.
#[must_use]
pub fn in_words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A moment in seconds since 1970, as `17:03:09 UTC`: for what is less than a day away.
#[must_use]
pub fn time_of_day(unix: u64) -> String {
    format!("{:02}:{:02}:{:02} UTC", unix / 3600 % 24, unix / 60 % 60, unix % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_a_terminal() {
        assert_eq!(one_line("  no\r\n\n such\tnode\x1b[2J \x07 "), "no such node[2J");
        assert_eq!(one_line(&"x".repeat(600)).chars().count(), 501);
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn durations_read_as_a_person_says_them() {
        let said: Vec<_> = [0, 119, 120, 7199, 7200, 180_000].into_iter().map(in_words).collect();
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h 0 min", "2 d 2 h"]);
    }

    #[test]
    fn a_time_of_day_is_that_of_utc() {
        assert_eq!(time_of_day(1_795_475_049), "23:04:09 UTC");
    }
}
