//! The group of a message, as its object wants it.

use std::time::Duration;

use jiff::Timestamp;
use weir_asl::jsonata::{EvaluateExpressionError, Expression, Limits, Surroundings};
use weir_asl::randomness::Seeded;
use weir_core::config::GroupBy;
use weir_core::event;
use weir_core::group::{InvalidGroup, from_header, from_result};
use weir_core::message::Message;
use weir_core::object::ObjectKey;

/// What one evaluation may use: little, because senders wait for it, and because a group is short.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(1),
    depth: 500,
    items: 10_000,
    bytes: 2 * 1024 * 1024,
};

/// How an evaluation begins to say that its time is over.
const TIMED_OUT: &str = "D1012";

/// `groupBy`, ready to be used many times.
#[derive(Debug)]
pub enum Grouping {
    /// The value of a header.
    Header(String),
    /// The result of an expression over the event.
    Expression(Expression),
    /// It cannot be used, and nothing is accepted: a message without its group could be out of order.
    Unusable,
}

impl Grouping {
    /// Reads the configuration. What is wrong with it, for people, where it cannot be used.
    pub fn new(config: &GroupBy) -> (Self, Option<String>) {
        match config {
            GroupBy::Header { name } => (Self::Header(name.to_ascii_lowercase()), None),
            GroupBy::Expression { text } => match Expression::parse(&format!("{{% {text} %}}")) {
                Ok(expression) => (Self::Expression(expression), None),
                Err(error) => (Self::Unusable, Some(format!("spec.groupBy: {error}"))),
            },
        }
    }

    /// The group of a message whose sender gave none.
    pub fn of(
        &self,
        object: &ObjectKey,
        message: &Message,
        now: Timestamp,
    ) -> Result<String, InvalidGroup> {
        match self {
            Self::Header(name) => from_header(&message.headers, name),
            Self::Expression(expression) => {
                let surroundings = Surroundings {
                    now,
                    limits: LIMITS,
                };
                let document = event::document(object, message);
                let mut random = Seeded::new(fastrand::u64(..));
                match expression.evaluate_over(&document, &surroundings, &mut random) {
                    Ok(value) => from_result(Some(&value)),
                    Err(EvaluateExpressionError::ReturnNothing) => from_result(None),
                    Err(EvaluateExpressionError::Throw(why)) if why.starts_with(TIMED_OUT) => {
                        Err(InvalidGroup::TookTooLong)
                    }
                    Err(error) => Err(InvalidGroup::failed(&error.to_string())),
                }
            }
            Self::Unusable => Err(InvalidGroup::NotConfigured),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_core::object::Kind;

    use super::*;

    fn group(text: &str, body: &str) -> Result<String, InvalidGroup> {
        let config = GroupBy::Expression {
            text: text.to_owned(),
        };
        let message = Message {
            id: "w1".to_owned(),
            accepted_at: Timestamp::UNIX_EPOCH,
            headers: [("x-group".to_owned(), "g".to_owned())]
                .into_iter()
                .collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            group: None,
        };
        let object = ObjectKey::new(Kind::FifoConsumer, "shop", "ledger");
        Grouping::new(&config)
            .0
            .of(&object, &message, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_expression_sees_the_event() {
        let body = r#"{"accountId": 7, "eu": true, "name": "Ann"}"#;
        for (text, expected) in [
            ("data.accountId", "7"),
            ("data.eu", "true"),
            ("data.name", "Ann"),
            ("type", "weir.fifoconsumer.received"),
            ("data.name & '/' & data.accountId", "Ann/7"),
            ("$exists(data.other) ? data.other : id", "w1"),
        ] {
            assert_eq!(group(text, body).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(group("data", "plain-text").as_deref(), Ok("plain-text"));
    }

    #[test]
    fn what_gives_no_group_says_why() {
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(10_240));
        for (text, body, reason) in [
            ("data.other", "{}", "NoGroup"),
            ("data.other", "", "NoGroup"),
            ("data", "{}", "InvalidGroup"),
            ("data.a", r#"{"a": null}"#, "InvalidGroup"),
            ("data.a", r#"{"a": [1, 2]}"#, "InvalidGroup"),
            ("data.a", r#"{"a": "a b"}"#, "InvalidGroup"),
            ("data.a", r#"{"a": "a\nb"}"#, "InvalidGroup"),
            ("data.a", &long, "InvalidGroup"),
            ("data.a", r#"{"a": ""}"#, "InvalidGroup"),
            ("data.a + 1", r#"{"a": "x"}"#, "GroupFailed"),
            ("$error('no')", "{}", "GroupFailed"),
            ("function($x) { $x }", "{}", "GroupFailed"),
        ] {
            let error = group(text, body).unwrap_err();
            assert_eq!((error.reason(), error.status()), (reason, 400), "{text}");
        }
        assert_eq!(group("data.a", r#"{"a": "*"}"#).as_deref(), Ok("*"));
        assert_eq!(group("data.a", r#"{"a": ">"}"#).as_deref(), Ok(">"));
    }

    #[test]
    fn an_expression_that_never_ends_is_stopped() {
        let error = group("($f := function($n) { $f($n + 1) }; $f(0))", "{}").unwrap_err();
        assert!(
            ["GroupFailed", "GroupTookTooLong"].contains(&error.reason()),
            "{error}"
        );
        assert!(group("$sum([1..10000000])", "{}").is_err());
    }

    #[test]
    fn an_expression_that_cannot_be_parsed_accepts_nothing() {
        let config = GroupBy::Expression {
            text: "data.".to_owned(),
        };
        let (grouping, problem) = Grouping::new(&config);
        assert!(matches!(grouping, Grouping::Unusable));
        assert!(problem.unwrap().starts_with("spec.groupBy: "));
        assert_eq!(group("data.", "{}").unwrap_err().status(), 503);
    }
}
