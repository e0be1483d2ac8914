//! The file with the addresses of the nodes. It is a mounted Secret: it changes when it is rotated, is
//! read before every use, and nothing of its passwords is ever shown.

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::error::BrokerError;

/// Largest address file, bytes.
const MOST_BYTES: usize = 64 * 1024;
/// Frames: a header with the largest message headers fits into one.
const FRAME_MAX: u32 = 128 * 1024;
/// Two of these, seconds, without a sign of life and either side ends the connection.
const HEARTBEAT: u16 = 10;

/// One node, with the user.
#[derive(Clone)]
pub(crate) struct Address {
    uri: AMQPUri,
}

impl Address {
    /// Reads the file.
    pub(crate) async fn read(path: &str) -> Result<Vec<Self>, BrokerError> {
        let text = tokio::fs::read(path)
            .await
            .map_err(|error| refused(path, &error.to_string()))?;
        if text.len() > MOST_BYTES {
            return Err(refused(path, "it is longer than 64 KiB"));
        }
        let text = String::from_utf8(text).map_err(|_| refused(path, "it is no text"))?;
        Self::parse(&text).map_err(|why| refused(path, &why))
    }

    /// Reads addresses that are separated by white space. The error holds nothing of them.
    fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut addresses = Vec::new();
        for (index, word) in text.split_whitespace().enumerate() {
            let say = |why: &str| {
                format!(
                    "address {} {why}; write amqp://user:password@host:port or amqps://...",
                    index + 1
                )
            };
            if !word.starts_with("amqp://") && !word.starts_with("amqps://") {
                return Err(say("does not begin with amqp:// or amqps://"));
            }
            let uri: AMQPUri = word.parse().map_err(|_| say("is no address"))?;
            if uri.authority.host.is_empty() {
                return Err(say("has no host"));
            }
            addresses.push(Self { uri });
        }
        if addresses.is_empty() {
            return Err("it holds no address; write amqp://user:password@host:port".to_owned());
        }
        Ok(addresses)
    }

    /// `user:password`.
    pub(crate) fn credentials(&self) -> String {
        let user = &self.uri.authority.userinfo;
        format!("{}:{}", user.username, user.password)
    }

    /// The virtual host that it names, `/` where it names none.
    pub(crate) fn vhost(&self) -> &str {
        if self.uri.vhost.is_empty() {
            "/"
        } else {
            &self.uri.vhost
        }
    }

    /// Where the management API of the node is, unless somebody says otherwise.
    pub(crate) fn management(&self) -> String {
        let (scheme, port) = match self.uri.scheme {
            AMQPScheme::AMQP => ("http", 15672),
            AMQPScheme::AMQPS => ("https", 15671),
        };
        let host = &self.uri.authority.host;
        let bare = host.contains(':') && !host.starts_with('[');
        if bare {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }

    /// The address to connect to a virtual host.
    pub(crate) fn uri(&self, vhost: &str) -> AMQPUri {
        let mut uri = self.uri.clone();
        vhost.clone_into(&mut uri.vhost);
        uri.query.heartbeat = Some(HEARTBEAT);
        uri.query.frame_max = Some(FRAME_MAX);
        uri
    }

    /// `amqp://host:port`.
    pub(crate) fn shown(&self) -> String {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        format!("{scheme}://{}:{}", authority.host, authority.port)
    }
}

fn refused(path: &str, why: &str) -> BrokerError {
    BrokerError::Refused {
        operation: "connect",
        why: format!("address file {path}: {why}"),
    }
}

/// Writes a text as one part of a path.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_nodes_may_be_named() {
        let text = "amqp://u:p%40ss@a:5672\n amqps://u:p%40ss@b:5671/shop\n";
        let addresses = Address::parse(text).unwrap();
        let shown: Vec<String> = addresses.iter().map(Address::shown).collect();
        assert_eq!(shown, ["amqp://a:5672", "amqps://b:5671"]);
        assert_eq!(addresses[0].credentials(), "u:p@ss");
        assert_eq!(addresses[1].uri("/").vhost, "/");
        assert_eq!((addresses[0].vhost(), addresses[1].vhost()), ("/", "shop"));
        assert_eq!(addresses[0].management(), "http://a:15672");
        assert_eq!(addresses[1].management(), "https://b:15671");
    }

    #[test]
    fn a_bad_address_is_named_by_its_place_and_shows_no_password() {
        let refused = [
            "",
            " ",
            "amqp://u:secret@a:5672 http://u:secret@b",
            "secret",
            "amqp://u:secret@:x",
        ];
        for text in refused {
            let why = Address::parse(text).err().unwrap();
            assert!(!why.contains("secret"), "{why}");
            assert!(why.contains("write amqp://"), "{why}");
        }
    }

    #[test]
    fn names_become_parts_of_a_path() {
        assert_eq!(percent_encoded("/a.b ü"), "%2Fa.b%20%C3%BC");
    }
}
