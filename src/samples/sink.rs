//! Writes rows into a Parquet file: batches are gathered to a row group, and its columns written one after another.
//!
//! Times change little from row to row, so they are written as differences, bit-packed; words go into a dictionary; all
//! of it through zstd at its fastest. What can fail: the disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, TypePtr},
    },
};

use super::{
    Error, FACTS, MISSING, Setup, Written,
    batch::{Batch, Row},
    column::{COLUMNS, INDEX, INTENDED, NONE, nanoseconds},
    file_name,
};

/// Bytes of the rows that make a row group, before they are written.
const GROUP: usize = 8 << 20;
/// Bytes of a page.
const PAGE: usize = 64 << 10;

/// Columns of words.
pub(super) const WORDS: [&str; 5] = ["outcome", "error_class", "error_message", "phase", "target"];
/// Columns of numbers that the writer adds.
pub(super) const ADDED: [&str; 3] = ["asked_prompt_tokens", "asked_output_tokens", "task"];
/// The column of gaps between chunks.
pub(super) const GAPS: &str = "chunk_gaps_ns";
/// The column of gaps between events without text: with the first of them it tells them all.
pub(super) const SILENT: &str = "silent_gaps_ns";
/// The column of the tokens of each chunk: nothing where the server did not tell them with each.
pub(super) const TOKENS: &str = "chunk_tokens";
/// All lists.
const LISTS: [&str; 3] = [GAPS, SILENT, TOKENS];

/// A file that is being written.
pub(super) struct Sink {
    setup: Setup,
    path: PathBuf,
    temporary: Temporary,
    writer: SerializedFileWriter<File>,
    group: Vec<Batch>,
    bytes: usize,
    rows: u64,
}

/// A file that goes unless it is kept.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl Sink {
    /// Makes the file; what an earlier load left there goes, for it does not belong to the result that comes.
    pub(super) fn create(setup: Setup) -> Result<Self, Error> {
        let name = file_name(setup.task);
        let path = setup.folder.join(&name);
        let start = format!(".{name}.");
        crate::files::remove_named(&setup.folder, &start);
        let temporary = setup.folder.join(format!("{start}{}", std::process::id()));
        let made = (|| {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            File::create_new(&temporary)
        })();
        let written = |error| failed(&path, error);
        let file = made.map_err(|error| written(error.into()))?;
        let temporary = Temporary(Some(temporary));
        let schema = schema().map_err(written)?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties()));
        Ok(Self {
            writer: writer.map_err(written)?,
            setup,
            path,
            temporary,
            group: Vec::new(),
            bytes: 0,
            rows: 0,
        })
    }

    /// Takes a batch; gives those back that were written.
    pub(super) fn take(&mut self, mut batch: Batch) -> Result<Vec<Batch>, Error> {
        for row in &mut batch.rows {
            let asked = (self.setup.asked)(u64::try_from(row.values[INDEX]).unwrap_or(0));
            row.asked_prompt = asked
                .and_then(|asked| asked.prompt_tokens)
                .map_or(NONE, i64::from);
            row.asked_output = asked.map_or(NONE, |asked| asked.max_tokens.into());
        }
        self.bytes += batch.bytes();
        self.group.push(batch);
        if self.bytes < GROUP {
            return Ok(Vec::new());
        }
        self.flush()
    }

    /// Writes a row group.
    fn flush(&mut self) -> Result<Vec<Batch>, Error> {
        let mut group = std::mem::take(&mut self.group);
        self.bytes = 0;
        let rows: usize = group.iter().map(|batch| batch.rows.len()).sum();
        self.rows += rows as u64;
        if rows > 0 {
            self.write(&group)
                .map_err(|error| failed(&self.path, error))?;
        }
        group.iter_mut().for_each(Batch::clear);
        Ok(group)
    }

    fn write(&mut self, group: &[Batch]) -> Result<(), ParquetError> {
        let Setup {
            window,
            targets,
            task,
            ..
        } = &self.setup;
        let mut writer = self.writer.next_row_group()?;
        let mut column =
            |write: &mut dyn FnMut(&mut SerializedColumnWriter<'_>) -> Result<(), ParquetError>| {
                let mut column = writer.next_column()?.ok_or_else(|| {
                    ParquetError::General("the schema has fewer columns".to_owned())
                })?;
                write(&mut column)?;
                column.close()
            };
        for (place, kind) in COLUMNS.iter().enumerate() {
            let value = |row: &Row| row.values[place];
            if kind.is_flag() {
                column(&mut |column| flags(column, group, value))?;
            } else {
                column(&mut |column| numbers(column, group, kind.is_optional(), value))?;
            }
        }
        column(&mut |column| numbers(column, group, true, |row| row.asked_prompt))?;
        column(&mut |column| numbers(column, group, true, |row| row.asked_output))?;
        let task = i64::from(task.unwrap_or(0));
        column(&mut |column| numbers(column, group, false, |_| task))?;

        let window = window.get();
        let [start, end] = [window.map(|all| all.start), window.map(|all| all.end)]
            .map(|at| nanoseconds(at.unwrap_or(Duration::MAX)));
        let phases = ["warmup", "measure", "drain"].map(ByteArray::from);
        let outcomes = super::batch::OUTCOMES.map(|name| (name, ByteArray::from(name)));
        let targets: Vec<ByteArray> = targets.iter().map(|url| url.as_str().into()).collect();
        column(&mut |column| {
            words(column, group, false, |_, row| {
                let found = outcomes.iter().find(|(name, _)| *name == row.outcome);
                found.map(|(_, word)| word.clone())
            })
        })?;
        let error = |batch: &Batch, row: &Row| {
            let place = (row.error as usize).checked_sub(1)?;
            batch.errors.get(place).cloned()
        };
        column(&mut |column| {
            words(column, group, true, |batch, row| {
                Some(error(batch, row)?.0.as_str().into())
            })
        })?;
        column(&mut |column| {
            words(column, group, true, |batch, row| {
                Some(error(batch, row)?.1.as_str().into())
            })
        })?;
        column(&mut |column| {
            words(column, group, false, |_, row| {
                let at = row.values[INTENDED];
                Some(phases[usize::from(at >= start) + usize::from(at >= end)].clone())
            })
        })?;
        column(&mut |column| {
            words(column, group, true, |_, row| {
                let index = usize::try_from(row.values[INDEX]).unwrap_or(0);
                targets.get(index.checked_rem(targets.len())?).cloned()
            })
        })?;
        column(&mut |column| gaps(column, group, |batch| &batch.gaps, |row| row.gaps))?;
        column(&mut |column| gaps(column, group, |batch| &batch.silent, |row| row.silent))?;
        column(&mut |column| gaps(column, group, |batch| &batch.counts, |row| row.counts))?;
        writer.close()?;
        Ok(())
    }

    /// Writes what is left, and gives the file its name.
    pub(super) fn close(mut self, missing: u64, facts: &str) -> Result<Written, Error> {
        self.flush()?;
        for (key, value) in [(FACTS, facts.to_owned()), (MISSING, missing.to_string())] {
            self.writer
                .append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let written = |error| failed(&self.path, error);
        let file = self.writer.into_inner().map_err(written)?;
        let temporary = self.temporary.0.as_deref().unwrap_or(&self.path);
        file.sync_all()
            .and_then(|()| fs::rename(temporary, &self.path))
            .map_err(|error| written(error.into()))?;
        self.temporary.0 = None;
        Ok(Written {
            path: self.path,
            rows: self.rows,
            missing,
        })
    }
}

#[cfg(test)]
impl Sink {
    /// From now on its disk has no room.
    pub(super) fn fill_disk(&mut self) {
        let full = File::options().write(true).open("/dev/full");
        *self.writer.inner_mut() = full.expect("Linux has it");
    }
}

fn failed(path: &Path, source: ParquetError) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}

fn schema() -> Result<TypePtr, ParquetError> {
    let mut text = "message request {".to_owned();
    let mut add = |line: &str| {
        text.push_str(line);
        text.push_str(if line.ends_with('}') { " " } else { "; " });
    };
    for column in COLUMNS {
        let need = if column.is_optional() {
            "optional"
        } else {
            "required"
        };
        let kind = if column.is_flag() { "boolean" } else { "int64" };
        add(&format!("{need} {kind} {}", column.0));
    }
    let [prompt, output, task] = ADDED;
    add(&format!("optional int64 {prompt}"));
    add(&format!("optional int64 {output}"));
    add(&format!("required int64 {task}"));
    let [outcome, class, message, phase, target] = WORDS;
    for (need, name) in [
        ("required", outcome),
        ("optional", class),
        ("optional", message),
        ("required", phase),
        ("optional", target),
    ] {
        add(&format!("{need} binary {name} (UTF8)"));
    }
    for list in LISTS {
        add(&format!(
            "required group {list} (LIST) {{ repeated group list {{ required int64 element; }} }}"
        ));
    }
    text.push('}');
    parse_message_type(&text).map(Arc::new)
}

fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("aif ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(PAGE)
        // of pages they would be kept until the end
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for column in COLUMNS.iter().filter(|column| !column.is_flag()) {
        properties = properties
            .set_column_encoding(ColumnPath::from(column.0), Encoding::DELTA_BINARY_PACKED);
    }
    for name in ADDED {
        properties =
            properties.set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in WORDS {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), true);
    }
    for list in LISTS {
        let element = [list, "list", "element"].map(str::to_owned).to_vec();
        properties =
            properties.set_column_encoding(ColumnPath::new(element), Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

fn numbers(
    column: &mut SerializedColumnWriter<'_>,
    group: &[Batch],
    is_optional: bool,
    value: impl Fn(&Row) -> i64,
) -> Result<(), ParquetError> {
    let writer = column.typed::<Int64Type>();
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for batch in group {
        let all = batch.rows.iter().map(&value);
        values.clear();
        levels.clear();
        if is_optional {
            levels.extend(all.clone().map(|value| i16::from(value != NONE)));
            values.extend(all.filter(|value| *value != NONE));
            writer.write_batch(&values, Some(&levels), None)?;
        } else {
            values.extend(all);
            writer.write_batch(&values, None, None)?;
        }
    }
    Ok(())
}

fn flags(
    column: &mut SerializedColumnWriter<'_>,
    group: &[Batch],
    value: impl Fn(&Row) -> i64,
) -> Result<(), ParquetError> {
    let writer = column.typed::<BoolType>();
    for batch in group {
        let values: Vec<bool> = batch.rows.iter().map(|row| value(row) == 1).collect();
        writer.write_batch(&values, None, None)?;
    }
    Ok(())
}

fn words(
    column: &mut SerializedColumnWriter<'_>,
    group: &[Batch],
    is_optional: bool,
    word: impl Fn(&Batch, &Row) -> Option<ByteArray>,
) -> Result<(), ParquetError> {
    let writer = column.typed::<ByteArrayType>();
    for batch in group {
        let all: Vec<Option<ByteArray>> = batch.rows.iter().map(|row| word(batch, row)).collect();
        let levels: Vec<i16> = all.iter().map(|word| i16::from(word.is_some())).collect();
        let values: Vec<ByteArray> = all.into_iter().flatten().collect();
        writer.write_batch(&values, is_optional.then_some(&levels), None)?;
    }
    Ok(())
}

/// A list a row: empty where there is no second event, or nothing is known of them.
fn gaps(
    column: &mut SerializedColumnWriter<'_>,
    group: &[Batch],
    values: fn(&Batch) -> &Vec<i64>,
    count: fn(&Row) -> u32,
) -> Result<(), ParquetError> {
    let writer = column.typed::<Int64Type>();
    let (mut defined, mut repeated) = (Vec::new(), Vec::new());
    for batch in group {
        defined.clear();
        repeated.clear();
        for row in &batch.rows {
            defined.push(i16::from(count(row) > 0));
            repeated.push(0);
            for _ in 1..count(row) {
                defined.push(1);
                repeated.push(1);
            }
        }
        writer.write_batch(values(batch), Some(&defined), Some(&repeated))?;
    }
    Ok(())
}
