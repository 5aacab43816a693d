//! The JSON format: one object for each line.
//!
//! The keys `timestamp`, `level`, `target` and `message` come first. The fields of the line follow
//! on the same level, and so do the fields of its spans. So a program finds the names of a step at
//! the same place in each line.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::find_unprintable;

/// Formats events as JSON objects. The fields of spans must be formatted as JSON objects, too.
pub(super) struct JsonLines;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        // A field of the line wins against a field of a span, and an inner span against an outer.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(outer) = extensions.get::<FormattedFields<N>>() else {
                continue;
            };
            let outer: Map<String, Value> = serde_json::from_str(&outer.fields).unwrap_or_default();
            for (name, value) in outer {
                fields.others.entry(name).or_insert(value);
            }
        }
        let metadata = event.metadata();
        let line = Line {
            timestamp,
            level: metadata.level().as_str(),
            target: fields.target.as_deref().unwrap_or(metadata.target()),
            message: fields.message,
            fields: fields.others,
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        write_escaped(&mut writer, &line)?;
        writeln!(writer)
    }
}

/// Writes a line of JSON with its unprintable characters as escapes of JSON. All unprintable
/// characters are in strings. Some viewers and libraries treat them as the end of a line.
fn write_escaped(writer: &mut impl Write, mut json: &str) -> fmt::Result {
    while let Some(at) = find_unprintable(json) {
        let (before, from) = json.split_at(at);
        writer.write_str(before)?;
        let mut chars = from.chars();
        let mut units = [0; 2];
        let units = chars.next().map(|c| c.encode_utf16(&mut units));
        for unit in units.into_iter().flatten() {
            write!(writer, "\\u{unit:04x}")?;
        }
        json = chars.as_str();
    }
    writer.write_str(json)
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    /// The target of an event of the crate `log`.
    target: Option<String>,
    others: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        match (field.name(), value.into()) {
            ("message", Value::String(text)) => self.message = text,
            ("log.target", Value::String(text)) => self.target = Some(text),
            // These would be in the line twice, or are of no use.
            ("timestamp" | "level" | "target" | "message", _) => {}
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    /// `Duration::as_micros` has this type.
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.insert(field, u64::try_from(value).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_keep_the_value() {
        let value = "a\u{7f}\u{85}\u{2028}\u{202e}\u{e0041}ä";
        let mut line = String::new();
        write_escaped(&mut line, &serde_json::to_string(value).unwrap()).unwrap();
        assert_eq!(line, r#""a\u007f\u0085\u2028\u202e\udb40\udc41ä""#);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), value);
    }
}
