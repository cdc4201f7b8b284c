//! The caller's terminal: what a node is asked for one like it (RFC 4254, 6.2), and what the broker answers.
//!
//! Pure. A client that sends a [`Terminal`] knows what follows from it: it looks for [`HEADER`] in the answer, and
//! where that is, it hands on every key as it is typed.

use serde::{Deserialize, Serialize};

/// The header of a 101 by which a node is asked for a terminal: the client's own is to be in raw mode now. It
/// says which byte begins an escape, as a number, or [`NO_ESCAPE`].
pub const HEADER: &str = "natssh-terminal";
/// There are no escapes.
pub const NO_ESCAPE: &str = "none";

/// The caller's terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminal {
    /// How large it is.
    pub size: Size,
    /// How it treats keys and text: pairs of an opcode of RFC 4254, 8, and its value, in the order in which they are
    /// sent. Where standard input is no terminal there are none, and the node's own hold.
    pub modes: Vec<(u8, u32)>,
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Size {
    /// In characters.
    pub columns: u32,
    /// In characters.
    pub rows: u32,
    /// In pixels, 0 where nobody knows.
    pub width: u32,
    /// In pixels, 0 where nobody knows.
    pub height: u32,
}

/// What a caller without a terminal is given.
impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24, width: 0, height: 0 }
    }
}

impl Size {
    /// Columns, rows, width and height, each in four bytes, as RFC 4254, 6.7, has them.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let numbers = [self.columns, self.rows, self.width, self.height];
        bytes
            .chunks_exact_mut(4)
            .zip(numbers)
            .for_each(|(to, number)| to.copy_from_slice(&number.to_be_bytes()));
        bytes
    }

    /// Reads them; none where they are not these four.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<4>() else { return None };
        let [columns, rows, width, height] = <[[u8; 4]; 4]>::try_from(numbers).ok()?.map(u32::from_be_bytes);
        Some(Self { columns, rows, width, height })
    }
}

/// What a 101 says about the terminal that a node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The byte that begins an escape at the beginning of a line; none where there are no escapes.
    pub escape: Option<u8>,
}

impl Granted {
    /// What stands in the header.
    #[must_use]
    pub fn to_header(self) -> String {
        self.escape.map_or_else(|| NO_ESCAPE.to_owned(), |byte| byte.to_string())
    }

    /// Reads it; none where it says nothing that is known.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        match value {
            NO_ESCAPE => Some(Self { escape: None }),
            number => number.parse().ok().map(|byte| Self { escape: Some(byte) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_a_terminal_is_given_the_usual_one() {
        let terminal: Terminal = serde_json::from_str("{}").unwrap();
        assert_eq!(
            terminal,
            Terminal { size: Size { columns: 80, rows: 24, width: 0, height: 0 }, modes: vec![] }
        );
    }

    #[test]
    fn a_terminal_is_these_words() {
        let terminal = Terminal {
            size: Size { columns: 132, rows: 43, width: 1188, height: 946 },
            modes: vec![(128, 38400), (1, 3), (53, 1)],
        };
        let text = r#"{"size":{"columns":132,"rows":43,"width":1188,"height":946},"modes":[[128,38400],[1,3],[53,1]]}"#;
        assert_eq!(serde_json::to_string(&terminal).unwrap(), text);
        assert_eq!(serde_json::from_str::<Terminal>(text).unwrap(), terminal);
    }

    #[test]
    fn the_header_tells_the_escape_character() {
        for escape in [None, Some(b'~'), Some(0), Some(255)] {
            assert_eq!(Granted::from_header(&Granted { escape }.to_header()), Some(Granted { escape }));
        }
        assert_eq!(Granted { escape: Some(b'~') }.to_header(), "126");
        for odd in ["", "256", "-1", "~", "None", "12 6"] {
            assert_eq!(Granted::from_header(odd), None, "{odd:?}");
        }
    }
}
