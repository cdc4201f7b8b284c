//! The caller's terminal, as a node is told of it.

use natssh_wire::terminal::{Size, Terminal};
use rustix::stdio::stdin;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
};

/// What a special character is where it is switched off (`_POSIX_VDISABLE`), and how that is told.
const OFF: (u8, u32) = (if cfg!(target_os = "linux") { 0 } else { 0xff }, 255);
/// Opcodes of the speeds.
const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;
/// The speeds that ssh tells as they are, and what it tells for every other.
const SPEEDS: [u32; 23] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 7200, 9600, 14400, 19200, 28800, 38400,
    57600, 76800, 115_200, 230_400,
];
const USUAL_SPEED: u32 = 9600;

/// The terminal that standard input is; the usual one where it is none.
pub(super) fn callers() -> Terminal {
    match tcgetattr(stdin()) {
        // A size that nobody knows is 0, as with ssh.
        Ok(now) => Terminal { size: size().unwrap_or(UNKNOWN), modes: modes(&now) },
        Err(_) => Terminal::default(),
    }
}

const UNKNOWN: Size = Size { columns: 0, rows: 0, width: 0, height: 0 };

/// How large standard input is, where it is a terminal.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(Size {
        columns: size.ws_col.into(),
        rows: size.ws_row.into(),
        width: size.ws_xpixel.into(),
        height: size.ws_ypixel.into(),
    })
}

/// What ssh tells of a terminal, in its order (ttymodes.h), by the opcodes of RFC 4254, 8.
fn modes(now: &Termios) -> Vec<(u8, u32)> {
    let speed = |speed: u32| if SPEEDS.contains(&speed) { speed } else { USUAL_SPEED };
    let mut modes = vec![(OUTPUT_SPEED, speed(now.output_speed())), (INPUT_SPEED, speed(now.input_speed()))];
    modes.extend(CHARACTERS.iter().map(|(index, opcode)| match now.special_codes[*index] {
        code if code == OFF.0 => (*opcode, OFF.1),
        code => (*opcode, code.into()),
    }));
    let flag = |is_on: bool, opcode: u8| (opcode, u32::from(is_on));
    modes.extend(INPUT.iter().map(|(mode, opcode)| flag(now.input_modes.intersects(*mode), *opcode)));
    modes.extend(LOCAL.iter().map(|(mode, opcode)| flag(now.local_modes.intersects(*mode), *opcode)));
    modes.extend(OUTPUT.iter().map(|(mode, opcode)| flag(now.output_modes.intersects(*mode), *opcode)));
    // CS7 is one of the two bits of CS8, and ssh asks no more closely.
    modes.extend(CONTROL.iter().map(|(mode, opcode)| flag(now.control_modes.intersects(*mode), *opcode)));
    modes
}

const CHARACTERS: [(SpecialCodeIndex, u8); 14] = [
    (SpecialCodeIndex::VINTR, 1),
    (SpecialCodeIndex::VQUIT, 2),
    (SpecialCodeIndex::VERASE, 3),
    (SpecialCodeIndex::VKILL, 4),
    (SpecialCodeIndex::VEOF, 5),
    (SpecialCodeIndex::VEOL, 6),
    (SpecialCodeIndex::VEOL2, 7),
    (SpecialCodeIndex::VSTART, 8),
    (SpecialCodeIndex::VSTOP, 9),
    (SpecialCodeIndex::VSUSP, 10),
    (SpecialCodeIndex::VREPRINT, 12),
    (SpecialCodeIndex::VWERASE, 13),
    (SpecialCodeIndex::VLNEXT, 14),
    (SpecialCodeIndex::VDISCARD, 18),
];

const INPUT: &[(InputModes, u8)] = &[
    (InputModes::IGNPAR, 30),
    (InputModes::PARMRK, 31),
    (InputModes::INPCK, 32),
    (InputModes::ISTRIP, 33),
    (InputModes::INLCR, 34),
    (InputModes::IGNCR, 35),
    (InputModes::ICRNL, 36),
    #[cfg(target_os = "linux")]
    (InputModes::IUCLC, 37),
    (InputModes::IXON, 38),
    (InputModes::IXANY, 39),
    (InputModes::IXOFF, 40),
    (InputModes::IMAXBEL, 41),
    (InputModes::IUTF8, 42),
];

const LOCAL: &[(LocalModes, u8)] = &[
    (LocalModes::ISIG, 50),
    (LocalModes::ICANON, 51),
    #[cfg(target_os = "linux")]
    (LocalModes::XCASE, 52),
    (LocalModes::ECHO, 53),
    (LocalModes::ECHOE, 54),
    (LocalModes::ECHOK, 55),
    (LocalModes::ECHONL, 56),
    (LocalModes::NOFLSH, 57),
    (LocalModes::TOSTOP, 58),
    (LocalModes::IEXTEN, 59),
    (LocalModes::ECHOCTL, 60),
    (LocalModes::ECHOKE, 61),
    (LocalModes::PENDIN, 62),
];

const OUTPUT: &[(OutputModes, u8)] = &[
    (OutputModes::OPOST, 70),
    #[cfg(target_os = "linux")]
    (OutputModes::OLCUC, 71),
    (OutputModes::ONLCR, 72),
    (OutputModes::OCRNL, 73),
    (OutputModes::ONOCR, 74),
    (OutputModes::ONLRET, 75),
];

const CONTROL: &[(ControlModes, u8)] = &[
    (ControlModes::CS7, 90),
    (ControlModes::CS8, 91),
    (ControlModes::PARENB, 92),
    (ControlModes::PARODD, 93),
];
