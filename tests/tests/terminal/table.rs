//! What is typed to whom.

/// What a person does to interrupt, to end the input, and to quit.
const INTERRUPT: &[u8] = b"\x03";
const END: &[u8] = b"\x04";
const QUIT: &[u8] = b"\x1c";

/// What a person does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Waits until this has been shown.
    Sees(&'static str),
    /// Types.
    Types(&'static [u8]),
    /// Makes the window this wide and high.
    Resizes(u16, u16),
    /// Waits until a shell prompts.
    SeesPrompt,
}
use Act::{Resizes, Sees, SeesPrompt, Types};

/// One call, and what is done while it runs.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) options: &'static [&'static str],
    /// Without one, the shell.
    pub(crate) command: &'static str,
    pub(crate) acts: &'static [Act],
}

pub(crate) const fn case(
    options: &'static [&'static str],
    command: &'static str,
    acts: &'static [Act],
) -> Case {
    Case { options, command, acts }
}

/// Says `begin` and waits, in one program, so that whoever has read it may send a signal: between two programs a shell
/// does with one as it likes.
pub(crate) const WAITS: &str = "echo begin >b$$; exec tail -f b$$";
/// A shell that greets with nothing and prompts with `$ `.
const PLAIN: &str = "PS1='$ ' ENV= exec sh -i";

pub(crate) const CASES: &[Case] = &[
    case(&["-t"], "true", &[]),
    case(&["-t"], "exit 7", &[]),
    case(&["-t"], "kill -9 $$", &[]),
    case(&["-t"], "no-such-command-here", &[]),
    case(&["-t"], "test -t 0 && test -t 1 && test -t 2 && echo all three; echo \"$TERM\"; stty size", &[]),
    case(&["-t"], "stty -a", &[]),
    case(&["-tt"], "stty -a", &[]),
    case(&[], "test -t 0 || echo no terminal; sleep 0.1 & wait; echo done", &[]),
    case(&["-T"], "test -t 0 || echo no terminal", &[]),
    case(&["-o", "RequestTTY=yes"], "tty -s; echo $?", &[]),
    case(&["-o", "RequestTTY=force", "-n"], "test -t 0 && echo a terminal", &[]),
    case(&["-o", "RequestTTY=no"], "tty -s; echo $?", &[]),
    case(&["-t", "-T"], "tty -s; echo $?", &[]),
    case(&["-t", "-n"], "echo not with -n", &[]),
    case(&["-t", "-o", "SetEnv=TERM=vt52"], "echo \"$TERM\"", &[]),
    case(&["-t"], "printf out; printf err >&2; printf '\\n'", &[]),
    // Keys, as bytes and as what the node's terminal makes of them.
    case(
        &["-t"],
        "echo begin; cat; echo end",
        &[Sees("begin"), Types(b"typed\r"), Sees("typed\r\ntyped"), Types(END)],
    ),
    case(
        &["-t"],
        "trap 'echo caught; exit 4' INT; echo begin; while :; do sleep 0.1; done",
        &[Sees("begin"), Types(INTERRUPT)],
    ),
    case(&["-t"], WAITS, &[Sees("begin"), Types(INTERRUPT)]),
    case(&["-t"], WAITS, &[Sees("begin"), Types(QUIT)]),
    case(
        &["-t"],
        "stty raw -echo; echo begin; head -c 9 | od -An -tx1",
        &[Sees("begin"), Types(b"\x03\x1a\x1c\x11\x13\x04\r\n\x7f")],
    ),
    // A prompt without the end of a line, as sudo's, behind which nothing is echoed.
    case(
        &["-t"],
        "stty -echo; printf '[sudo] password: '; read -r it; stty echo; echo; echo \"it was $it\"",
        &[Sees("password: "), Types(b"secret\r")],
    ),
    // A pager's way: keys one by one, and the screen it had before.
    case(
        &["-t"],
        "printf '\\033[?1049h'; stty -icanon -echo; printf 'page 1 :'; dd bs=1 count=1 2>/dev/null | od -An -c; printf 'page 2 :'; dd bs=1 count=1 2>/dev/null | od -An -c; printf '\\033[?1049l'",
        &[Sees("page 1 :"), Types(b" "), Sees("page 2 :"), Types(b"q")],
    ),
    // Windows.
    case(
        &["-t"],
        "trap 'stty size; exit' WINCH; stty size; echo begin; while :; do sleep 0.1; done",
        &[Sees("begin"), Resizes(132, 43)],
    ),
    // Shells.
    case(
        &["-t"],
        PLAIN,
        &[Sees("$ "), Types(b"echo here; (exit 3)\r"), Sees("here\r\n$ "), Types(b"exit\r")],
    ),
    case(&["-t"], PLAIN, &[Sees("$ "), Types(b"exit 5\r")]),
    case(&["-t"], PLAIN, &[Sees("$ "), Types(END)]),
    case(
        &["-t"],
        PLAIN,
        &[
            Sees("$ "),
            Types(b"cat\r"),
            Types(b"x\r"),
            Sees("x\r\nx\r\n"),
            Types(INTERRUPT),
            Sees("^C\r\n$ "),
            Types(b"exit\r"),
        ],
    ),
    case(&["-o", "RequestTTY=auto"], "", &[SeesPrompt, Types(b"stty size; exit 9\r")]),
    // The escape character.
    case(&["-t"], WAITS, &[Sees("begin"), Types(b"~.")]),
    case(&["-t"], "echo begin; cat", &[Sees("begin"), Types(b"x~.\r"), Sees("x~.\r\nx~."), Types(b"~.")]),
    case(
        &["-t"],
        "echo begin; cat",
        &[Sees("begin"), Types(b"~~.\r"), Sees("~.\r\n~."), Types(b"~~~x\r"), Sees("~~x\r\n~~x"), Types(END)],
    ),
    case(&["-t", "-e", "%"], WAITS, &[Sees("begin"), Types(b"~.\r"), Sees("~."), Types(b"%.")]),
    case(&["-t", "-e", "^A"], WAITS, &[Sees("begin"), Types(b"\x01.")]),
    case(&["-t", "-o", "EscapeChar=+"], WAITS, &[Sees("begin"), Types(b"+.")]),
    case(
        &["-t", "-e", "none"],
        "echo begin; cat",
        &[Sees("begin"), Types(b"~.\r"), Sees("~.\r\n~."), Types(END)],
    ),
    case(&["-t", "-e", "bad"], "true", &[]),
];
