//! From a file's text to a [`Config`], and from a fault back to the line it stands on.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    check::{self, Host},
};

/// A config together with the file and the lines that its keys stand on.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// What the file says, and the flags that beat it.
    pub config: Config,
    file: Option<PathBuf>,
    /// Dotted key to its line, counted from 1. A key of `[stream]` that an app inherits is not listed under the app.
    lines: BTreeMap<String, usize>,
}

/// What is wrong with a config, and where: displays as `shardcast.toml:12: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, or nothing when the fault stands in a flag or a default.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, when the fault has a place.
    pub line: Option<usize>,
    /// What is wrong, and what to write instead.
    pub why: String,
}

impl Document {
    /// Reads `file`, or takes the defaults when there is none.
    ///
    /// # Errors
    /// The first thing that cannot be read or understood.
    pub fn load(file: Option<&Path>) -> Result<Document, Fault> {
        let Some(file) = file else { return Ok(Document::default()) };
        let text = std::fs::read_to_string(file).map_err(|error| Fault {
            file: Some(file.to_owned()),
            line: None,
            why: format!("cannot be read: {error}"),
        })?;
        Document::parse(&text, file, &|name| std::env::var(name).ok())
    }

    /// Understands `text`, which stands in `file`. `environment` answers each `${NAME}`.
    ///
    /// # Errors
    /// The first thing that cannot be understood, with its line.
    pub fn parse(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Document, Fault> {
        let fault = |offset: Option<usize>, why: String| Fault {
            file: Some(file.to_owned()),
            line: offset.map(|offset| line_of(text, offset)),
            why,
        };
        let toml_fault =
            |error: toml::de::Error| fault(error.span().map(|span| span.start), error.message().to_owned());

        let mut root = DeTable::parse(text).map_err(toml_fault)?;
        substitute(root.get_mut(), environment).map_err(|(offset, why)| fault(Some(offset), why))?;
        let mut lines = BTreeMap::new();
        collect_lines(root.get_ref(), "", text, &mut lines);
        inherit(root.get_mut());
        let config = Config::deserialize(toml::Deserializer::from(root)).map_err(toml_fault)?;
        Ok(Document { config, file: Some(file.to_owned()), lines })
    }

    /// Every rule that the config breaks (see [`check`]). Empty when it may run.
    pub fn check(&self) -> Vec<Fault> {
        self.faults(None)
    }

    /// As [`check`](Self::check), for a program with a node inside: that may have protocols of its own in `[doors.NAME]`, need
    /// not have a door at all, and has no control door but its own.
    pub fn check_for(&self, host: Host<'_>) -> Vec<Fault> {
        self.faults(Some(host))
    }

    fn faults(&self, host: Option<Host<'_>>) -> Vec<Fault> {
        check::check(&self.config, host)
            .into_iter()
            .map(|breach| Fault { file: self.file.clone(), line: self.line(&breach.key), why: breach.why })
            .collect()
    }

    /// The line of `key`, or of the table it belongs to when it is not given itself.
    fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }
}

impl From<Config> for Document {
    /// A config that a program has put together itself: its faults have no line.
    fn from(config: Config) -> Self {
        Document { config, ..Document::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), self.why),
            (Some(file), None) => write!(f, "{}: {}", file.display(), self.why),
            (None, _) => f.write_str(&self.why),
        }
    }
}

impl std::error::Error for Fault {}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Puts the environment's values in the place of each `${NAME}`, in every string of the table.
fn substitute(
    table: &mut DeTable<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), (usize, String)> {
    table.iter_mut().try_for_each(|(_, value)| substitute_value(value, environment))
}

fn substitute_value(
    value: &mut Spanned<DeValue<'_>>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), (usize, String)> {
    let place = value.span().start;
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => {
            *text = expand(text, environment).map_err(|why| (place, why))?.into();
            Ok(())
        }
        DeValue::Array(values) => {
            values.iter_mut().try_for_each(|value| substitute_value(value, environment))
        }
        DeValue::Table(table) => substitute(table, environment),
        _ => Ok(()),
    }
}

fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a \"${\" without its \"}\"")?;
        let value = environment(name).ok_or_else(|| format!("the environment has no {name:?}"))?;
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn collect_lines(table: &DeTable<'_>, prefix: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        if let DeValue::Table(table) = value.get_ref() {
            collect_lines(table, &path, text, lines);
        }
        lines.insert(path, line_of(text, key.span().start));
    }
}

/// Lays each app's table over `[stream]`, so that a key an app does not give is the stream's and not the default.
fn inherit(root: &mut DeTable<'_>) {
    let Some(DeValue::Table(stream)) = root.get("stream").map(|stream| stream.get_ref().clone()) else {
        return;
    };
    let Some(DeValue::Table(apps)) = root.get_mut("apps").map(Spanned::get_mut) else { return };
    for (_, app) in apps.iter_mut() {
        let DeValue::Table(app) = app.get_mut() else { continue };
        for (key, value) in &stream {
            if !app.contains_key(key) {
                app.insert(key.clone(), value.clone());
            }
        }
    }
}
