//! The parts of the JetStream API that are used, as they are on the wire.

use std::collections::HashMap;

use base64::Engine as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::error::BrokerError;

/// Why a request was not answered with a value.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody listens: the stream or consumer is not there, or has no leader now.
    NoResponders,
    /// JetStream refused.
    Api(ApiError),
    /// Anything else, already in its final form.
    Broker(BrokerError),
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl Failure {
    /// The failure as it is told, where `what` is the broker object that was asked for.
    pub(crate) fn told(self, what: &str) -> BrokerError {
        match self {
            Self::Broker(error) => error,
            Self::NoResponders => BrokerError::Missing {
                what: what.to_owned(),
            },
            Self::Api(error) => error.told(what),
        }
    }

    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Api(error) => error.err_code,
            _ => 0,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.code(), STREAM_NOT_FOUND | CONSUMER_NOT_FOUND)
    }

    /// The expected last sequence of a subject was another one.
    pub(crate) fn is_wrong_sequence(&self) -> bool {
        matches!(
            self.code(),
            WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT
        )
    }
}

const CONSUMER_NOT_FOUND: u32 = 10014;
const INSUFFICIENT_RESOURCES: u32 = 10023;
const MEMORY_EXCEEDED: u32 = 10028;
pub(crate) const NO_MESSAGE: u32 = 10037;
const NOT_ENABLED: u32 = 10076;
const NOT_ENABLED_FOR_ACCOUNT: u32 = 10039;
pub(crate) const STORAGE_EXCEEDED: u32 = 10047;
pub(crate) const STREAM_NAME_IN_USE: u32 = 10058;
const STREAM_NOT_FOUND: u32 = 10059;
pub(crate) const SUBJECTS_OVERLAP: u32 = 10065;
const WRONG_LAST_SEQUENCE: u32 = 10071;
const STORE_FAILED: u32 = 10077;
pub(crate) const CONSUMER_EXISTS: u32 = 10148;
const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10164;
pub(crate) const BATCH_INCOMPLETE: u32 = 10176;
const SERVICE_UNAVAILABLE: u16 = 503;

/// A refusal of JetStream.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ApiError {
    #[serde(skip)]
    pub(crate) operation: &'static str,
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) err_code: u32,
    #[serde(default)]
    pub(crate) description: String,
}

impl ApiError {
    fn told(self, what: &str) -> BrokerError {
        match (self.err_code, self.code) {
            (STREAM_NOT_FOUND | CONSUMER_NOT_FOUND, _) => BrokerError::Missing {
                what: what.to_owned(),
            },
            (INSUFFICIENT_RESOURCES | MEMORY_EXCEEDED | STORAGE_EXCEEDED | STORE_FAILED, _) => {
                BrokerError::Full {
                    what: format!("{what} ({})", self.description),
                }
            }
            (NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT, _) => BrokerError::Unsupported {
                server: "NATS".to_owned(),
                why: format!("{}; enable JetStream for this account", self.description),
            },
            (_, SERVICE_UNAVAILABLE) => BrokerError::Unreachable {
                servers: what.to_owned(),
                why: self.description,
            },
            _ => BrokerError::Refused {
                operation: self.operation,
                why: format!("{what}: {} ({})", self.description, self.err_code),
            },
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Envelope {
    pub(crate) error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PubAck {
    #[serde(default)]
    pub(crate) seq: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AccountInfo {
    pub(crate) api: AccountApi,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AccountApi {
    #[serde(default)]
    pub(crate) level: u32,
}

/// A stream: its configuration as it was read, so that an update keeps what is not ours.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: Value,
    pub(crate) state: StreamState,
    /// Subjects that match the filter of the request.
    #[serde(default)]
    pub(crate) total: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) messages: u64,
    #[serde(default)]
    pub(crate) last_seq: u64,
    #[serde(default)]
    pub(crate) subjects: Option<HashMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConsumerInfo {
    pub(crate) config: Value,
    #[serde(default)]
    pub(crate) num_pending: u64,
    #[serde(default)]
    pub(crate) num_ack_pending: u64,
    #[serde(default)]
    pub(crate) paused: Option<bool>,
    #[serde(default)]
    pub(crate) delivered: DeliveredUpTo,
    /// Everything up to there is acknowledged.
    #[serde(default)]
    pub(crate) ack_floor: DeliveredUpTo,
}

/// How far a consumer has come.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DeliveredUpTo {
    #[serde(default)]
    pub(crate) stream_seq: u64,
}

/// The answer of a command that says nothing but that it was done.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

#[derive(Debug, Deserialize)]
pub(crate) struct Purged {
    #[serde(default)]
    pub(crate) purged: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MessageAnswer {
    pub(crate) message: StoredRaw,
}

/// A stored message as `STREAM.MSG.GET` answers it.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredRaw {
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl StoredRaw {
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        header_block(&decoded(&self.hdrs))
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        decoded(&self.data)
    }
}

fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default()
}

/// The lines of a header block, without its first.
fn header_block(block: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(block)
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_blocks_are_read_line_by_line() {
        let block = b"NATS/1.0\r\nweir-id: a\r\nNats-TTL:2s\r\nx: a: b\r\n\r\n";
        let lines = header_block(block);
        let expected = [("weir-id", "a"), ("Nats-TTL", "2s"), ("x", "a: b")];
        assert_eq!(lines.len(), expected.len());
        for ((name, value), known) in lines.iter().zip(expected) {
            assert_eq!((name.as_str(), value.as_str()), known);
        }
    }

    #[test]
    fn refusals_keep_their_meaning() {
        let told = |code, err_code| {
            let error = ApiError {
                operation: "x",
                code,
                err_code,
                description: "d".into(),
            };
            Failure::Api(error).told("stream S").reason()
        };
        assert_eq!(told(404, STREAM_NOT_FOUND), "TopologyMissing");
        assert_eq!(told(500, STORAGE_EXCEEDED), "QueueFull");
        assert_eq!(told(503, 10008), "BrokerUnreachable");
        assert_eq!(told(400, 10052), "BrokerRefused");
        assert_eq!(
            Failure::NoResponders.told("stream S").reason(),
            "TopologyMissing"
        );
    }
}
