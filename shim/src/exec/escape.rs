//! The escape character: what is typed for this program and not for the node.
//!
//! Pure; `process_escapes` in clientloop.c is what it follows. An escape is recognised at the beginning of a line only,
//! so the one that begins a file's second line of a paste is one too, as with ssh. What ssh does not do for one of several
//! callers of a connection, natssh does not do either, and says so in ssh's words; to suspend itself it can.

/// Control and `Z`.
const SUSPEND: u8 = b'Z' & 0x1f;

/// What is asked of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// `~.`: to give the command up.
    GiveUp,
    /// `~^Z`: to stop, as any program at `^Z`.
    Suspend,
    /// `~R`: to have the keys exchanged anew.
    Rekey,
    /// `~#`: to list forwarded connections.
    List,
    /// `~?`: to explain itself.
    Help,
    /// What ssh could do, and natssh cannot.
    Nothing(u8),
}

/// The keys that came, up to now.
#[derive(Debug)]
pub(super) struct Escapes {
    character: u8,
    is_at_line_start: bool,
    is_pending: bool,
}

impl Escapes {
    /// At the beginning of everything, with this escape character.
    pub(super) fn by(character: u8) -> Self {
        Self { character, is_at_line_start: true, is_pending: false }
    }

    /// What of these bytes the node gets, and what is asked. Nothing behind [`Asked::GiveUp`] counts.
    pub(super) fn hear(&mut self, typed: &[u8]) -> (Vec<u8>, Vec<Asked>) {
        let (mut input, mut asked) = (Vec::with_capacity(typed.len() + 1), Vec::new());
        for &byte in typed {
            if std::mem::take(&mut self.is_pending) {
                if let Some(what) = self.asked_by(byte) {
                    asked.push(what);
                    if what == Asked::GiveUp {
                        break;
                    }
                    continue;
                }
                if byte != self.character {
                    input.push(self.character);
                }
            } else if self.is_at_line_start && byte == self.character {
                self.is_pending = true;
                continue;
            }
            self.is_at_line_start = byte == b'\r' || byte == b'\n';
            input.push(byte);
        }
        (input, asked)
    }

    fn asked_by(&self, byte: u8) -> Option<Asked> {
        Some(match byte {
            b'.' => Asked::GiveUp,
            SUSPEND => Asked::Suspend,
            b'R' => Asked::Rekey,
            b'#' => Asked::List,
            b'?' => Asked::Help,
            b'B' | b'C' | b'V' | b'v' | b'&' => Asked::Nothing(byte),
            _ => return None,
        })
    }

    /// What is said about it, in lines that end as a terminal in raw mode needs them.
    pub(super) fn answer(&self, asked: Asked) -> Vec<u8> {
        let text = match asked {
            Asked::Suspend => "~^Z [suspend ssh]\r\n".to_owned(),
            // ssh leaves without having shown what it has to say.
            Asked::GiveUp | Asked::Rekey => String::new(),
            Asked::List => "~#\r\nThe following connections are open:\r\n".to_owned(),
            Asked::Help => HELP.replace('\n', "\r\n"),
            Asked::Nothing(byte) => {
                format!("~{} escape not available to multiplexed sessions\r\n", char::from(byte))
            }
        };
        text.bytes().map(|byte| if byte == b'~' { self.character } else { byte }).collect()
    }
}

const HELP: &str = "~?
Supported escape sequences:
 ~.   - terminate session
 ~R   - request rekey
 ~^Z  - suspend ssh
 ~#   - list forwarded connections
 ~?   - this message
 ~~   - send the escape character by typing it twice
(Note that escapes are only recognized immediately after newline.)
";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(typed: &[u8]) -> (Vec<u8>, Vec<Asked>) {
        Escapes::by(b'~').hear(typed)
    }

    #[test]
    fn escapes_are_heard_at_the_beginning_of_a_line_and_nowhere_else() {
        for (typed, input, asked) in [
            (&b"~."[..], &b""[..], &[Asked::GiveUp][..]),
            (b"ls\r~.", b"ls\r", &[Asked::GiveUp]),
            (b"ls\n~.", b"ls\n", &[Asked::GiveUp]),
            (b"ls ~.", b"ls ~.", &[]),
            (b" ~.", b" ~.", &[]),
            (b"~.never", b"", &[Asked::GiveUp]),
            (b"~~.", b"~.", &[]),
            (b"~~\r~.", b"~\r", &[Asked::GiveUp]),
            (b"~x", b"~x", &[]),
            (b"~x~.", b"~x~.", &[]),
            (b"~\r~.", b"~\r", &[Asked::GiveUp]),
            (b"~?~?x", b"x", &[Asked::Help, Asked::Help]),
            (b"~?x~?", b"x~?", &[Asked::Help]),
            (b"~\x1a", b"", &[Asked::Suspend]),
            (b"~Rq", b"q", &[Asked::Rekey]),
            (b"~#", b"", &[Asked::List]),
            (b"~I", b"~I", &[]),
            (b"cd ~/x\r", b"cd ~/x\r", &[]),
        ] {
            assert_eq!(heard(typed), (input.to_vec(), asked.to_vec()), "{}", typed.escape_ascii());
        }
        for byte in *b"BCVv&" {
            assert_eq!(heard(&[b'~', byte]), (vec![], vec![Asked::Nothing(byte)]));
        }
    }

    #[test]
    fn another_character_is_spoken_of_as_itself() {
        let mut escapes = Escapes::by(1);
        assert_eq!(escapes.hear(b"~.\r\x01."), (b"~.\r".to_vec(), vec![Asked::GiveUp]));
        assert_eq!(escapes.answer(Asked::Suspend), b"\x01^Z [suspend ssh]\r\n");
        let escapes = Escapes::by(b'%');
        assert!(escapes.answer(Asked::Help).ends_with(b"\r\n %%   - send the escape character by typing it twice\r\n(Note that escapes are only recognized immediately after newline.)\r\n"));
        assert_eq!(
            escapes.answer(Asked::Nothing(b'&')),
            b"%& escape not available to multiplexed sessions\r\n"
        );
    }

    proptest! {
        /// However the keys are gathered into reads, the same is heard.
        #[test]
        fn keys_mean_the_same_however_they_come(
            typed in prop::collection::vec(prop_oneof![Just(b'~'), Just(b'\r'), Just(b'?'), Just(b'R'), any::<u8>()], 0..60),
            cuts in prop::collection::vec(1usize..5, 1..20),
        ) {
            let typed: Vec<u8> = typed.into_iter().filter(|byte| *byte != b'.').collect();
            let whole = heard(&typed);
            let mut escapes = Escapes::by(b'~');
            let (mut input, mut asked, mut rest) = (Vec::new(), Vec::new(), &typed[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let read;
                (read, rest) = rest.split_at(rest.len().min(*cut));
                let (more, wanted) = escapes.hear(read);
                input.extend(more);
                asked.extend(wanted);
            }
            prop_assert_eq!((input, asked), whole);
        }

        /// Without the character, every byte is the node's.
        #[test]
        fn nothing_is_lost_where_nothing_is_escaped(typed in prop::collection::vec(any::<u8>(), 0..60)) {
            let plain: Vec<u8> = typed.into_iter().filter(|byte| *byte != b'~').collect();
            prop_assert_eq!(heard(&plain), (plain.clone(), vec![]));
        }
    }
}
