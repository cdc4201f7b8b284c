//! The campaign as a table in Markdown: a fault a line, a way in a column.

use crate::cell::Cell;
use crate::faults::Fault;
use natssh_tests::way::Way;

/// What fits into a cell.
const WIDTH: usize = 110;

/// Prints it; a cell says what was seen, how long the command took and how long recovery did.
pub(crate) fn print(faults: &[&Fault], columns: &[Vec<Cell>]) -> String {
    let names: Vec<_> = Way::ALL.iter().map(Way::to_string).collect();
    let mut page = format!("\n| fault | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (n, fault) in faults.iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|column| words(&column[n])).collect();
        page += &format!("| {} | {} |\n", fault.name, cells.join(" | "));
    }
    page
}

/// One cell.
pub(crate) fn words(cell: &Cell) -> String {
    let mut seen: String = cell.seen.chars().filter(|c| *c != '|').take(WIDTH).collect();
    if cell.seen.chars().count() > WIDTH {
        seen.push('…');
    }
    let seconds = |took: std::time::Duration| format!("{:.1} s", took.as_secs_f64());
    match (cell.took, cell.recovered) {
        (Some(took), Some(recovered)) => {
            format!("{seen} ({}, well again in {})", seconds(took), seconds(recovered))
        }
        (Some(took), None) => format!("{seen} ({}, not well again)", seconds(took)),
        _ => seen,
    }
}
