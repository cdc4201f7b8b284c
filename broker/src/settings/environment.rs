//! What a session is given of the caller's environment: `SendEnv` and `SetEnv`.
//!
//! Pure. First what `SendEnv` picks, in the order of the environment itself, then
//! `SetEnv` (`client_session2_setup` in clientloop.c). Patterns that begin with `-`
//! take others away; ssh has done so before it prints.

use natssh_wire::word::Word;

/// A name and a value, as they are sent.
pub(super) type Variable = (Vec<u8>, Vec<u8>);

/// What is sent, in ssh's order.
pub(super) fn sent(environment: &[(Word, Word)], send: &[String], set: &[String]) -> Vec<Variable> {
    let picked = environment
        .iter()
        .filter(|(name, _)| send.iter().any(|pattern| matches(name.as_bytes(), pattern.as_bytes())));
    let picked = picked.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let set = set.iter().filter_map(|text| text.split_once('='));
    picked.chain(set.map(|(name, value)| (name.into(), value.into()))).collect()
}

/// `*` is any run of bytes, `?` exactly one, and case matters (`match_pattern` in match.c).
pub(super) fn matches(name: &[u8], pattern: &[u8]) -> bool {
    // Where to go on from when the text behind the last `*` does not fit: that `*`, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    let (mut n, mut p) = (0, 0);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => (n, p) = (n + 1, p + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (n, p) = (taken + 1, at + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(pairs: &[(&str, &str)]) -> Vec<(Word, Word)> {
        pairs.iter().map(|(name, value)| (Word::from(*name), Word::from(*value))).collect()
    }

    #[test]
    fn the_environment_comes_first_and_in_its_own_order() {
        let environment = words(&[("LC_TIME", "de"), ("HOME", "/h"), ("LANG", "en"), ("LC_ALL", "C")]);
        let sent = sent(&environment, &["LANG".into(), "LC_*".into()], &["A=b=c".into(), "LANG=x".into()]);
        let sent: Vec<_> = sent
            .iter()
            .map(|(n, v)| [n, v].map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
            .collect();
        assert_eq!(sent, [["LC_TIME", "de"], ["LANG", "en"], ["LC_ALL", "C"], ["A", "b=c"], ["LANG", "x"]]);
    }

    #[test]
    fn patterns_are_openssh_s() {
        for (name, pattern, fits) in [
            ("LANG", "LANG", true),
            ("LANG", "lang", false),
            ("LANG", "LAN", false),
            ("LAN", "LANG", false),
            ("LC_ALL", "LC_*", true),
            ("LC_", "LC_*", true),
            ("LC", "LC_*", false),
            ("GIT_X_Y", "*_Y", true),
            ("GIT_Y_X", "*_Y", false),
            ("aab", "*ab", true),
            ("abc", "a?c", true),
            ("ac", "a?c", false),
            ("", "*", true),
            ("x", "", false),
        ] {
            assert_eq!(matches(name.as_bytes(), pattern.as_bytes()), fits, "{name} {pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_and_any_star_put_in(name in "[A-Z_]{1,12}", at in 0usize..12) {
            let at = at.min(name.len());
            let pattern = format!("{}*{}", &name[..at], &name[at..]);
            prop_assert!(matches(name.as_bytes(), name.as_bytes()));
            prop_assert!(matches(name.as_bytes(), pattern.as_bytes()));
        }
    }
}
