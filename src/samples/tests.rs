//! What was written is what is read, whatever happens in between.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    load::{
        sample::{Chunk, Outcome},
        workload::Asked,
    },
    samples::{self, files_in, reader::Reader},
    stats::frame::Frame,
};

fn sample(index: u64) -> Sample {
    let ms = Duration::from_millis;
    let intended = ms(index) + Duration::from_nanos(index * 7919 % 1000);
    let nothing = Sample::planned(index, intended);
    let mut sample = Sample {
        sent: Some(intended + Duration::from_nanos(index)),
        connect: index
            .is_multiple_of(5)
            .then(|| Duration::from_nanos(index + 1)),
        first_byte: Some(intended + ms(3)),
        status: Some(200),
        chunks: (0..index % 9)
            .map(|at| Chunk {
                at: intended + ms(5 * at + 4) + Duration::from_nanos(at * at),
            })
            .collect(),
        // some have none, some more than the first and the last
        silent: (0..index % 5)
            .map(|at| intended + ms(7 * at + 3) + Duration::from_nanos(at))
            .collect(),
        // of some answers the server told the tokens of each chunk
        counts: (0..if index.is_multiple_of(4) {
            index % 9
        } else {
            0
        })
            .map(|at| u32::try_from(at * index % 5).expect("small"))
            .collect(),
        end: intended + ms(100),
        prompt_tokens: Some(index % 100),
        output_tokens: (!index.is_multiple_of(3)).then_some(index % 9),
        ..nothing
    };
    sample.outcome = match index % 11 {
        7 => Outcome::Error("http_503".to_owned(), "busy".to_owned()),
        8 => Outcome::Error("connect".to_owned(), "é".repeat(1000)),
        9 => Outcome::Timeout,
        10 => Outcome::Cancelled,
        _ => Outcome::Success,
    };
    if index % 101 == 100 {
        (sample.sent, sample.first_byte, sample.dropped) = (None, None, true);
        sample.outcome = Outcome::NeverSent;
        sample.chunks.clear();
        sample.silent.clear();
        sample.counts.clear();
    }
    sample
}

fn setup(folder: &Path) -> Setup {
    Setup {
        folder: folder.to_owned(),
        task: None,
        tasks: 1,
        window: Arc::new(OnceLock::from(Frame::example().planned)),
        targets: vec!["http://a".to_owned(), "http://b".to_owned()],
        asked: Box::new(|index| {
            Some(Asked {
                prompt_tokens: (index % 2 == 0).then_some(16),
                max_tokens: u32::try_from(index % 50).expect("small"),
            })
        }),
    }
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// One whose writer does not come to it.
fn asleep(sink: Sink) -> Recorder {
    let (sender, full) = channel();
    Recorder {
        tasks: 1,
        window: Arc::default(),
        slots: slots(1, &sender),
        shared: Arc::default(),
        writer: Mutex::new(Some(thread::spawn(move || Ok(Rest { sink, full })))),
    }
}

#[test]
fn every_request_comes_back_as_it_was() {
    // several row groups, the last of them not full
    const COUNT: u64 = 50_000;
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::begin(setup(folder.path()), 1).unwrap();
    for index in 0..COUNT {
        recorder.take(&sample(index));
    }
    let facts = serde_json::to_string(&Frame::example()).unwrap();
    let written = recorder.finish(&facts).unwrap();
    assert_eq!((written.rows, written.missing), (COUNT, 0));
    assert_eq!(names(&folder), ["samples.parquet"]);
    assert_eq!(files_in(folder.path()), std::slice::from_ref(&written.path));

    let reader = Reader::open(&written.path).unwrap();
    assert_eq!((reader.missing, &reader.frame), (0, &Frame::example()));
    let mut next = 0;
    let count = reader.each(|request| {
        let mut wanted = sample(next);
        if let Outcome::Error(_, message) = &mut wanted.outcome {
            message.truncate(256);
        }
        assert_eq!(request.sample, wanted);
        assert_eq!(request.asked_prompt_tokens, (next % 2 == 0).then_some(16));
        assert_eq!(request.asked_output_tokens, Some(next % 50));
        next += 1;
    });
    assert_eq!((count.unwrap(), next), (COUNT, COUNT));
}

#[test]
fn workers_write_at_once_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::begin(setup(folder.path()), 4).unwrap());
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let recorder = Some(Arc::clone(&recorder));
            thread::spawn(move || {
                for index in (worker..4000).step_by(4) {
                    recorder.ended(&sample(index));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let written = recorder.finish(&serde_json::to_string(&Frame::example()).unwrap());
    let written = written.unwrap();
    let mut seen = Vec::new();
    let reader = Reader::open(&written.path).unwrap();
    reader
        .each(|request| seen.push(request.sample.index))
        .unwrap();
    assert_eq!((written.rows, written.missing), (4000, 0));
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..4000));
}

#[test]
fn a_load_without_requests_leaves_a_file_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::begin(setup(folder.path()), 1).unwrap();
    let facts = serde_json::to_string(&Frame::example()).unwrap();
    let written = recorder.finish(&facts).unwrap();
    let reader = Reader::open(&written.path).unwrap();
    assert_eq!(reader.each(|_| panic!("a row")).unwrap(), 0);
}

#[test]
fn a_load_that_is_given_up_leaves_no_file_and_takes_that_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    crate::files::write_json(&folder.path().join("samples.parquet"), &1).unwrap();
    crate::files::write_json(&folder.path().join(".samples.parquet.1"), &1).unwrap();
    crate::files::write_json(&folder.path().join("samples-1.parquet"), &1).unwrap();
    let recorder = Recorder::begin(setup(folder.path()), 1).unwrap();
    let begun = format!(".samples.parquet.{}", std::process::id());
    assert_eq!(names(&folder), [begun.as_str(), "samples-1.parquet"]);
    recorder.take(&sample(1));
    drop(recorder);
    assert_eq!(names(&folder), ["samples-1.parquet"]);
}

#[test]
fn what_nobody_writes_is_counted_and_memory_ends() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::create(setup(folder.path())).unwrap();
    let recorder = asleep(sink);
    let each = {
        let mut batch = Batch::default();
        batch.take(&sample(17));
        batch.bytes() as u64
    };
    let count = 2 * MOST as u64 / each;
    for _ in 0..count {
        recorder.take(&sample(17));
    }
    let facts = serde_json::to_string(&Frame::example()).unwrap();
    let written = recorder.finish(&facts).unwrap();
    assert_eq!(written.rows + written.missing, count);
    let held = written.rows * each;
    // a batch is over its size by a row
    assert!(held <= (MOST + MOST / 10) as u64, "{held} bytes");
    assert!(held >= (MOST / 2) as u64, "{held} bytes");
    let reader = Reader::open(&written.path).unwrap();
    assert_eq!(reader.missing, written.missing);
}

#[test]
fn a_full_disk_costs_the_samples_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::create(setup(folder.path())).unwrap();
    sink.fill_disk();
    let recorder = asleep(sink);
    recorder.take(&sample(1));
    let error = recorder.finish("{}").unwrap_err();
    let told = format!("{:#}", anyhow::Error::from(error));
    assert!(told.contains("No space left on device"), "{told}");
    assert!(told.contains("samples.parquet"), "{told}");
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = Recorder::begin(setup(&missing), 1).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}

#[test]
fn a_file_that_is_not_ours_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.parquet");
    crate::files::write_json(&path, &"no parquet").unwrap();
    let error = Reader::open(&path).err().unwrap();
    assert!(error.to_string().starts_with("cannot read "), "{error}");

    let recorder = Recorder::begin(setup(folder.path()), 1).unwrap();
    recorder.take(&sample(1));
    let written = recorder.finish("{\"results\": 1}").unwrap();
    let error = Reader::open(&written.path).err().unwrap();
    assert!(
        error
            .to_string()
            .contains("has a aif.facts that cannot be read"),
        "{error}"
    );
    let bytes = fs::read(&written.path).unwrap();
    crate::files::write_atomic(
        &written.path,
        &bytes[..bytes.len() / 2],
        0o644,
        crate::files::Durability::Fast,
    )
    .unwrap();
    assert!(Reader::open(&written.path).is_err());
}

#[test]
fn tasks_have_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let name = |task| folder.path().join(samples::file_name(task));
    for task in [Some(10), None, Some(2)] {
        crate::files::write_json(&name(task), &1).unwrap();
    }
    crate::files::write_json(&folder.path().join("samples-x.parquet"), &1).unwrap();
    assert_eq!(
        files_in(folder.path()),
        [name(None), name(Some(2)), name(Some(10))]
    );
}
