//! Fields that hold a number or a text: stated, found by a path, or computed by an expression.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;

use super::fields::Fields;
use super::template;
use crate::definition::{QueryLanguage, Source};
use crate::timestamp;

/// An integer, or the path of one.
pub(super) fn integer(
    fields: &Fields<'_>,
    name: &str,
    path: Option<&str>,
    language: QueryLanguage,
    bounds: RangeInclusive<u64>,
) -> Option<Source<u64>> {
    computed(fields, name, path, language).or_else(|| {
        stated(fields, name, language)?
            .integer(name, bounds)
            .map(Source::Literal)
    })
}

/// A percentage, or the path of one.
pub(super) fn percentage(
    fields: &Fields<'_>,
    name: &str,
    path: &str,
    language: QueryLanguage,
) -> Option<Source<f64>> {
    computed(fields, name, Some(path), language).or_else(|| {
        let value = stated(fields, name, language)?.get(name)?;
        let Some(number) = value.as_f64() else {
            fields.problem_at(name, "Expected value of type Number");
            return None;
        };
        if !(0.0..=100.0).contains(&number) {
            fields.problem_at(name, format!("The value {value} must be between 0 and 100"));
            return None;
        }
        Some(Source::Literal(number))
    })
}

/// An RFC 3339 timestamp, or the path of one.
pub(super) fn timestamp(
    fields: &Fields<'_>,
    name: &str,
    path: Option<&str>,
    language: QueryLanguage,
) -> Option<Source<Arc<str>>> {
    computed(fields, name, path, language).or_else(|| {
        let text = stated(fields, name, language)?.text(name)?;
        if timestamp::is_valid(&text) {
            return Some(Source::Literal(text));
        }
        fields.problem_at(name, "String does not match RFC3339 timestamp");
        None
    })
}

/// A text, or a path or an intrinsic call that yields one.
pub(super) fn text(
    fields: &Fields<'_>,
    name: &str,
    path: &str,
    language: QueryLanguage,
) -> Option<Source<Arc<str>>> {
    if language == QueryLanguage::JsonPath
        && let Some(Value::String(source)) = fields.get(path)
        && template::is_call(source)
    {
        return template::call(fields, path).map(Source::Call);
    }
    computed(fields, name, Some(path), language).or_else(|| {
        stated(fields, name, language)?
            .text(name)
            .map(Source::Literal)
    })
}

/// The form that is not stated: a path in JSONPath, an expression in JSONata.
fn computed<T>(
    fields: &Fields<'_>,
    name: &str,
    path: Option<&str>,
    language: QueryLanguage,
) -> Option<Source<T>> {
    match language {
        QueryLanguage::JsonPath => {
            template::singular_path(fields, path.filter(|p| fields.has(p))?).map(Source::Path)
        }
        QueryLanguage::Jsonata => {
            let text = fields
                .get(name)?
                .as_str()
                .filter(|text| template::is_expression(text))?;
            template::expression(fields.cx(), &fields.at(name), text).map(Source::Expression)
        }
    }
}

/// The fields again, unless the field holds an expression, which has been judged already.
fn stated<'f, 'a>(
    fields: &'f Fields<'a>,
    name: &str,
    language: QueryLanguage,
) -> Option<&'f Fields<'a>> {
    let text = fields.get(name)?.as_str().unwrap_or_default();
    let expression = language == QueryLanguage::Jsonata && template::is_expression(text);
    (!expression).then_some(fields)
}
