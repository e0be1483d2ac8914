//! From the text of a pattern to its branches: objects, lists of alternatives, and `$or`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::Dialect;
use super::error::PatternError;
use super::operator;
use super::test::Test;
use super::token::{Token, Tokens};

/// Branches a pattern may have after its `$or`s are multiplied out (aws-semantics 7.11).
pub(super) const MAX_BRANCHES: usize = 1000;

/// The names of the steps to a value, joined with dots. Ordered as AWS orders them, by UTF-16 units; the order matters to
/// `exists: false` beside arrays (see [`super::set`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) String);

impl Ord for Path {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.encode_utf16().cmp(other.0.encode_utf16())
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Conditions that must all hold: for each path, alternatives of which one must.
pub(super) type Branch = BTreeMap<Path, List>;

/// The alternatives for a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct List {
    pub(super) tests: Arc<[Test]>,
    /// In how many `$or`s the list stands.
    ors: usize,
}

/// What was read, with what the limits of topics are about.
pub(super) struct Grammar {
    /// One of them must match.
    pub(super) branches: Vec<Branch>,
    /// Keys of the outermost object, each counted once; `$or` is one.
    pub(super) keys: usize,
    /// Whether a key holds an object.
    pub(super) nested: bool,
    /// The product over keys of (alternatives x depth), summed over the objects of an `$or`.
    pub(super) combinations: u64,
}

/// Words AWS reserves: an object with one of them as a key makes its list an ordinary one, not an `$or`.
const RESERVED_IN_OR: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// Reads `source`. A `$or` that is not a list of two objects or more is an ordinary key (aws-semantics 7.11).
pub(super) fn read(source: &str, dialect: Dialect) -> Result<Grammar, PatternError> {
    let first = Reader::new(source, dialect, true).read();
    match first {
        Err(refused) if source.contains("$or") => Reader::new(source, dialect, false)
            .read()
            .map_err(|_| refused),
        other => other,
    }
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    dialect: Dialect,
    /// Whether `$or` joins the objects behind it.
    or_joins: bool,
    /// The steps to the object that is read.
    path: Vec<String>,
    /// How many `$or`s it stands in.
    ors: usize,
    grammar: Grammar,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str, dialect: Dialect, or_joins: bool) -> Self {
        let grammar = Grammar {
            branches: vec![Branch::new()],
            keys: 0,
            nested: false,
            combinations: 1,
        };
        Self {
            tokens: Tokens::new(source),
            dialect,
            or_joins,
            path: Vec::new(),
            ors: 0,
            grammar,
        }
    }

    fn read(mut self) -> Result<Grammar, PatternError> {
        if self.tokens.next()? != Token::ObjectStart {
            return self.tokens.refuse("Filter is not an object");
        }
        self.object(false)?;
        self.tokens.finish()?;
        Ok(self.grammar)
    }

    /// Reads an object's keys, behind its opening brace.
    fn object(&mut self, in_or: bool) -> Result<(), PatternError> {
        let mut names = Vec::new();
        while self.tokens.next()? != Token::ObjectEnd {
            let name = self.tokens.text()?.to_owned();
            if self.or_joins && name == "$or" {
                self.or()?;
            } else {
                if in_or && RESERVED_IN_OR.contains(&name.as_str()) {
                    return self.tokens.refuse(format!(
                        "{name} is Ruler reserved fieldName which cannot be used inside $or."
                    ));
                }
                self.member(&name, in_or)?;
            }
            names.push(name);
        }
        if names.is_empty() && !(self.path.is_empty() && self.dialect.is_topic() && !in_or) {
            return self.tokens.refuse("Empty objects are not allowed");
        }
        if self.path.is_empty() && !in_or {
            names.sort_unstable();
            names.dedup();
            self.grammar.keys = names.len();
        }
        Ok(())
    }

    fn member(&mut self, name: &str, in_or: bool) -> Result<(), PatternError> {
        match self.tokens.next()? {
            Token::ObjectStart => {
                self.grammar.nested = true;
                self.path.push(name.to_owned());
                self.object(in_or)?;
                self.path.pop();
                Ok(())
            }
            Token::ArrayStart => self.alternatives(name),
            _ => self
                .tokens
                .refuse(format!("\"{name}\" must be an object or an array")),
        }
    }

    /// Reads the list behind `$or`. Each of its objects makes a copy of the branches so far.
    fn or(&mut self) -> Result<(), PatternError> {
        if self.tokens.next()? != Token::ArrayStart {
            return self.tokens.refuse("It must be an Array followed with $or.");
        }
        let before = std::mem::take(&mut self.grammar.branches);
        let combinations = std::mem::replace(&mut self.grammar.combinations, 0);
        let (mut branches, mut sum, mut objects) = (Vec::new(), 0_u64, 0);
        loop {
            match self.tokens.next()? {
                Token::ArrayEnd => break,
                Token::ObjectStart => objects += 1,
                _ => {
                    return self
                        .tokens
                        .refuse("Only JSON object is allowed in array of $or relationship.");
                }
            }
            self.grammar.branches.clone_from(&before);
            self.grammar.combinations = combinations;
            self.ors += 1;
            self.object(true)?;
            self.ors -= 1;
            branches.append(&mut self.grammar.branches);
            sum = sum.saturating_add(self.grammar.combinations);
            if branches.len() > MAX_BRANCHES {
                return self.tokens.refuse(format!(
                    "The objects of $or combine to more than {MAX_BRANCHES} branches: write several patterns"
                ));
            }
        }
        if objects < 2 {
            return self
                .tokens
                .refuse("There must have at least 2 Objects in $or relationship.");
        }
        self.grammar.branches = branches;
        self.grammar.combinations = sum;
        Ok(())
    }

    /// Reads a list of alternatives, behind its opening bracket, and adds it to every branch.
    ///
    /// Of two lists for one path the last counts; but one inside an `$or` is never replaced by one beside it, so that the order of
    /// an object's keys means nothing.
    fn alternatives(&mut self, name: &str) -> Result<(), PatternError> {
        let mut tests = Vec::new();
        let mut count = 0_u64;
        loop {
            match self.tokens.next()? {
                Token::ArrayEnd => break,
                token => tests.push(operator::alternative(
                    &mut self.tokens,
                    token,
                    self.dialect,
                )?),
            }
            count += 1;
        }
        if tests.is_empty() {
            return self.tokens.refuse("Empty arrays are not allowed");
        }
        let depth = self.path.len() as u64 + 1;
        let weight = count.saturating_mul(depth);
        self.grammar.combinations = self.grammar.combinations.saturating_mul(weight);
        let mut path = self.path.join(".");
        if !self.path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        let tests: Arc<[Test]> = tests.into();
        for branch in &mut self.grammar.branches {
            let list = List {
                tests: Arc::clone(&tests),
                ors: self.ors,
            };
            match branch.entry(Path(path.clone())) {
                Entry::Vacant(free) => drop(free.insert(list)),
                Entry::Occupied(known) if known.get().ors > self.ors => {}
                Entry::Occupied(mut known) => drop(known.insert(list)),
            }
        }
        Ok(())
    }
}
