//! Expressions over a document: what stands in manifests, as in `groupBy: "{% data.accountId %}"`.
//!
//! Paths begin at the document. There is no `$states`, and there are no variables but the expression's own.

use serde_json::Value;

use super::{Bindings, EvaluateExpressionError, Expression, StatesField, Surroundings, convert};
use crate::randomness::Randomness;

struct Nothing;

impl Bindings for Nothing {
    fn states(&self, _: StatesField) -> Option<&Value> {
        None
    }

    fn variable(&self, _: &str) -> Option<&Value> {
        None
    }
}

impl Expression {
    /// The value of the expression over `document`; the same bounds hold as for [`Expression::evaluate`].
    pub fn evaluate_over(
        &self,
        document: &Value,
        surroundings: &Surroundings,
        randomness: &mut dyn Randomness,
    ) -> Result<Value, EvaluateExpressionError> {
        let document = convert::inwards(document)?;
        self.evaluate_with(&document, &Nothing, surroundings, randomness)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::jsonata::Limits;
    use crate::randomness::Seeded;

    fn over(document: &Value, text: &str) -> Result<Value, EvaluateExpressionError> {
        let surroundings = Surroundings {
            now: Timestamp::UNIX_EPOCH,
            limits: Limits::default(),
        };
        Expression::parse(text)
            .expect("an expression")
            .evaluate_over(document, &surroundings, &mut Seeded::new(1))
    }

    #[test]
    fn paths_begin_at_the_document() {
        let event = json!({"type": "paid", "data": {"accountId": 7, "tags": ["a", "b"]}});
        assert_eq!(over(&event, "{% data.accountId %}"), Ok(json!(7)));
        assert_eq!(
            over(&event, "{% $.type & '-' & $$.data.accountId %}"),
            Ok(json!("paid-7"))
        );
        assert_eq!(over(&event, "{% data.tags %}"), Ok(json!(["a", "b"])));
        assert_eq!(over(&event, "{% data.tags[0] %}"), Ok(json!("a")));
    }

    #[test]
    fn what_is_not_there_is_nothing_and_there_is_no_state() {
        let event = json!({"data": {}});
        for text in [
            "{% data.accountId %}",
            "{% $states.input %}",
            "{% $other %}",
        ] {
            assert_eq!(
                over(&event, text),
                Err(EvaluateExpressionError::ReturnNothing),
                "{text}"
            );
        }
    }

    #[test]
    fn a_failure_says_why() {
        let error = over(&json!({"data": {"a": "x"}}), "{% data.a + 1 %}").unwrap_err();
        assert!(error.to_string().contains("T2001"), "{error}");
    }
}
