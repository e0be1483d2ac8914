//! `weir dlq export` and `import`: NDJSON, never held as a whole.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use weir_core::ops::{Imported, LONGEST_LINE};

use crate::args::{DlqExport, DlqImport, Output};
use crate::failure::Failure;
use crate::output::print;
use crate::place::{Place, parse_object};

/// Bytes that are sent at once.
const PART: usize = 1024 * 1024;

/// `weir dlq export`.
pub async fn export(arguments: DlqExport) -> Result<(), Failure> {
    arguments.which.check()?;
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let parameter = arguments.which.parameter();
    let what = match parameter.strip_prefix('&') {
        Some(parameter) => format!("/export?{parameter}"),
        None => "/export".to_owned(),
    };
    let path = place.path(kind, &name, &what);
    let mut answer = place.open(Method::GET, &path, Bytes::new()).await?;
    let to_stdout = arguments.file == Path::new("-");
    let cannot = |why: std::io::Error| {
        Failure::new(format!("cannot write {}: {why}", arguments.file.display()))
    };
    // Messages are nobody else's business: the file is the user's alone. It appears when it is whole.
    let partial = arguments.file.with_added_extension("part");
    let mut out: Box<dyn Write + Send> = if to_stdout {
        Box::new(std::io::stdout())
    } else {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        Box::new(BufWriter::new(options.open(&partial).map_err(cannot)?))
    };
    let mut letters = 0_u64;
    let written = async {
        while let Some(part) = answer.next().await? {
            letters += part.split(|byte| *byte == b'\n').count() as u64 - 1;
            out.write_all(&part).map_err(cannot)?;
        }
        out.flush().map_err(cannot)
    };
    if let Err(why) = written.await {
        if !to_stdout {
            std::fs::remove_file(&partial).ok();
        }
        return Err(why.next("nothing was changed; export again"));
    }
    drop(out);
    if to_stdout {
        eprintln!("{letters} dead letters");
        return Ok(());
    }
    std::fs::rename(&partial, &arguments.file).map_err(cannot)?;
    let file = arguments.file.display().to_string();
    print(
        arguments.output,
        &json!({ "exported": letters, "file": file }),
        |_| format!("{letters} dead letters are in {file}"),
        |_| vec![file.clone()],
    )
}

/// `weir dlq import`.
pub async fn import(arguments: DlqImport) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let place = Place::find(&arguments.place).await?;
    let cannot = |why: std::io::Error| {
        Failure::usage(format!("cannot read {}: {why}", arguments.file.display()))
    };
    let reader: Box<dyn BufRead + Send> = if arguments.file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(
            std::fs::File::open(&arguments.file).map_err(cannot)?,
        ))
    };
    let path = place.path(kind, &name, "/import");
    let mut parts = Lines {
        reader,
        before: 0,
        read: 0,
    };
    let mut done = Imported::default();
    while let Some(part) = parts.next().map_err(cannot)? {
        let first = parts.before + 1;
        let sent = async {
            let answer = place.open(Method::POST, &path, part).await?;
            let bytes = answer.bytes().await?;
            serde_json::from_slice::<Imported>(&bytes).map_err(Failure::other)
        };
        let part = sent.await.map_err(|why| {
            // Numbers in the answer count from the first letter of this part.
            Failure::new(format!("{why}"))
                .next(format!("letter 1 there is number {first} of the file; {} letters before it are stored or were known", parts.before))
        })?;
        done.stored += part.stored;
        done.known += part.known;
    }
    tell(done, arguments.output)
}

fn tell(done: Imported, output: Output) -> Result<(), Failure> {
    let document = serde_json::to_value(done).map_err(Failure::other)?;
    print(
        output,
        &document,
        |_| {
            format!(
                "{} dead letters were stored, {} were there already",
                done.stored, done.known
            )
        },
        |_| vec![],
    )
}

/// Cuts a file between lines into parts of about a megabyte.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// Letters before the part that was given out last.
    before: u64,
    read: u64,
}

impl Lines {
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        self.before = self.read;
        let mut part = Vec::new();
        while part.len() < PART {
            let start = part.len();
            let mut limited = std::io::Read::take(&mut self.reader, LONGEST_LINE as u64 + 1);
            let read = limited.read_until(b'\n', &mut part)?;
            if read == 0 {
                break;
            }
            if read > LONGEST_LINE {
                let why = format!("a line is longer than {LONGEST_LINE} bytes: not an export");
                return Err(std::io::Error::other(why));
            }
            if !part[start..].trim_ascii().is_empty() {
                self.read += 1;
            }
        }
        Ok(Some(part).filter(|part| !part.is_empty()).map(Bytes::from))
    }
}
