//! Arbitrary paths, calls, expressions and templates: no panic, no hang, and what holds for all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use weir_asl::definition::QueryLanguage;
use weir_asl::intrinsic::Call;
use weir_asl::jsonata::{self, Bindings, Expression, StatesField, Surroundings};
use weir_asl::path::{Path, ReferencePath};
use weir_asl::randomness::Seeded;
use weir_asl::scope::{Scope, Values};
use weir_asl::template::Template;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-c*\\\\' ]{0,4}".prop_map(Value::from),
        Just(json!("2024-01-01T00:00:00Z")),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Pieces of paths in any order: most of what comes out nearly is one.
fn path_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(".a"),
        Just(".b"),
        Just("['c']"),
        Just("[0]"),
        Just("[-1]"),
        Just("[*]"),
        Just(".*"),
        Just(".."),
        Just("..a"),
        Just("..*"),
        Just("[0:2]"),
        Just("[::2]"),
        Just("[0,1]"),
        Just("['a','b']"),
        Just("[?(@.a)]"),
        Just("[?(@.a == 1 && @.b != 'x')]"),
        Just("[?(!(@ > $.a) || @.b in [1,'a'])]"),
        Just("[?(@.a =~ /a.*/i)]"),
        Just(".length()"),
        Just(".sum()"),
        Just("[?("),
        Just(")]"),
        Just("'"),
        Just("@"),
        Just(" "),
        Just("é"),
        Just("[99999999999999999999]"),
    ];
    ("[$]{0,2}(v|)", prop::collection::vec(piece, 0..6))
        .prop_map(|(root, pieces)| format!("{root}{}", pieces.concat()))
}

fn call_text() -> impl Strategy<Value = String> {
    let argument = prop_oneof![
        Just("$.a".to_owned()),
        Just("$.b[0]".to_owned()),
        Just("$$".to_owned()),
        Just("$v".to_owned()),
        Just("1".to_owned()),
        Just("-1.5".to_owned()),
        Just("1e300".to_owned()),
        Just("0".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("'a{}'".to_owned()),
        Just(r"'\{\'\\'".to_owned()),
        Just("','".to_owned()),
        Just("'MD5'".to_owned()),
        Just("false".to_owned()),
        Just("$".to_owned()),
        Just("'{'".to_owned()),
        Just(String::new()),
    ];
    let name = prop::sample::select(vec![
        "Array",
        "ArrayPartition",
        "ArrayContains",
        "ArrayRange",
        "ArrayGetItem",
        "ArrayLength",
        "ArrayUnique",
        "Base64Encode",
        "Base64Decode",
        "Hash",
        "JsonMerge",
        "StringToJson",
        "JsonToString",
        "MathRandom",
        "MathAdd",
        "StringSplit",
        "Format",
        "UUID",
        "Nope",
    ]);
    argument.prop_recursive(3, 12, 3, move |inner| {
        (name.clone(), prop::collection::vec(inner, 0..4))
            .prop_map(|(name, arguments)| format!("States.{name}({})", arguments.join(", ")))
    })
}

fn scope<'a>(input: &'a Value, variables: &'a BTreeMap<String, Value>) -> Values<'a> {
    Values {
        input,
        context: input,
        variables,
    }
}

struct Frame(Value);

impl Scope for Frame {
    fn input(&self) -> &Value {
        &self.0
    }

    fn context(&self) -> &Value {
        &self.0
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        (name == "v").then_some(&self.0)
    }
}

impl Bindings for Frame {
    fn states(&self, field: StatesField) -> Option<&Value> {
        (field != StatesField::ErrorOutput).then_some(&self.0)
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        Scope::variable(self, name)
    }
}

fn surroundings() -> Surroundings {
    let limits = jsonata::Limits {
        time: std::time::Duration::from_millis(50),
        ..Default::default()
    };
    Surroundings {
        now: "2026-01-01T00:00:00Z".parse().expect("a timestamp"),
        limits,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_path_is_refused_or_evaluated(text in path_text(), value in any_json()) {
        let variables = BTreeMap::from([("v".to_owned(), value.clone())]);
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(path.source(), &text);
            let scope = scope(&value, &variables);
            let found = path.evaluate(&scope);
            if !path.is_definite() && let Ok(found) = found {
                prop_assert!(found.is_array(), "{} gave {}", text, found);
            }
        }
    }

    #[test]
    fn what_is_placed_is_found_there(text in path_text(), value in any_json()) {
        if let Ok(path) = ReferencePath::parse(&text) && let Ok(placed) = path.place(value, json!("here")) {
            let variables = BTreeMap::new();
            let found = path.as_path().evaluate(&scope(&placed, &variables)).map(std::borrow::Cow::into_owned);
            prop_assert_eq!(found, Ok(json!("here")));
        }
    }

    #[test]
    fn a_call_is_refused_or_evaluated_the_same_each_time(text in call_text(), value in any_json()) {
        let variables = BTreeMap::from([("v".to_owned(), value.clone())]);
        if let Ok(call) = Call::parse(&text) {
            let scope = scope(&value, &variables);
            let first = call.evaluate(&scope, &mut Seeded::new(5));
            prop_assert_eq!(&first, &call.evaluate(&scope, &mut Seeded::new(5)));
            if let Err(error) = first {
                prop_assert!(error.to_string().contains("had the following error"));
            }
        }
    }

    #[test]
    fn any_text_is_no_reason_to_panic(text in "\\PC{0,40}", value in any_json()) {
        let _ = Path::parse(&text);
        let _ = Call::parse(&text);
        let _ = ReferencePath::parse(&text);
        let frame = Frame(value);
        if let Ok(expression) = Expression::parse(&format!("{{%{text}%}}")) {
            let _ = expression.evaluate(&frame, &surroundings(), &mut Seeded::new(1));
        }
    }

    #[test]
    fn a_template_of_literals_is_its_own_value(value in any_json()) {
        let frame = Frame(json!({}));
        for language in [QueryLanguage::JsonPath, QueryLanguage::Jsonata] {
            let template = Template::parse(&value, language).unwrap();
            let found = template.evaluate("F", &frame, &surroundings(), &mut Seeded::new(1));
            prop_assert_eq!(found, Ok(value.clone()));
        }
    }

    #[test]
    fn an_expression_reads_what_json_says(value in any_json()) {
        let frame = Frame(value.clone());
        let expression = Expression::parse("{% {'in': [$states.input], 'v': [$v]} %}").unwrap();
        let found = expression.evaluate(&frame, &surroundings(), &mut Seeded::new(1)).unwrap();
        // Arrays are flattened into their constructor only where they are sequences.
        prop_assert_eq!(&found["v"], &found["in"]);
        prop_assert!(found["v"].is_array());
    }
}

#[test]
fn programs_of_jsonata_pieces_end_within_their_time() {
    let pieces = [
        "$states.input",
        "$v",
        "$map(",
        "$reduce(",
        "[1..1000]",
        "function($x){",
        "}",
        ")",
        ",",
        "$x & $x",
        "[$x, $x]",
        "($f := ",
        "; $f(",
        "$f",
        "**",
        "*",
        "..",
        "{",
        "\"a\":",
        "[",
        "]",
        "+ 1",
        "= ",
        "? ",
        " : ",
        "~>",
        "$string",
        "$join(",
        "'ab'",
        "/a+/",
        "^(",
        "|",
        "%",
        "@$i",
        "#$i",
        "$pad(",
        "$",
        "in ",
    ];
    let mut source = Seeded::new(11);
    let frame = Frame(json!({"a": [1, 2, {"b": "c"}]}));
    let (mut parsed, mut pick) = (0, |bound: usize| {
        weir_asl::randomness::Randomness::next_u64(&mut source) as usize % bound
    });
    for _ in 0..3_000 {
        let text: Vec<&str> = (0..=pick(8)).map(|_| pieces[pick(pieces.len())]).collect();
        if let Ok(expression) = Expression::parse(&format!("{{% {} %}}", text.join(" "))) {
            parsed += 1;
            let _ = expression.evaluate(&frame, &surroundings(), &mut Seeded::new(1));
        }
    }
    assert!(parsed > 100, "{parsed} programs");
}
