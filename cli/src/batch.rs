//! Many cases, one a line: read, answered and written one after the other, so that any number of them
//! takes the memory of one.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read as _, Write};
use std::path::Path;

use crate::failure::Failure;

/// Longest line, bytes. What is longer is handed on cut, and answered as malformed.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Answers every line of a file, or of standard input for `-`.
pub fn answer_lines(from: &Path, answer: impl Fn(&[u8]) -> String) -> Result<(), Failure> {
    let reader: Box<dyn BufRead> = if from == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(from)
            .map_err(|why| Failure::usage(format!("cannot read {}: {why}", from.display())))?;
        Box::new(BufReader::new(file))
    };
    match copy(reader, std::io::stdout().lock(), answer) {
        // A reader that went away (`| head`) is no error.
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|why| Failure::new(format!("{}: {why}", from.display()))),
    }
}

fn copy(
    mut reader: impl BufRead,
    writer: impl Write,
    answer: impl Fn(&[u8]) -> String,
) -> std::io::Result<()> {
    let mut writer = BufWriter::new(writer);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return writer.flush();
        }
        if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
            skip_line(&mut reader)?;
        }
        let case = line.trim_ascii();
        if !case.is_empty() {
            writeln!(writer, "{}", answer(case))?;
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &[u8]) -> String {
        let mut out = Vec::new();
        copy(input, &mut out, |line| format!("{} bytes", line.len())).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_has_one_answer_in_order_and_empty_ones_have_none() {
        assert_eq!(answers(b""), "");
        assert_eq!(
            answers(b"ab\r\n\n  \nabc\n\xff"),
            "2 bytes\n3 bytes\n1 bytes\n"
        );
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_one_answer() {
        let mut input = vec![b'x'; 40 * 1024 * 1024];
        input.extend(b"\nshort\n");
        assert_eq!(answers(&input), format!("{LONGEST} bytes\n5 bytes\n"));
    }
}
