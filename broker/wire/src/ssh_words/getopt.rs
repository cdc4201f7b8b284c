//! OpenSSH's getopt(3), the BSD one: options end at the first word that is none.

use super::NoCall;
use super::setting::Setting;
use crate::word::Word;

/// The letters that stand alone.
pub(super) const FLAGS: &[u8] = b"1246ACGKMNTVXYZafgknqstvxy";
/// The letters that take a value: the rest of their word, or the next one.
pub(super) const VALUES: &[u8] = b"BDEFIJLOPQRSWbceilmopw";
/// How a call itself runs: nothing that `ssh -G` should be asked about. With `-s` or `-f` it refuses to answer
/// where there is no command, and with `-E` it would write to that file; `-O` asks for no connection.
const NO_SETTINGS: &[u8] = b"EGOfns";

/// One option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) letter: u8,
    /// There for all of [`VALUES`].
    pub(super) value: Option<Word>,
}

impl Given {
    /// What an `-o` says; none for another letter, and where it says nothing.
    pub(super) fn setting(&self) -> Option<Setting> {
        self.value.as_ref().filter(|_| self.letter == b'o').and_then(|word| Setting::parse(word.as_bytes()))
    }

    /// Writes it for `ssh -G`, if it has to do with settings.
    pub(super) fn write_to(&self, words: &mut Vec<Word>) {
        if NO_SETTINGS.contains(&self.letter) {
            return;
        }
        let letter = [b'-', self.letter];
        match &self.value {
            // Before the host, a word `--` would end the options even as a value.
            Some(value) if value.as_bytes() == b"--" => words.push([letter, *b"--"].concat().into()),
            Some(value) => words.extend([letter.to_vec().into(), value.clone()]),
            None => words.push(letter.to_vec().into()),
        }
    }
}

/// Reads options from word `at` on, and tells which word is the first that is none.
pub(super) fn scan(words: &[Word], mut at: usize, options: &mut Vec<Given>) -> Result<usize, NoCall> {
    while let Some(word) = words.get(at) {
        match word.as_bytes() {
            b"--" => return Ok(at + 1),
            [b'-', letters @ ..] if !letters.is_empty() => match bundle(letters, words.get(at + 1), options)?
            {
                Bundle::Whole => at += 1,
                Bundle::WithNext => at += 2,
                Bundle::Broken => return Ok(at),
            },
            _ => return Ok(at),
        }
    }
    Ok(at)
}

/// Where the letters of a word have led.
enum Bundle {
    /// To its end.
    Whole,
    /// To its end, and the next word was the last one's value.
    WithNext,
    /// To a dash at its end: the options are over, and the whole word counts as none.
    Broken,
}

fn bundle(letters: &[u8], next: Option<&Word>, options: &mut Vec<Given>) -> Result<Bundle, NoCall> {
    for (index, &letter) in letters.iter().enumerate() {
        let rest = &letters[index + 1..];
        if letter == b'-' && rest.is_empty() {
            return Ok(Bundle::Broken);
        }
        if FLAGS.contains(&letter) {
            match letter {
                b'V' => return Err(NoCall::Prints('V')),
                b'1' => return Err(NoCall::OldProtocol),
                _ => options.push(Given { letter, value: None }),
            }
            continue;
        }
        if !VALUES.contains(&letter) {
            return Err(NoCall::UnknownOption(char::from(letter)));
        }
        let (value, end) = match rest {
            [] => (next.ok_or(NoCall::MissingValue(char::from(letter)))?.clone(), Bundle::WithNext),
            rest => (rest.to_vec().into(), Bundle::Whole),
        };
        if letter == b'Q' {
            return Err(NoCall::Prints('Q'));
        }
        options.push(Given { letter, value: Some(value) });
        return Ok(end);
    }
    Ok(Bundle::Whole)
}
