//! One alternative of a list: a literal, or an object that names an operator.
//!
//! Everything is checked in the order in which AWS reads it, so that the first mistake is the one AWS names, with the place it
//! names. Where the text of an error differs between services, the dialect decides.

use super::Dialect;
use super::address::{Address, Block};
use super::case::Folded;
use super::error::PatternError;
use super::number;
use super::test::{Not, Range, Test};
use super::token::{Token, Tokens};
use super::wildcard::Wildcard;

type Read<T> = Result<T, PatternError>;

const ONE_KEY: &str = "Only one key allowed in match expression";
const TOO_MANY: &str = "Too many elements in numeric expression";

/// Reads the alternative that starts with `token`.
pub(super) fn alternative(tokens: &mut Tokens, token: Token, dialect: Dialect) -> Read<Test> {
    match token {
        Token::ObjectStart => expression(tokens, dialect),
        Token::Text => {
            let text = tokens.text()?;
            // A text that is an address stands for that address however it is written.
            Ok(match Address::parse(text.as_bytes()) {
                Some(address) => Test::Address(Block::of_one(address)),
                None => Test::Text(text.to_owned()),
            })
        }
        Token::Number => {
            let written = tokens.text()?;
            Ok(match number::comparable(written.as_bytes()) {
                Some(number) => Test::Number(number),
                None => Test::NumberAsWritten(written.to_owned()),
            })
        }
        Token::Null => Ok(Test::Null),
        Token::True => Ok(Test::True),
        Token::False => Ok(Test::False),
        _ => tokens.refuse("Match value must be String, number, true, false, or null"),
    }
}

fn expression(tokens: &mut Tokens, dialect: Dialect) -> Read<Test> {
    if tokens.next()? != Token::Key {
        return tokens.refuse("Match expression name not found");
    }
    let operator = tokens.text()?.to_owned();
    match operator.as_str() {
        "exactly" => {
            let text = string(tokens, "exact match pattern must be a string")?;
            end(tokens, ONE_KEY)?;
            Ok(Test::Text(text))
        }
        "prefix" => affix(tokens, dialect, "prefix"),
        "suffix" => affix(tokens, dialect, "suffix"),
        "numeric" => {
            if tokens.next()? != Token::ArrayStart {
                return tokens.refuse("Value of numeric must be an array.");
            }
            let test = numeric(tokens)?;
            end(tokens, TOO_MANY)?;
            Ok(test)
        }
        "anything-but" => anything_but(tokens, dialect).map(Test::AnythingBut),
        "exists" => {
            let test = match tokens.next()? {
                Token::True => Test::Exists,
                Token::False => Test::Absent,
                _ => {
                    return tokens.refuse("exists match pattern must be either true or false.");
                }
            };
            end(tokens, ONE_KEY)?;
            Ok(test)
        }
        "cidr" => {
            let text = string(tokens, "prefix match pattern must be a string")?;
            let block = Block::parse(&text)?;
            end(tokens, ONE_KEY)?;
            Ok(Test::Address(block))
        }
        "equals-ignore-case" => {
            let text = string(tokens, "equals-ignore-case match pattern must be a string")?;
            end(tokens, ONE_KEY)?;
            Ok(Test::IgnoreCase(Folded::new(&text)))
        }
        "wildcard" => {
            let wildcard = wildcard(tokens)?;
            end(tokens, ONE_KEY)?;
            Ok(Test::Wildcard(wildcard))
        }
        _ => tokens.refuse(format!("Unrecognized match type {operator}")),
    }
}

/// Reads a string value.
fn string(tokens: &mut Tokens, otherwise: &str) -> Read<String> {
    if tokens.next()? != Token::Text {
        return tokens.refuse(otherwise);
    }
    Ok(tokens.text()?.to_owned())
}

fn end(tokens: &mut Tokens, otherwise: &str) -> Read<()> {
    if tokens.next()? != Token::ObjectEnd {
        return tokens.refuse(otherwise);
    }
    Ok(())
}

fn wildcard(tokens: &mut Tokens) -> Read<Wildcard> {
    let text = string(tokens, "wildcard match pattern must be a string")?;
    Wildcard::parse(&text).or_else(|reason| tokens.refuse(reason))
}

/// Reads `prefix` or `suffix`: a string, or an object that makes it ignore case.
fn affix(tokens: &mut Tokens, dialect: Dialect, name: &str) -> Read<Test> {
    let token = tokens.next()?;
    if token == Token::ObjectStart && !dialect.is_topic() {
        if tokens.next()? != Token::Key {
            let capital = if name == "prefix" { "Prefix" } else { "Suffix" };
            return tokens.refuse(format!("{capital} expression name not found"));
        }
        let inner = tokens.text()?.to_owned();
        if inner != "equals-ignore-case" {
            return tokens.refuse(format!("Unsupported {name} pattern: {inner}"));
        }
        let text = string(tokens, "equals-ignore-case match pattern must be a string")?;
        end(tokens, ONE_KEY)?;
        end(tokens, ONE_KEY)?;
        let folded = Folded::new(&text);
        return Ok(match name {
            "prefix" => Test::PrefixIgnoreCase(folded),
            _ => Test::SuffixIgnoreCase(folded),
        });
    }
    if token != Token::Text {
        return tokens.refuse(format!("{name} match pattern must be a string"));
    }
    let text = tokens.text()?.to_owned();
    end(tokens, ONE_KEY)?;
    Ok(match name {
        "prefix" => Test::Prefix(text),
        _ => Test::Suffix(text),
    })
}

/// Reads a comparable number out of the current token.
fn comparable(tokens: &mut Tokens) -> Read<f64> {
    let written = tokens.text()?.to_owned();
    match number::comparable(written.as_bytes()) {
        Some(number) => Ok(number),
        None => tokens.refuse(format!("Cannot compare number : {written}")),
    }
}

/// Reads the members of `numeric`, behind the opening bracket.
fn numeric(tokens: &mut Tokens) -> Read<Test> {
    if tokens.next()? != Token::Text {
        let text = tokens.text()?.to_owned();
        return tokens.refuse(format!("Invalid member in numeric match: {text}"));
    }
    let operator = tokens.text()?.to_owned();
    let token = tokens.next()?;
    let spoken = match operator.as_str() {
        "=" => "equals",
        ">" | ">=" | "<" | "<=" => operator.as_str(),
        _ => {
            return tokens.refuse(format!("Unrecognized numeric range operator: {operator}"));
        }
    };
    if !token.is_number() {
        return tokens.refuse(format!("Value of {spoken} must be numeric"));
    }
    let written = tokens.text()?.to_owned();
    let next = tokens.next()?;
    let lower_bound = operator.starts_with('>');
    if next != Token::ArrayEnd {
        if !lower_bound {
            return tokens.refuse(TOO_MANY);
        }
        return between(tokens, next, &written, operator == ">=");
    }
    let Some(number) = number::comparable(written.as_bytes()) else {
        return tokens.refuse(format!("Cannot compare number : {written}"));
    };
    let included = operator.ends_with('=');
    Ok(match operator.as_str() {
        "=" => Test::Number(number),
        _ if lower_bound => Test::Range(Range {
            low: number,
            low_included: included,
            ..Range::ALL
        }),
        _ => Test::Range(Range {
            high: number,
            high_included: included,
            ..Range::ALL
        }),
    })
}

/// Reads the upper bound of a range whose lower bound was read; `token` is what follows that.
fn between(tokens: &mut Tokens, token: Token, low: &str, low_included: bool) -> Read<Test> {
    if token != Token::Text {
        let text = tokens.text()?.to_owned();
        return tokens.refuse(format!("Bad value in numeric range: {text}"));
    }
    let operator = tokens.text()?.to_owned();
    if operator != "<" && operator != "<=" {
        return tokens.refuse(format!("Bad numeric range operator: {operator}"));
    }
    if !tokens.next()?.is_number() {
        return tokens.refuse(format!("Value of {operator} must be numeric"));
    }
    let high = tokens.text()?.to_owned();
    if tokens.next()? != Token::ArrayEnd {
        return tokens.refuse("Too many terms in numeric range expression");
    }
    let bound = |written: &str| match number::comparable(written.as_bytes()) {
        Some(number) => Ok(number),
        None => tokens.refuse(format!("Cannot compare number : {written}")),
    };
    let (low, high) = (bound(low)?, bound(&high)?);
    if low >= high {
        return tokens.refuse("Bottom must be less than top");
    }
    Ok(Test::Range(Range {
        low,
        low_included,
        high,
        high_included: operator == "<=",
    }))
}

fn anything_but(tokens: &mut Tokens, dialect: Dialect) -> Read<Not> {
    let mut token = tokens.next()?;
    let mut inner = None;
    if token == Token::ObjectStart {
        if tokens.next()? != Token::Key {
            return tokens.refuse("Anything-But expression name not found");
        }
        let name = tokens.text()?.to_owned();
        let Some(operator) = Inner::named(&name, dialect) else {
            return tokens.refuse(format!("Unsupported anything-but pattern: {name}"));
        };
        token = tokens.next()?;
        if dialect.is_topic() && operator == Inner::Prefix {
            return topic_prefix(tokens, token);
        }
        inner = Some(operator);
    }
    if !matches!(token, Token::ArrayStart | Token::Text | Token::Number) {
        return tokens
            .refuse("Value of anything-but must be an array or single string/number value.");
    }
    let not = match inner {
        None => literals(tokens, token)?,
        Some(inner) => inner.of(strings(tokens, token, inner)?),
    };
    end(tokens, TOO_MANY)?;
    if inner.is_some() {
        end(tokens, TOO_MANY)?;
    }
    Ok(not)
}

/// SNS takes one string here, and has its own words for what is not one.
fn topic_prefix(tokens: &mut Tokens, token: Token) -> Read<Not> {
    if token != Token::Text {
        return tokens.refuse("prefix match pattern must be a string");
    }
    let text = tokens.text()?.to_owned();
    if text.is_empty() {
        return tokens.refuse("Null prefix not allowed");
    }
    end(tokens, ONE_KEY)?;
    end(tokens, ONE_KEY)?;
    Ok(Not::Prefixes(vec![text]))
}

/// Reads the strings or the numbers of `anything-but`.
fn literals(tokens: &mut Tokens, first: Token) -> Read<Not> {
    let list = first == Token::ArrayStart;
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    loop {
        match if list { tokens.next()? } else { first } {
            Token::ArrayEnd if list => break,
            Token::Text => texts.push(tokens.text()?.to_owned()),
            Token::Number => numbers.push(comparable(tokens)?),
            _ => {
                return tokens
                    .refuse("Inside anything but list, start|null|boolean is not supported.");
            }
        }
        if !list {
            break;
        }
    }
    match (texts.is_empty(), numbers.is_empty()) {
        (false, true) => Ok(Not::Texts(texts)),
        (true, false) => Ok(Not::Numbers(numbers)),
        _ => tokens.refuse(
            "Inside anything but list, either all values are number or string, mixed type is not supported",
        ),
    }
}

/// An operator inside `anything-but`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inner {
    Prefix,
    Suffix,
    IgnoreCase,
    Wildcard,
}

impl Inner {
    fn named(name: &str, dialect: Dialect) -> Option<Self> {
        match name {
            "prefix" => Some(Self::Prefix),
            _ if dialect.is_topic() => None,
            "suffix" => Some(Self::Suffix),
            "equals-ignore-case" => Some(Self::IgnoreCase),
            "wildcard" => Some(Self::Wildcard),
            _ => None,
        }
    }

    fn must_be_strings(self) -> &'static str {
        match self {
            Self::IgnoreCase => {
                "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."
            }
            Self::Wildcard => "wildcard match pattern must be a string",
            Self::Prefix | Self::Suffix => "prefix/suffix match pattern must be a string",
        }
    }

    fn of(self, operands: Vec<Operand>) -> Not {
        let texts = || operands.iter().map(|operand| operand.text.clone());
        match self {
            Self::Prefix => Not::Prefixes(texts().collect()),
            Self::Suffix => Not::Suffixes(texts().collect()),
            Self::IgnoreCase => Not::IgnoreCase(texts().map(|text| Folded::new(&text)).collect()),
            Self::Wildcard => Not::Wildcards(
                operands
                    .into_iter()
                    .filter_map(|operand| operand.wildcard)
                    .collect(),
            ),
        }
    }
}

struct Operand {
    text: String,
    wildcard: Option<Wildcard>,
}

/// Reads the string or the list of strings that an operator inside `anything-but` takes.
fn strings(tokens: &mut Tokens, first: Token, inner: Inner) -> Read<Vec<Operand>> {
    let list = first == Token::ArrayStart;
    let mut operands = Vec::new();
    loop {
        match if list { tokens.next()? } else { first } {
            Token::ArrayEnd if list => break,
            Token::Text => {}
            _ => return tokens.refuse(inner.must_be_strings()),
        }
        let text = tokens.text()?.to_owned();
        if text.is_empty() && matches!(inner, Inner::Prefix | Inner::Suffix) {
            return tokens.refuse("Null prefix/suffix not allowed");
        }
        operands.push(Operand {
            text,
            wildcard: None,
        });
        if !list {
            break;
        }
    }
    // Wildcards are parsed when all of them were read.
    if inner == Inner::Wildcard {
        for operand in &mut operands {
            operand.wildcard =
                Some(Wildcard::parse(&operand.text).or_else(|reason| tokens.refuse(reason))?);
        }
    }
    Ok(operands)
}
