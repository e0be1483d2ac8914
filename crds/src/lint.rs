//! Judges manifests offline, as the API server would: text in, values out.
//!
//! A document of our group goes through the steps of the server, in its order: the shape of the
//! object and unknown fields, defaults, the schema, list keys, then the CEL rules. Messages of rules
//! are the server's; messages of the schema contain the server's words and add a hint. Objects of
//! other groups pass untouched.
//!
//! Nothing here may panic or take unbounded time or memory, whatever the text: see `tests/hostile.rs`.
//! The fixtures in `fixtures/` are judged by `tests/fixtures.rs` here and by a real API server
//! elsewhere.

mod defaults;
mod metadata;
mod nearest;
mod schema;
mod unknown;
mod yaml;

use std::fmt;

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde::Serialize;
use serde_json::Value;

pub use defaults::with_defaults;
pub use nearest::nearest;
pub use yaml::{Lines, MAX_PROBLEMS, Parsed, parse};

use crate::document::{Document, KINDS, LATER_KINDS};
use crate::{API_VERSION, GROUP, all_crds};

/// Longest message or path, in characters.
const MAX_MESSAGE: usize = 600;

/// Something wrong in a manifest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// Line in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// `Kind/name`, as far as known.
    pub object: String,
    /// Path of the field, for example `spec.handler.env[0].name`; empty for the whole document.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// Whether the server would refuse it.
    pub severity: Severity,
}

/// Whether the server would refuse the document.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Severity {
    /// It would be refused.
    Error,
    /// It would be accepted, but does not do what was meant.
    Warning,
}

/// `path: message`, as the server writes it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A field and what is wrong with it, before it is known where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) message: String,
    /// The server stops before the CEL rules.
    pub(crate) blocking: bool,
}

impl Finding {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            blocking: false,
        }
    }

    pub(crate) fn blocking(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            blocking: true,
        }
    }
}

/// A document that was read, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The object, with defaults.
    pub document: Document,
    /// Line of the file on which it begins, from 1.
    pub line: u32,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Documents without errors, in order.
    pub documents: Vec<Located>,
    /// What is wrong with the file, in order.
    pub problems: Vec<Problem>,
}

impl Manifest {
    /// No document would be refused.
    pub fn is_acceptable(&self) -> bool {
        self.problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    }
}

/// Names and values in a manifest have any length; what is said of them has not.
fn shortened(text: String) -> String {
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let mut short: String = text.chars().take(MAX_MESSAGE).collect();
    short.push('…');
    short
}

/// One kind's schema, ready to be used many times.
struct Judge {
    kind: String,
    schema: Value,
    shape: jsonschema::Validator,
    rules: CompiledSchema,
}

/// Reads and judges manifests. Making one compiles all schemas and rules: keep it.
pub struct Linter {
    judges: Vec<Judge>,
    cel: Validator,
}

impl Default for Linter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Linter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.judges.iter().map(|judge| &judge.kind))
            .finish()
    }
}

/// Judges one file. To judge several, keep a [`Linter`].
pub fn lint(file: &str, text: &str) -> Vec<Problem> {
    Linter::new().read(file, text).problems
}

impl Linter {
    /// A linter for the kinds of this crate.
    pub fn new() -> Self {
        let judges = all_crds()
            .into_iter()
            .map(|crd| {
                let schema = crd
                    .spec
                    .versions
                    .into_iter()
                    .next()
                    .and_then(|version| version.schema);
                let schema = schema.and_then(|schema| schema.open_api_v3_schema);
                let schema = serde_json::to_value(schema).expect("a schema is JSON");
                Judge {
                    kind: crd.spec.names.kind,
                    shape: schema::compile(&schema),
                    rules: compile_schema(&schema),
                    schema,
                }
            })
            .collect();
        Self {
            judges,
            cel: Validator::new(),
        }
    }

    /// Reads the documents of a file and says what is wrong with them. A document with an error is
    /// left out of [`Manifest::documents`]; the others are there.
    pub fn read(&self, file: &str, text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        for parsed in parse(text) {
            // Of warnings there are fewer: there are many errors.
            if manifest.problems.len() >= 2 * MAX_PROBLEMS {
                break;
            }
            match parsed {
                Parsed::Broken { line, message } => manifest.problems.push(Problem {
                    file: file.into(),
                    line,
                    object: String::new(),
                    path: String::new(),
                    message,
                    severity: Severity::Error,
                }),
                Parsed::Document { value, lines } => {
                    self.document(file, value, &lines, &mut manifest);
                }
            }
        }
        if manifest.problems.len() > MAX_PROBLEMS {
            manifest.problems.sort_by_key(|problem| problem.severity);
            manifest.problems.truncate(MAX_PROBLEMS);
        }
        manifest
    }

    /// Judges one object. The path in a problem says where, so that values from anywhere can be judged.
    pub fn judge(&self, value: &Value) -> Vec<Problem> {
        let mut manifest = Manifest::default();
        self.document("", value.clone(), &Lines::default(), &mut manifest);
        manifest.problems
    }

    fn document(&self, file: &str, value: Value, lines: &Lines, manifest: &mut Manifest) {
        if let Some(items) = metadata::items_of_list(&value) {
            for (index, item) in items.iter().enumerate() {
                let lines = lines.child("items").and_then(|items| items.item(index));
                self.one(
                    file,
                    item.clone(),
                    lines.unwrap_or(&Lines::default()),
                    manifest,
                );
            }
        } else {
            self.one(file, value, lines, manifest);
        }
    }

    fn one(&self, file: &str, value: Value, lines: &Lines, manifest: &mut Manifest) {
        let object = metadata::title(&value);
        let mut report = |finding: Finding, severity| {
            if severity == Severity::Warning && manifest.problems.len() >= MAX_PROBLEMS {
                return;
            }
            manifest.problems.push(Problem {
                file: file.into(),
                line: lines.line_of(&finding.path),
                object: object.clone(),
                path: shortened(finding.path),
                message: shortened(finding.message),
                severity,
            });
        };
        let judge = match self.judge_of(&value) {
            Ok(judge) => judge,
            Err(finding) => return report(finding, Severity::Error),
        };
        let document = match judge {
            None => {
                if let Some(finding) = metadata::looks_like_ours(&value) {
                    report(finding, Severity::Warning);
                }
                Document::Other(Box::new(value))
            }
            Some(judge) => {
                for finding in unknown::nulls(&judge.schema, &value) {
                    report(finding, Severity::Warning);
                }
                match self.inspect(judge, &value) {
                    Ok(document) => document,
                    Err(mut findings) => {
                        findings.sort_by_key(|finding| lines.line_of(&finding.path));
                        let more = findings.len() > MAX_PROBLEMS;
                        findings.truncate(MAX_PROBLEMS);
                        for finding in findings {
                            report(finding, Severity::Error);
                        }
                        if more {
                            report(Finding::new("", "and more"), Severity::Error);
                        }
                        return;
                    }
                }
            }
        };
        manifest.documents.push(Located {
            document,
            line: lines.line().unwrap_or(1),
        });
    }

    /// Which kind the document is of: `None` for other groups.
    fn judge_of(&self, value: &Value) -> Result<Option<&Judge>, Finding> {
        let (api_version, kind) = metadata::type_of(value)?;
        if api_version != GROUP && !api_version.starts_with(&format!("{GROUP}/")) {
            return Ok(None);
        }
        let judge = self.judges.iter().find(|judge| judge.kind == kind);
        if let (API_VERSION, Some(judge)) = (api_version, judge) {
            return Ok(Some(judge));
        }
        let hint = if api_version != API_VERSION {
            format!(": write `apiVersion: {API_VERSION}`")
        } else if LATER_KINDS.contains(&kind) {
            ": this version of Weir does not have it yet".into()
        } else {
            nearest::did_you_mean(kind, KINDS)
        };
        let message = format!("no matches for kind {kind:?} in version {api_version:?}{hint}");
        let path = if api_version == API_VERSION {
            "kind"
        } else {
            "apiVersion"
        };
        Err(Finding::new(path, message))
    }

    /// The steps of the server, in its order.
    fn inspect(&self, judge: &Judge, value: &Value) -> Result<Document, Vec<Finding>> {
        let mut findings = metadata::check(value);
        findings.extend(unknown::fields(&judge.schema, value));
        let mut value = with_defaults(&judge.schema, value);
        defaults::whole_numbers(&mut value);
        if let Some(object) = value.as_object_mut() {
            // Written by the operator only; the server takes it away before it looks.
            object.remove("status");
        }
        findings.extend(schema::check(&judge.shape, &judge.schema, &value));
        if !findings.iter().any(|finding| finding.blocking) {
            findings.extend(self.rules(judge, &value));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        Document::from_value(value).map_err(|error| {
            vec![Finding::new(
                "",
                format!("accepted by the schema, but not readable: {error}"),
            )]
        })
    }

    fn rules(&self, judge: &Judge, value: &Value) -> Vec<Finding> {
        let value = metadata::with_name(value);
        let Err(errors) = self.cel.validate_compiled(&judge.rules, &value, None) else {
            return Vec::new();
        };
        errors
            .into_iter()
            .map(|error| {
                let message = match error.kind {
                    ErrorKind::ValidationFailure => error.message,
                    _ => format!(
                        "rule `{}` could not be evaluated: {}",
                        error.rule, error.message
                    ),
                };
                Finding::new(error.field_path, message)
            })
            .collect()
    }
}
