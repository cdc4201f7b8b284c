//! OpenSSH's wildcard patterns: `*` any run of characters, `?` exactly one, `!` in front negates.
//!
//! Pure. The same rules as `Host` in ssh_config(5), section PATTERNS, with one
//! difference: upper and lower case are alike. Stock ssh lower-cases `%h` before
//! a ProxyCommand sees it, so a pattern in capitals could never match anything.

use std::fmt;

/// One pattern of a list, `!` included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    glob: String,
    negated: bool,
}

impl Pattern {
    /// Reads one pattern.
    ///
    /// # Errors
    /// A sentence, when the text would not mean in ssh_config what it seems to mean here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (glob, negated) = match text.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if glob.is_empty() {
            return Err(format!("{text:?} is an empty pattern"));
        }
        if let Some(bad) =
            glob.chars().find(|c| c.is_whitespace() || c.is_control() || "!,\"'\\#".contains(*c))
        {
            let advice =
                if bad == ',' || bad.is_whitespace() { "; give each pattern its own string" } else { "" };
            return Err(format!("{text:?} holds {bad:?}{advice}"));
        }
        Ok(Self { glob: glob.to_lowercase(), negated })
    }

    /// `*`.
    #[must_use]
    pub fn any() -> Self {
        Self { glob: "*".into(), negated: false }
    }

    /// Whether it begins with `!`.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.negated
    }
}

/// As it is written in a configuration file, in lower case.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "!" } else { "" }, self.glob)
    }
}

/// Whether a list of patterns takes a host: some pattern matches it, and no negated one does.
///
/// The order within the list does not matter, and negations alone match nothing.
#[must_use]
pub fn list_matches(patterns: &[Pattern], host: &str) -> bool {
    let host = host.to_lowercase();
    let mut taken = false;
    for pattern in patterns {
        if glob_matches(&pattern.glob, &host) {
            if pattern.negated {
                return false;
            }
            taken = true;
        }
    }
    taken
}

/// OpenSSH's wildcards over bytes, as OpenSSH takes them; at most pattern × text steps, whatever the pattern.
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    // Where to resume when the run taken by the last `*` proves too short.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                retry = Some((g, t));
            }
            Some(&c) if c == b'?' || c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, taken)) = retry else { return false };
                retry = Some((after_star, taken + 1));
                (g, t) = (after_star, taken + 1);
            }
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(words: &[&str]) -> Vec<Pattern> {
        words.iter().map(|w| Pattern::parse(w).unwrap()).collect()
    }

    #[test]
    fn wildcards_match_as_in_ssh_config() {
        let table: &[(&[&str], &str, bool)] = &[
            (&["*"], "web", true),
            (&["web"], "web", true),
            (&["web"], "web1", false),
            (&["web?"], "web1", true),
            (&["web?"], "web", false),
            (&["*.example.com"], "a.b.example.com", true),
            (&["*.example.com"], "example.com", false),
            (&["a*b*c"], "axxbyybzzc", true),
            (&["a*b*c"], "axxbyybzz", false),
            (&["**"], "web", true),
            (&["*?"], "w", true),
            (&["WEB"], "web", true),
            (&["web"], "WEB", true),
            (&["!db", "*"], "db", false),
            (&["*", "!db"], "db", false),
            (&["*", "!db"], "web", true),
            (&["!db"], "web", false),
            (&["192.168.0.?"], "192.168.0.7", true),
            (&["192.168.0.?"], "192.168.0.17", false),
        ];
        for (patterns, host, expected) in table {
            assert_eq!(list_matches(&list(patterns), host), *expected, "{patterns:?} against {host}");
        }
    }

    #[test]
    fn what_ssh_would_read_otherwise_is_refused() {
        for text in ["", "!", "a b", "a,b", "!!a", "a\"b", "a#b", "a\nb"] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Pattern::parse("!Web-*").unwrap().to_string(), "!web-*");
    }

    /// The same lists and hosts by the real `ssh -G`, whose user is set by the block that matches.
    #[test]
    fn a_hundred_lists_match_as_the_real_ssh_matches_them() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        let words = ["*", "a", "b", "a*", "?", "ab", "*.b", "*"];
        let hosts = ["a", "ab", "a.b", "b.a.b", "aab"];
        let mut taken = 0;
        for n in 0..100usize {
            // A walk through the words that comes to every pair of them.
            let word = |k: usize| words[(n / 8usize.pow(u32::try_from(k).unwrap() % 3) + 5 * k) % 8];
            let negation = if n % 3 == 0 { "!" } else { "" };
            let patterns = [format!("{}{}", word(0), word(1)), format!("{negation}{}{}", word(2), word(3))];
            std::fs::write(&config, format!("Host {}\n User chosen\n", patterns.join(" "))).unwrap();
            let host = hosts[n % hosts.len()];
            let Ok(output) = std::process::Command::new("ssh").arg("-GF").arg(&config).arg(host).output()
            else {
                eprintln!("skipped: there is no ssh here");
                return;
            };
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let by_ssh = stdout.lines().any(|line| line == "user chosen");
            let ours = list_matches(&list(&[&patterns[0], &patterns[1]]), host);
            assert_eq!(ours, by_ssh, "{patterns:?} against {host}");
            taken += usize::from(ours);
        }
        assert!((20..80).contains(&taken), "{taken} of 100 matched: that compares too little");
    }

    proptest! {
        #[test]
        fn never_panics_and_a_star_takes_all(glob in ".{0,12}", host in ".{0,12}") {
            if let Ok(pattern) = Pattern::parse(&glob) {
                let _ = list_matches(&[pattern], &host);
            }
            prop_assert!(list_matches(&list(&["*"]), &host));
        }

        #[test]
        fn many_stars_stay_cheap(length in 200usize..250) {
            let (glob, host) = (format!("{}b", "a*".repeat(60)), "a".repeat(length));
            prop_assert!(!glob_matches(&glob, &host));
        }
    }
}
