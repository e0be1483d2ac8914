//! Choice states.

use serde_json::Value;

use super::context::StateOutline;
use super::fields::Fields;
use super::template;
use super::variables::{self, Scope};
use crate::definition::{
    Choice, Comparison, Condition, Domain, Kind, Operand, QueryLanguage, Relation, Rule, Test,
};
use crate::timestamp;

const RULE: &[&str] = &["Next", "Assign", "Comment"];
const GROUPS: &[&str] = &["And", "Or", "Not"];

pub(super) fn choice(
    fields: &Fields<'_>,
    language: QueryLanguage,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Choice> {
    fields.required(&["Choices"]);
    let default = fields.text("Default");
    if let Some(default) = &default {
        noted
            .targets
            .push((fields.at("Default"), default.to_string()));
    }
    let count = fields.array("Choices")?.len();
    if count == 0 {
        fields.problem_at("Choices", "A non-empty array is required");
    }
    let mut rules = Vec::new();
    for entry in fields.objects("Choices") {
        rules.extend(rule(&entry, language, scope, noted));
    }
    (rules.len() == count).then_some(Choice { rules, default })
}

fn rule(
    fields: &Fields<'_>,
    language: QueryLanguage,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Rule> {
    fields.required(&["Next"]);
    let next = fields.text("Next");
    if let Some(next) = &next {
        noted.targets.push((fields.at("Next"), next.to_string()));
    }
    let condition = match language {
        QueryLanguage::Jsonata => expression(fields),
        QueryLanguage::JsonPath => condition(fields, RULE),
    };
    variables::check(fields, language, scope);
    Some(Rule {
        condition: condition?,
        next: next?,
        output: match language {
            QueryLanguage::Jsonata => template::template(fields, "Output", language),
            QueryLanguage::JsonPath => None,
        },
        assign: template::template(fields, "Assign", language),
        comment: fields.text("Comment"),
    })
}

/// `Condition`: an expression, or a boolean.
fn expression(fields: &Fields<'_>) -> Option<Condition> {
    for (name, _) in fields.iter() {
        let tests = name == "Variable" || GROUPS.contains(&&**name) || operator(name).is_some();
        if tests {
            fields.problem(format!(
                "The QueryLanguage is set to 'JSONata', but field '{name}' is only supported for \
                 the 'JSONPath' QueryLanguage"
            ));
        } else if !RULE.contains(&&**name) && name != "Condition" && name != "Output" {
            fields.unsupported(name, &["Assign", "Comment", "Condition", "Next", "Output"]);
        }
    }
    fields.required(&["Condition"]);
    match fields.get("Condition")? {
        Value::String(text) if template::is_expression(text) => {
            let found = template::expression(fields.cx(), &fields.at("Condition"), text)?;
            Some(Condition::Expression(found))
        }
        Value::Bool(always) => Some(Condition::And(if *always {
            Vec::new()
        } else {
            vec![Condition::Or(Vec::new())]
        })),
        _ => {
            fields.problem_at(
                "Condition",
                "The value must be a JSONata expression: \"{% $states.input.a = 1 %}\"",
            );
            None
        }
    }
}

/// A test, or a group of them. `more` are the fields that may stand beside.
fn condition(fields: &Fields<'_>, more: &[&str]) -> Option<Condition> {
    let mut tests: Vec<&str> = Vec::new();
    for (name, _) in fields.iter() {
        if GROUPS.contains(&&**name) || operator(name).is_some() {
            tests.push(name);
        } else if name == "Condition" || name == "Output" {
            fields.problem(format!(
                "The QueryLanguage is set to 'JSONPath', but field '{name}' is only supported for \
                 the 'JSONata' QueryLanguage"
            ));
        } else if name != "Variable" && !more.contains(&&**name) {
            fields.unsupported(name, &known(more));
        }
    }
    let [test] = tests[..] else {
        fields.problem(if tests.is_empty() {
            "A rule needs one test, such as 'StringEquals', or one of 'And', 'Or' and 'Not'"
                .to_owned()
        } else {
            format!(
                "Only one of these fields may be present: [{}]",
                tests.join(", ")
            )
        });
        return None;
    };
    if GROUPS.contains(&test) {
        if fields.has("Variable") {
            fields.unsupported("Variable", &[]);
        }
        return group(fields, test);
    }
    fields.required(&["Variable"]);
    let variable = template::path(fields, "Variable");
    let test = operator(test).and_then(|operator| operator.read(fields, test));
    Some(Condition::Comparison(Comparison {
        variable: variable?,
        test: test?,
    }))
}

fn group(fields: &Fields<'_>, name: &str) -> Option<Condition> {
    const NESTED: &[&str] = &["Comment"];
    if name == "Not" {
        let inner = condition(&fields.object("Not")?, NESTED)?;
        return Some(Condition::Not(Box::new(inner)));
    }
    let count = fields.array(name)?.len();
    if count == 0 {
        fields.problem_at(name, "A non-empty array is required");
        return None;
    }
    let entries = fields.objects(name);
    let inner: Vec<Condition> = entries
        .iter()
        .filter_map(|entry| condition(entry, NESTED))
        .collect();
    if inner.len() < count {
        return None;
    }
    Some(if name == "And" {
        Condition::And(inner)
    } else {
        Condition::Or(inner)
    })
}

/// Every name that a rule may have, for suggestions.
fn known<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut names = vec!["Variable"];
    names.extend(GROUPS);
    names.extend(OPERATORS.iter().map(|(name, _)| *name));
    names.extend(more);
    names
}

#[derive(Clone, Copy)]
enum Operator {
    Compare(Domain, Relation),
    ComparePath(Domain, Relation),
    Matches,
    Is(Kind),
}

fn operator(name: &str) -> Option<Operator> {
    OPERATORS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, operator)| *operator)
}

impl Operator {
    fn read(self, fields: &Fields<'_>, name: &str) -> Option<Test> {
        match self {
            Self::Matches => Some(Test::Matches(fields.text(name)?)),
            Self::Is(kind) => Some(Test::Is {
                kind,
                expected: fields.boolean(name)?,
            }),
            Self::ComparePath(domain, relation) => {
                let operand = Operand::Path(template::path(fields, name)?);
                Some(Test::Compare {
                    domain,
                    relation,
                    operand,
                })
            }
            Self::Compare(domain, relation) => {
                let operand = Operand::Literal(literal(fields, name, domain)?);
                Some(Test::Compare {
                    domain,
                    relation,
                    operand,
                })
            }
        }
    }
}

fn literal(fields: &Fields<'_>, name: &str, domain: Domain) -> Option<Value> {
    let value = fields.get(name)?;
    let wrong = match domain {
        Domain::String if !value.is_string() => "Expected value of type String",
        Domain::Numeric if !value.is_number() => "Expected value of type Number",
        Domain::Boolean if !value.is_boolean() => "Expected value of type Boolean",
        Domain::Timestamp if !value.as_str().is_some_and(timestamp::is_valid) => {
            "String does not match RFC3339 timestamp"
        }
        _ => return Some(value.clone()),
    };
    fields.problem_at(name, wrong);
    None
}

macro_rules! operators {
    (comparisons: [$($domain:ident: $($relation:ident)+;)+] tests: [$($name:literal => $kind:ident)+]) => {
        const OPERATORS: &[(&str, Operator)] = &[
            $($(
                (
                    concat!(stringify!($domain), stringify!($relation)),
                    Operator::Compare(Domain::$domain, Relation::$relation),
                ),
                (
                    concat!(stringify!($domain), stringify!($relation), "Path"),
                    Operator::ComparePath(Domain::$domain, Relation::$relation),
                ),
            )+)+
            $(($name, Operator::Is(Kind::$kind)),)+
            ("StringMatches", Operator::Matches),
        ];
    };
}

operators! {
    comparisons: [
        String: Equals LessThan GreaterThan LessThanEquals GreaterThanEquals;
        Numeric: Equals LessThan GreaterThan LessThanEquals GreaterThanEquals;
        Timestamp: Equals LessThan GreaterThan LessThanEquals GreaterThanEquals;
        Boolean: Equals;
    ]
    tests: [
        "IsNull" => Null
        "IsPresent" => Present
        "IsString" => String
        "IsNumeric" => Numeric
        "IsBoolean" => Boolean
        "IsTimestamp" => Timestamp
    ]
}
