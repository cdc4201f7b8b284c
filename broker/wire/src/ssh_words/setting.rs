//! What `-o` is given: one line of ssh_config, as `process_config_line` in readconf.c takes it apart.

/// A keyword and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    keyword: String,
    arguments: Vec<Vec<u8>>,
}

impl Setting {
    /// Reads a line; none where ssh reads nothing in it, or refuses it.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|byte| !is_blank(*byte) && *byte != b'\x0c')?;
        let mut rest = Some(line[..=end].to_vec());
        let mut keyword = next_word(&mut rest)?;
        if keyword.is_empty() {
            keyword = next_word(&mut rest)?;
        }
        let keyword = String::from_utf8(keyword).ok()?.to_ascii_lowercase();
        let rest = rest?;
        let from = rest.iter().position(|byte| !is_blank(*byte))?;
        if keyword.is_empty() || keyword.starts_with('#') {
            return None;
        }
        Some(Self { keyword, arguments: arguments(&rest[from..])? })
    }

    /// Whether this is its keyword, in whatever case.
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    /// The first argument, which for most keywords is the only one.
    #[must_use]
    pub fn first(&self) -> Option<&[u8]> {
        self.arguments.first().map(Vec::as_slice)
    }

    /// All arguments, quotes removed.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.arguments
    }

    /// Whether the first argument is `yes` or `true`, as ssh spells a flag.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        self.first()
            .is_some_and(|value| value.eq_ignore_ascii_case(b"yes") || value.eq_ignore_ascii_case(b"true"))
    }
}

fn is_blank(byte: u8) -> bool {
    b" \t\r\n".contains(&byte)
}

/// `strdelim` in misc.c: takes what stands before a blank, a quoted word or one `=`, and these with it.
///
/// None for a quote without its other half.
fn next_word(rest: &mut Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut line = rest.take()?;
    let skip_blanks =
        |line: &[u8], from: usize| from + line[from..].iter().take_while(|byte| is_blank(**byte)).count();
    let Some(at) = line.iter().position(|byte| is_blank(*byte) || b"\"=".contains(byte)) else {
        return Some(line);
    };
    if line[at] == b'"' {
        line.remove(at);
        let end = at + line[at..].iter().position(|byte| *byte == b'"')?;
        *rest = Some(line[skip_blanks(&line, end + 1)..].to_vec());
        line.truncate(end);
        return Some(line);
    }
    let mut next = skip_blanks(&line, at + 1);
    if line[at] != b'=' && line.get(next) == Some(&b'=') {
        next = skip_blanks(&line, next + 1);
    }
    *rest = Some(line[next..].to_vec());
    line.truncate(at);
    Some(line)
}

/// `argv_split` in misc.c: words with quotes and backslashes, up to a `#`; none for a quote without its other half.
fn arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut rest = line.iter().copied().peekable();
    while let Some(first) = rest.next_if(|byte| *byte != b'#') {
        if b" \t".contains(&first) {
            continue;
        }
        let (mut argument, mut quote) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(byte) = next {
            match (byte, quote) {
                (b'\\', _) => {
                    let escapes = |next: &u8| b"'\"\\".contains(next) || (quote.is_none() && *next == b' ');
                    argument.push(rest.next_if(escapes).unwrap_or(b'\\'));
                }
                (b' ' | b'\t', None) => break,
                (b'"' | b'\'', None) => quote = Some(byte),
                (_, Some(open)) if open == byte => quote = None,
                _ => argument.push(byte),
            }
            next = rest.next();
        }
        if quote.is_some() {
            return None;
        }
        arguments.push(argument);
    }
    Some(arguments)
}
