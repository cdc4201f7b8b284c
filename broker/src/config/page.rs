//! A TOML document as tables whose values know their line.
//!
//! Pure. Whoever reads a table asks it for each key by name and type; whatever
//! was not asked for by the end is unknown and refused, so the list of known
//! keys cannot drift from the code that reads them.

use super::complaint::Complaint;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and the line it was written on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// From 1.
    pub line: usize,
}

/// Collects complaints and turns places in the text into lines.
pub(super) struct Page {
    /// Where each line begins, in bytes.
    starts: Vec<usize>,
    complaints: RefCell<Vec<Complaint>>,
}

impl Page {
    pub(super) fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts, complaints: RefCell::default() }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }

    pub(super) fn complain(&self, line: usize, message: impl Into<String>) {
        self.complaints.borrow_mut().push(Complaint { line, message: message.into() });
    }

    /// What was complained about, where a line that is not even TOML gets no second complaint:
    /// its value was guessed.
    pub(super) fn into_complaints(self, mut syntax: Vec<Complaint>) -> Vec<Complaint> {
        syntax.dedup_by_key(|complaint| complaint.line);
        let mut complaints = self.complaints.into_inner();
        complaints.retain(|complaint| syntax.iter().all(|broken| broken.line != complaint.line));
        complaints.extend(syntax);
        complaints
    }
}

/// One table of the document while it is being read.
pub(super) struct Section<'p> {
    page: &'p Page,
    table: &'p DeTable<'p>,
    /// How a complaint calls it: `[upstream.office]`.
    title: String,
    /// Where it begins.
    pub(super) line: usize,
    asked: RefCell<Vec<&'static str>>,
}

impl<'p> Section<'p> {
    pub(super) fn new(page: &'p Page, table: &'p DeTable<'p>, title: String, line: usize) -> Self {
        Self { page, table, title, line, asked: RefCell::default() }
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.asked.take();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let advice = match closest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let line = self.page.line(&key.span());
            self.say(line, &format!("unknown key {name:?}; {advice}"));
        }
    }

    /// Complains about keys that are not there at all; wrong values complain by themselves.
    pub(super) fn require(&self, keys: &[&str]) {
        for key in keys.iter().filter(|key| !self.table.contains_key(**key)) {
            self.say(self.line, &format!("{key} is missing"));
        }
    }

    pub(super) fn string(&self, key: &'static str) -> Option<At<String>> {
        self.parsed(key, |text| if text.is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) })
    }

    /// A string that has to make sense to `read`, which says in words what is wrong with it.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        self.value(key, |value| match value {
            DeValue::String(text) => read(text),
            other => Err(format!("must be a string, not {}", in_words(other))),
        })
    }

    /// A duration such as `"30s"`, within bounds.
    pub(super) fn duration(&self, key: &'static str, bounds: Range<Duration>) -> Option<At<Duration>> {
        self.parsed(key, |text| {
            let duration = humantime::parse_duration(text)
                .map_err(|_| format!("{text:?} is no duration; write it as \"5s\", \"500ms\" or \"2m\""))?;
            if duration < bounds.start || duration > bounds.end {
                let (from, to) =
                    (humantime::format_duration(bounds.start), humantime::format_duration(bounds.end));
                return Err(format!("must lie between {from} and {to}"));
            }
            Ok(duration)
        })
    }

    /// A whole number within bounds, both included.
    pub(super) fn number(&self, key: &'static str, least: u32, most: u32) -> Option<At<u32>> {
        self.value(key, |value| match value {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| format!("must be a number from {least} to {most}")),
            other => Err(format!("must be a number, not {}", in_words(other))),
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str) -> Option<At<bool>> {
        self.value(key, |value| match value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(format!("must be true or false, not {}", in_words(other))),
        })
    }

    /// Either `true` or a string.
    pub(super) fn true_or_string(&self, key: &'static str) -> Option<At<Option<String>>> {
        self.value(key, |value| match value {
            DeValue::Boolean(true) => Ok(None),
            DeValue::String(text) if !text.is_empty() => Ok(Some(text.to_string())),
            _ => Err("must be true or a non-empty string".into()),
        })
    }

    /// A list of strings; each has to make sense to `read` and keeps its own line. With a wrong one
    /// among them there is no list, so that nobody draws conclusions from the others.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<At<Vec<At<T>>>> {
        let (line, value) = self.ask(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(line, key, &format!("must be a list of strings, not {}", in_words(value.get_ref())));
            return None;
        };
        let mut list = Vec::new();
        for item in items {
            let line = self.page.line(&item.span());
            let read = match item.get_ref() {
                DeValue::String(text) => read(text),
                other => Err(format!("must hold strings, not {}", in_words(other))),
            };
            match read {
                Ok(value) => list.push(At { value, line }),
                Err(message) => self.wrong(line, key, &message),
            }
        }
        (list.len() == items.len()).then_some(At { value: list, line })
    }

    /// A string, or a list of at least one; each has to make sense to `read`.
    pub(super) fn one_or_several<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<At<Vec<T>>> {
        let is_list =
            self.table.iter().any(|(name, value)| name.get_ref() == key && value.get_ref().is_array());
        if !is_list {
            return self.parsed(key, read).map(|one| At { value: vec![one.value], line: one.line });
        }
        let list = self.list(key, read)?;
        if list.value.is_empty() {
            self.wrong(list.line, key, "is an empty list");
            return None;
        }
        Some(At { value: list.value.into_iter().map(|one| one.value).collect(), line: list.line })
    }

    /// A table of strings, each of which has to make sense to `read`.
    pub(super) fn map(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Option<At<BTreeMap<String, String>>> {
        let (line, value) = self.ask(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(line, key, "must be a table such as { web = \"web-01\" }");
            return None;
        };
        let mut map = BTreeMap::new();
        for (name, value) in table {
            let line = self.page.line(&name.span());
            let read = match value.get_ref() {
                DeValue::String(text) => read(text),
                other => Err(format!("must hold strings, not {}", in_words(other))),
            };
            match read {
                Ok(text) if map.contains_key(&name.get_ref().to_lowercase()) => {
                    self.wrong(
                        line,
                        key,
                        &format!("names {:?} twice: case does not matter here ({text:?})", name.get_ref()),
                    );
                }
                Ok(text) => drop(map.insert(name.get_ref().to_lowercase(), text)),
                Err(message) => self.wrong(line, key, &message),
            }
        }
        Some(At { value: map, line })
    }

    /// The table `[key]`.
    pub(super) fn single(&self, key: &'static str) -> Option<Section<'p>> {
        let (line, value) = self.ask(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.page.complain(line, format!("{key:?} must be written as a table: [{key}]"));
            return None;
        };
        Some(Section::new(self.page, table, format!("[{key}]"), line))
    }

    /// The tables in `[key.NAME]`, by name.
    pub(super) fn named(&self, key: &'static str) -> Vec<(String, Section<'p>)> {
        let Some((line, value)) = self.ask(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.page.complain(line, format!("{key:?} must be written as tables, such as [{key}.name]"));
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in tables {
            let line = self.page.line(&name.span());
            match value.get_ref().as_table() {
                Some(table) => {
                    let title = format!("[{key}.{}]", name.get_ref());
                    named.push((name.get_ref().to_string(), Section::new(self.page, table, title, line)));
                }
                None => self.page.complain(
                    line,
                    format!("[{key}] holds named tables; write [{key}.name] above {:?}", name.get_ref()),
                ),
            }
        }
        named
    }

    /// The tables in `[[key]]`, in their order.
    pub(super) fn listed(&self, key: &'static str) -> Vec<Section<'p>> {
        let Some((line, value)) = self.ask(key) else { return Vec::new() };
        let tables =
            value.get_ref().as_array().map(|items| items.iter().map(|i| (i.span(), i.get_ref().as_table())));
        let Some(tables) = tables else {
            self.page.complain(line, format!("write [[{key}]] with two brackets: there may be several"));
            return Vec::new();
        };
        let mut listed = Vec::new();
        for (n, (span, table)) in tables.enumerate() {
            let line = self.page.line(&span);
            match table {
                Some(table) => {
                    listed.push(Section::new(self.page, table, format!("[[{key}]] number {}", n + 1), line));
                }
                None => self.page.complain(line, format!("{key:?} must be written as tables: [[{key}]]")),
            }
        }
        listed
    }

    fn value<T>(&self, key: &'static str, read: impl Fn(&DeValue<'_>) -> Result<T, String>) -> Option<At<T>> {
        let (line, value) = self.ask(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(At { value, line }),
            Err(message) => {
                self.wrong(line, key, &message);
                None
            }
        }
    }

    fn ask(&self, key: &'static str) -> Option<(usize, &'p Spanned<DeValue<'p>>)> {
        self.asked.borrow_mut().push(key);
        let (found, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((self.page.line(&found.span()), value))
    }

    fn wrong(&self, line: usize, key: &str, message: &str) {
        self.say(line, &format!("{key} {message}"));
    }

    fn say(&self, line: usize, message: &str) {
        let title = if self.title.is_empty() { String::new() } else { format!("{}: ", self.title) };
        self.page.complain(line, format!("{title}{message}"));
    }
}

/// The known word that was probably meant.
pub(super) fn closest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
