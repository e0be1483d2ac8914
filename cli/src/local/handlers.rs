//! Handlers as child processes: started with a port, started again when they end, ended with us.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// How long a handler may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// A handler that lived this long is started again at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// Where the messages of one object go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Something that runs already.
    Url(String),
    /// A program and its arguments, to be run in a folder.
    Command {
        /// Program and arguments.
        line: Vec<String>,
        /// Working directory.
        folder: PathBuf,
    },
}

/// Handlers named on the command line: NAME=URL.
pub fn parse_named(named: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    named
        .iter()
        .map(|text| {
            let parts = text.split_once('=').filter(|(name, url)| {
                !name.is_empty() && (url.starts_with("http://") || url.starts_with("https://"))
            });
            let (name, url) = parts.ok_or_else(|| {
                Failure::usage(format!("`--handler {text}` is not NAME=URL"))
                    .next("write --handler payments=http://127.0.0.1:3000")
            })?;
            Ok((name.to_owned(), url.to_owned()))
        })
        .collect()
}

/// A command that is kept running.
pub struct Handler {
    /// Name of its object, for what is printed.
    pub name: String,
    /// Program and arguments.
    pub line: Vec<String>,
    /// Working directory.
    pub folder: PathBuf,
    /// Environment of the manifest.
    pub environment: Vec<(String, String)>,
    /// The port it is to listen on.
    pub port: u16,
}

impl Handler {
    /// Runs it until `stop`, with growing pauses while it keeps ending at once.
    pub async fn keep_running(self, stop: CancellationToken) {
        let mut pause = Duration::from_millis(200);
        while !stop.is_cancelled() {
            let began = Instant::now();
            match self.start() {
                Ok(mut child) => self.attend(&mut child, &stop).await,
                Err(why) => eprintln!(
                    "{}: cannot start `{}`: {why}",
                    self.name,
                    self.line.join(" ")
                ),
            }
            if stop.is_cancelled() {
                return;
            }
            pause = if began.elapsed() > HEALTHY {
                Duration::from_millis(200)
            } else {
                (pause * 2).min(Duration::from_secs(10))
            };
            eprintln!(
                "{}: starting it again in {} ms",
                self.name,
                pause.as_millis()
            );
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let (program, arguments) = self
            .line
            .split_first()
            .ok_or(std::io::ErrorKind::InvalidInput)?;
        Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .env("PORT", self.port.to_string())
            .env("HOST", "127.0.0.1")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Its own group, so that Ctrl-C reaches it through us, after its calls have ended.
            .process_group(0)
            .spawn()
    }

    async fn attend(&self, child: &mut Child, stop: &CancellationToken) {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let printing = async {
            tokio::join!(echo(&self.name, out), echo(&self.name, err));
        };
        tokio::select! {
            ended = async { printing.await; child.wait().await } => match ended {
                Ok(status) => eprintln!("{}: handler ended: {status}", self.name),
                Err(why) => eprintln!("{}: handler is lost: {why}", self.name),
            },
            () = stop.cancelled() => end(child).await,
        }
    }
}

/// SIGTERM, and SIGKILL when that is not heard.
async fn end(child: &mut Child) {
    if let Some(pid) = child.id() {
        // The group, so that a shell's own children end too. `kill` is a program because this
        // workspace has no unsafe code.
        let group = format!("-{pid}");
        let told = Command::new("kill")
            .args(["-TERM", "--", &group])
            .status()
            .await;
        if told.is_ok() && timeout(GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
    let _ = child.kill().await;
}

async fn echo(name: &str, stream: Option<impl AsyncRead + Unpin>) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name}: {}", crate::output::printable(&line));
    }
}

/// A port of this machine that is free now.
pub fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|why| Failure::new(format!("no free port: {why}")))
}

/// Splits a command as a shell would, for the common cases: spaces, quotes, backslashes. Nothing is
/// expanded; a command that wants a shell says `sh -c '...'`.
pub fn split(command: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut started, mut quote) = (Vec::new(), String::new(), false, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => (quote, started) = (Some(c), true),
            (None | Some('"'), '\\') => {
                word.extend(chars.next());
                started = true;
            }
            (None, c) if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            (_, c) => {
                word.push(c);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return Err(Failure::usage(format!(
            "a quote is not closed in `{command}`"
        )));
    }
    if started {
        words.push(word);
    }
    if words.is_empty() {
        return Err(Failure::usage("the command of a handler is empty"));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_split_at_spaces_outside_quotes() {
        let split = |text| split(text).unwrap();
        assert_eq!(split("python3  handler.py"), ["python3", "handler.py"]);
        assert_eq!(
            split(r#"sh -c 'a "b" c' "d e" f\ g ''"#),
            ["sh", "-c", "a \"b\" c", "d e", "f g", ""]
        );
        assert_eq!(split("'a'b\"c\""), ["abc"]);
    }

    #[test]
    fn commands_that_make_no_sense_are_refused() {
        for text in ["", "   ", "a 'b"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn named_handlers_need_a_name_and_a_url() {
        let good = parse_named(&["a=http://x".into(), "b=https://y/z?q=1".into()]).unwrap();
        assert_eq!(good["b"], "https://y/z?q=1");
        for text in ["a", "=http://x", "a=x", "a="] {
            assert!(parse_named(&[text.into()]).is_err(), "{text}");
        }
    }
}
