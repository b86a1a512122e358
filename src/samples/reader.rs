//! Reads `samples.parquet` again, a row group at a time.
//!
//! Columns are found by their names: a file of another version lacks some or has more, and what is needed of it is there
//! all the same. What can fail: a file that is damaged, or that is not one of ours.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use parquet::{
    column::reader::{ColumnReaderImpl, get_typed_column_reader},
    data_type::{BoolType, ByteArrayType, DataType, Int64Type},
    errors::ParquetError,
    file::reader::{FileReader as _, RowGroupReader, SerializedFileReader},
};

use super::{
    Error, FACTS, MISSING,
    batch::OUTCOMES,
    column::{COLUMNS, NONE},
    sink::{ADDED, GAPS, SILENT, TOKENS, WORDS},
};
use crate::{
    load::sample::{Chunk, Outcome, Sample},
    stats::frame::Frame,
};

/// A file of samples.
pub struct Reader {
    path: PathBuf,
    file: SerializedFileReader<File>,
    /// The result, but for what the samples tell.
    pub frame: Frame,
    /// Requests that are not in the file.
    pub missing: u64,
}

/// A request, with what was asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What was measured.
    pub sample: Sample,
    /// Tokens asked of its prompt.
    pub asked_prompt_tokens: Option<u64>,
    /// Tokens asked of its answer at the most.
    pub asked_output_tokens: Option<u64>,
}

impl Reader {
    /// Opens a file and reads its facts.
    ///
    /// # Errors
    /// It cannot be read, or is not of this program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)
            .map_err(ParquetError::from)
            .and_then(SerializedFileReader::new)
            .map_err(|source| Error::Read {
                path: path.to_owned(),
                source,
            })?;
        let foreign = |what: String| Error::Foreign {
            path: path.to_owned(),
            what,
        };
        let facts = file.metadata().file_metadata().key_value_metadata();
        let fact = |key: &str| {
            let found = facts.and_then(|facts| facts.iter().find(|fact| fact.key == key));
            found
                .and_then(|fact| fact.value.as_deref())
                .ok_or_else(|| foreign(format!("has no {key}: it is no file of aif's")))
        };
        let frame = serde_json::from_str(fact(FACTS)?)
            .map_err(|error| foreign(format!("has a {FACTS} that cannot be read: {error}")))?;
        let missing = fact(MISSING)?
            .parse()
            .map_err(|_| foreign(format!("has a {MISSING} that is no number")))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            frame,
            missing,
        })
    }

    /// Gives every request, in the order in which they ended, and counts them.
    ///
    /// # Errors
    /// It is damaged, or lacks a column.
    pub fn each(&self, mut take: impl FnMut(&Request)) -> Result<u64, Error> {
        let mut count = 0;
        for place in 0..self.file.num_row_groups() {
            let requests = self.file.get_row_group(place).and_then(|group| {
                let group = Group::read(&*group)?;
                let mut chunks = group.gaps.iter().copied();
                let mut silent = group.silent.iter().flat_map(|list| list.1.iter().copied());
                let mut counts = group.counts.1.iter().copied();
                for row in 0..group.rows {
                    let mut request = group.request(row, &mut chunks, &mut silent);
                    let own = counts.by_ref().take(group.counts.0[row]);
                    let own = own.map(|count| u32::try_from(count).unwrap_or(0));
                    request.sample.counts.extend(own);
                    take(&request);
                }
                Ok(group.rows)
            });
            count += requests.map_err(|source| Error::Read {
                path: self.path.clone(),
                source,
            })? as u64;
        }
        Ok(count)
    }
}

/// How many values each row has in its list, and all of them.
type Lists = (Vec<usize>, Vec<i64>);

/// A row group.
struct Group {
    rows: usize,
    /// By column, then by row.
    numbers: Vec<Vec<i64>>,
    asked: [Vec<i64>; 2],
    outcomes: Vec<Option<String>>,
    classes: Vec<Option<String>>,
    messages: Vec<Option<String>>,
    /// Chunks that each row has after its first.
    further: Vec<usize>,
    gaps: Vec<i64>,
    /// The same of events without text; `None` of an earlier file, which has the first and the last of them.
    silent: Option<Lists>,
    /// Tokens of each chunk; earlier files have none.
    counts: Lists,
}

impl Group {
    fn read(group: &dyn RowGroupReader) -> Result<Self, ParquetError> {
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let columns = Columns { group, rows };
        let numbers = COLUMNS.iter().map(|column| {
            if column.is_flag() {
                columns.flags(column.0)
            } else {
                columns.numbers(column.0)
            }
        });
        let [prompt, output, _] = ADDED;
        let [outcome, class, message, ..] = WORDS;
        let none = || (vec![0; rows], Vec::new());
        let (further, gaps) = columns.gaps(GAPS)?.unwrap_or_else(none);
        Ok(Self {
            rows,
            numbers: numbers.collect::<Result<_, _>>()?,
            asked: [columns.numbers(prompt)?, columns.numbers(output)?],
            outcomes: columns.words(outcome)?,
            classes: columns.words(class)?,
            messages: columns.words(message)?,
            further,
            gaps,
            silent: columns.gaps(SILENT)?,
            counts: columns.gaps(TOKENS)?.unwrap_or_else(none),
        })
    }

    fn request(
        &self,
        row: usize,
        gaps: &mut impl Iterator<Item = i64>,
        silent: &mut impl Iterator<Item = i64>,
    ) -> Request {
        let mut sample = Sample {
            chunks: Vec::with_capacity(self.further[row] + 1),
            outcome: self.outcome(row),
            ..Sample::planned(0, Duration::ZERO)
        };
        for (column, values) in COLUMNS.iter().zip(&self.numbers) {
            column.set(&mut sample, values[row]);
        }
        for gap in gaps.take(self.further[row]) {
            let before = sample.last_token().unwrap_or_default();
            sample.chunks.push(Chunk {
                at: before + nanoseconds(gap),
            });
        }
        if let Some((counts, _)) = &self.silent {
            sample.silent.truncate(1);
            for gap in silent.take(counts[row]) {
                let before = sample.silent.last().copied().unwrap_or_default();
                sample.silent.push(before + nanoseconds(gap));
            }
        }
        let [asked_prompt_tokens, asked_output_tokens] =
            [&self.asked[0], &self.asked[1]].map(|asked| u64::try_from(asked[row]).ok());
        Request {
            sample,
            asked_prompt_tokens,
            asked_output_tokens,
        }
    }

    fn outcome(&self, row: usize) -> Outcome {
        let [success, _, timeout, cancelled, never_sent] = OUTCOMES;
        match self.outcomes[row].as_deref() {
            Some(word) if word == success => Outcome::Success,
            Some(word) if word == timeout => Outcome::Timeout,
            Some(word) if word == cancelled => Outcome::Cancelled,
            Some(word) if word == never_sent => Outcome::NeverSent,
            _ => Outcome::Error(
                self.classes[row].clone().unwrap_or_default(),
                self.messages[row].clone().unwrap_or_default(),
            ),
        }
    }
}

/// The columns of a row group.
struct Columns<'a> {
    group: &'a dyn RowGroupReader,
    rows: usize,
}

impl Columns<'_> {
    /// The column of this name; nothing where the file has none.
    fn open<T: DataType>(&self, name: &str) -> Result<Option<ColumnReaderImpl<T>>, ParquetError> {
        let columns = self.group.metadata().columns();
        let found = columns.iter().position(|column| {
            let path = column.column_path().parts();
            path.first().is_some_and(|first| first == name)
        });
        let Some(place) = found else { return Ok(None) };
        if columns[place].column_type() != T::get_physical_type() {
            let what = format!("column {name} is of another type");
            return Err(ParquetError::General(what));
        }
        let reader = self.group.get_column_reader(place)?;
        Ok(Some(get_typed_column_reader(reader)))
    }

    /// A value for each row, where there is one.
    fn values<T: DataType>(&self, name: &str) -> Result<Vec<Option<T::T>>, ParquetError> {
        let Some(mut reader) = self.open::<T>(name)? else {
            return Ok(vec![None; self.rows]);
        };
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (records, _, _) =
            reader.read_records(self.rows, Some(&mut levels), None, &mut values)?;
        if records != self.rows {
            let what = format!("column {name} ends early");
            return Err(ParquetError::General(what));
        }
        if levels.is_empty() {
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        let known = levels.iter().map(|level| match level {
            0 => None,
            _ => values.next(),
        });
        Ok(known.collect())
    }

    fn numbers(&self, name: &str) -> Result<Vec<i64>, ParquetError> {
        let values = self.values::<Int64Type>(name)?.into_iter();
        Ok(values.map(|value| value.unwrap_or(NONE)).collect())
    }

    fn flags(&self, name: &str) -> Result<Vec<i64>, ParquetError> {
        let values = self.values::<BoolType>(name)?.into_iter();
        Ok(values.map(|value| value.map_or(NONE, i64::from)).collect())
    }

    fn words(&self, name: &str) -> Result<Vec<Option<String>>, ParquetError> {
        let values = self.values::<ByteArrayType>(name)?.into_iter();
        let word = |word: Option<parquet::data_type::ByteArray>| {
            word.map(|word| String::from_utf8_lossy(word.data()).into_owned())
        };
        Ok(values.map(word).collect())
    }

    /// How many gaps each row has in a list of this name, and all of them; `None` where the file has no such list.
    fn gaps(&self, name: &str) -> Result<Option<Lists>, ParquetError> {
        let Some(mut reader) = self.open::<Int64Type>(name)? else {
            return Ok(None);
        };
        let mut lengths = Vec::with_capacity(self.rows);
        let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        reader.read_records(
            self.rows,
            Some(&mut defined),
            Some(&mut repeated),
            &mut values,
        )?;
        for (defined, repeated) in defined.into_iter().zip(repeated) {
            let one = usize::from(defined > 0);
            match lengths.last_mut() {
                Some(last) if repeated > 0 => *last += one,
                _ => lengths.push(one),
            }
        }
        lengths.resize(self.rows, 0);
        Ok(Some((lengths, values)))
    }
}

fn nanoseconds(gap: i64) -> Duration {
    Duration::from_nanos(u64::try_from(gap).unwrap_or(0))
}
