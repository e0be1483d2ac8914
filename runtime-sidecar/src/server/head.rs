//! Waiting for the first head of a connection without holding anything for it.
//!
//! A connection that is served takes about 17 KiB. One that sends a byte now and then must not get
//! that far: it is looked at (peeked) from a buffer that all connections of a thread share, until its
//! head is complete.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Longest pause between two looks at a head that is not complete.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Waits until the parser can make something of what came: a complete head, `most` bytes of one, or
/// what cannot become one. False when the peer went away before.
pub async fn arrives(stream: &TcpStream, most: usize) -> io::Result<bool> {
    let mut pause = Duration::from_millis(1);
    loop {
        let look = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.resize(most, 0);
                let mut buffer = ReadBuf::new(scratch);
                match stream.poll_peek(cx, &mut buffer) {
                    Poll::Ready(Ok(0)) => Poll::Ready(Ok(Some(false))),
                    Poll::Ready(Ok(_)) => {
                        let come = buffer.filled();
                        Poll::Ready(Ok((come.len() >= most || is_enough(come)).then_some(true)))
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            })
        });
        if let Some(arrived) = look.await? {
            return Ok(arrived);
        }
        // There is no way to be woken by more bytes while some are unread.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether the parser would not only wait: the end of a head (that of HTTP/2's preface looks the
/// same), or the beginning of something else.
fn is_enough(come: &[u8]) -> bool {
    let first = come.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
    let is_method = first.is_none_or(u8::is_ascii_alphabetic);
    let ends = |end: &[u8]| come.windows(end.len()).any(|window| window == end);
    !is_method || ends(b"\r\n\r\n") || ends(b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_request_is_waited_for() {
        for waits in [
            "",
            "P",
            "POST",
            "\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\n",
            "PRI * HTTP/2.0\r\n",
        ] {
            assert!(!is_enough(waits.as_bytes()), "{waits:?}");
        }
        for enough in [
            "POST / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}",
            "\0",
            "{\"a\":1}",
        ] {
            assert!(is_enough(enough.as_bytes()), "{enough:?}");
        }
    }
}
