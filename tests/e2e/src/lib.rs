//! The handler of the cluster tests, without its IO: what it was called with, how many calls ran at
//! once, and what it answers.
//!
//! One process keeps the ledger; the handlers of several replicas pass their calls on to it
//! (`src/bin/handler.rs`), so that "at once" is counted over all of them by one clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the handler behaves. The default answers 200 at once.
///
/// A JSON body may override it for its own message: `{"status": 500}`, `{"sleepMs": 100}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Script {
    /// How long every call takes.
    pub sleep_ms: u64,
    /// From the first call on, so long every call is answered with `busyStatus`.
    pub busy_ms: u64,
    /// Status while busy; 0 means 429.
    pub busy_status: u16,
    /// `Retry-After` while busy, seconds; 0 leaves the header out.
    pub retry_after_seconds: u64,
    /// Status of every other call; 0 means 200.
    pub status: u16,
}

/// One call, as the handler saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// `weir-attempt`.
    pub attempt: u32,
    /// What was answered; 0 while it runs or if the caller went away.
    pub status: u16,
    /// `HOSTNAME` of the replica that was called.
    pub replica: String,
}

/// The last call, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Invalid UTF-8 replaced.
    pub body: String,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Calls in all.
    pub calls: u64,
    /// Calls that run now.
    pub in_flight: u64,
    /// The most that ever ran at once.
    pub most_at_once: u64,
    /// Every call of every message, by message id.
    pub messages: BTreeMap<String, Vec<Call>>,
    /// Ids of the calls of each group (`ce-partitionkey`), in the order in which they began.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Calls that began while another one of their group ran.
    pub overlaps: u64,
    /// The last call.
    pub last: Request,
}

impl Stats {
    /// Ids of the messages of which a call was answered 2xx.
    pub fn handled(&self) -> impl Iterator<Item = &str> {
        self.messages
            .iter()
            .filter(|(_, calls)| calls.iter().any(|call| call.status / 100 == 2))
            .map(|(id, _)| id.as_str())
    }

    /// How many calls were answered with `status`.
    pub fn answered(&self, status: u16) -> usize {
        self.messages
            .values()
            .flatten()
            .filter(|call| call.status == status)
            .count()
    }
}

/// What to do with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status to answer.
    pub status: u16,
    /// Wait so long first.
    pub sleep_ms: u64,
    /// `Retry-After` in seconds.
    pub retry_after_seconds: Option<u64>,
    /// Where [`Ledger::end`] finds the call.
    pub place: (String, usize),
    /// Group of the call.
    pub group: String,
}

/// Counts calls and decides their answers.
#[derive(Debug, Default)]
pub struct Ledger {
    script: Script,
    busy_until: Option<u64>,
    running: BTreeMap<String, u64>,
    stats: Stats,
}

impl Ledger {
    /// An empty ledger that follows `script`.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            ..Self::default()
        }
    }

    /// Follows another script from now on; being busy counts from the next call.
    pub fn follow(&mut self, script: Script) {
        self.script = script;
        self.busy_until = None;
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// A call begins. `now` is milliseconds of any clock that never goes back.
    pub fn begin(&mut self, request: Request, now: u64) -> Answer {
        let header = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
        let id = header("ce-id");
        let call = Call {
            attempt: header("weir-attempt").parse().unwrap_or(0),
            status: 0,
            replica: header("weir-test-replica"),
        };
        let group = header("ce-partitionkey");
        let answer = self.decide(&request, now);

        self.stats.calls += 1;
        self.stats.in_flight += 1;
        self.stats.most_at_once = self.stats.most_at_once.max(self.stats.in_flight);
        self.stats.last = request;
        let calls = self.stats.messages.entry(id.clone()).or_default();
        calls.push(call);
        let place = (id.clone(), calls.len() - 1);
        if !group.is_empty() {
            let running = self.running.entry(group.clone()).or_default();
            *running += 1;
            self.stats.overlaps += u64::from(*running > 1);
            self.stats.groups.entry(group.clone()).or_default().push(id);
        }
        Answer {
            place,
            group,
            ..answer
        }
    }

    /// The call ended: answered with its status, or `None` if the caller went away.
    pub fn end(&mut self, answer: &Answer, status: Option<u16>) {
        let place = &answer.place;
        self.stats.in_flight -= 1;
        if let Some(running) = self.running.get_mut(&answer.group) {
            *running -= 1;
        }
        let call = self
            .stats
            .messages
            .get_mut(&place.0)
            .and_then(|calls| calls.get_mut(place.1));
        if let (Some(call), Some(status)) = (call, status) {
            call.status = status;
        }
    }

    fn decide(&mut self, request: &Request, now: u64) -> Answer {
        let place = (String::new(), 0);
        let script = &self.script;
        let until = *self.busy_until.get_or_insert(now + script.busy_ms);
        if now < until {
            return Answer {
                status: or(script.busy_status, 429),
                sleep_ms: 0,
                retry_after_seconds: Some(script.retry_after_seconds).filter(|&s| s > 0),
                place,
                group: String::new(),
            };
        }
        let own: serde_json::Value = serde_json::from_str(&request.body).unwrap_or_default();
        let status = own["status"].as_u64().and_then(|s| u16::try_from(s).ok());
        Answer {
            status: status.unwrap_or(or(script.status, 200)),
            sleep_ms: own["sleepMs"].as_u64().unwrap_or(script.sleep_ms),
            retry_after_seconds: None,
            place,
            group: String::new(),
        }
    }
}

fn or(value: u16, default: u16) -> u16 {
    if value == 0 { default } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, body: &str) -> Request {
        Request {
            headers: [("ce-id".to_owned(), id.to_owned())].into(),
            body: body.to_owned(),
            ..Request::default()
        }
    }

    #[test]
    fn calls_at_once_are_counted_while_they_overlap() {
        let mut ledger = Ledger::default();
        let first = ledger.begin(call("a", ""), 0);
        let second = ledger.begin(call("b", ""), 0);
        ledger.end(&first, Some(200));
        let third = ledger.begin(call("a", ""), 0);
        ledger.end(&second, None);
        ledger.end(&third, Some(500));

        assert_eq!(ledger.stats().most_at_once, 2);
        assert_eq!(ledger.stats().in_flight, 0);
        assert_eq!(ledger.stats().handled().collect::<Vec<_>>(), ["a"]);
        assert_eq!(ledger.stats().answered(500), 1);
    }

    #[test]
    fn calls_of_a_group_are_kept_in_order_and_their_overlaps_counted() {
        let grouped = |id: &str, group: &str| {
            let mut request = call(id, "");
            let group = ("ce-partitionkey".to_owned(), group.to_owned());
            request.headers.extend([group]);
            request
        };
        let mut ledger = Ledger::default();
        let first = ledger.begin(grouped("1", "a"), 0);
        let other = ledger.begin(grouped("2", "b"), 0);
        assert_eq!(ledger.stats().overlaps, 0);
        let second = ledger.begin(grouped("3", "a"), 0);
        assert_eq!(ledger.stats().overlaps, 1);
        for answer in [first, other, second] {
            ledger.end(&answer, Some(200));
        }
        ledger.begin(grouped("4", "a"), 0);
        assert_eq!(ledger.stats().overlaps, 1);
        assert_eq!(ledger.stats().groups["a"], ["1", "3", "4"]);
    }

    #[test]
    fn a_busy_handler_refuses_everything_until_its_time_is_over() {
        let mut ledger = Ledger::new(Script {
            busy_ms: 1000,
            retry_after_seconds: 1,
            ..Script::default()
        });
        let refused = ledger.begin(call("a", r#"{"status": 500}"#), 5000);
        assert_eq!(
            (refused.status, refused.retry_after_seconds),
            (429, Some(1))
        );
        assert_eq!(ledger.begin(call("a", ""), 5999).status, 429);
        assert_eq!(ledger.begin(call("a", ""), 6000).status, 200);
    }

    #[test]
    fn a_message_may_say_how_it_wants_to_be_answered() {
        let mut ledger = Ledger::default();
        let answer = ledger.begin(call("a", r#"{"status": 422, "sleepMs": 7}"#), 0);
        assert_eq!((answer.status, answer.sleep_ms), (422, 7));
    }
}
