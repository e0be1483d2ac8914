//! What an expression mentions, so that only that is converted and bound.

use std::collections::BTreeSet;

use jsonata_core::ast::{AstNode, PathStep, Stage};
use jsonata_core::value::with_stack;

use super::{ParseExpressionError, StatesField};

#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Every name behind a `$`, those the expression binds itself too.
    pub(super) variables: BTreeSet<String>,
    pub(super) states: bool,
    /// The fields of `$states` that are mentioned; none when it is used as a whole.
    pub(super) fields: Option<Vec<StatesField>>,
    pub(super) randomness: bool,
}

pub(super) fn needs(program: &AstNode) -> Result<Needs, ParseExpressionError> {
    let mut needs = Needs {
        fields: Some(Vec::new()),
        ..Needs::default()
    };
    let mut calls_eval = false;
    visit(program, &mut |node| match node {
        AstNode::Variable(name) | AstNode::Function { name, .. } => {
            calls_eval |= name == "eval";
            needs.randomness |= matches!(name.as_str(), "random" | "uuid" | "shuffle");
            if name == "states" {
                needs.states = true;
            }
            if !name.is_empty() {
                needs.variables.insert(name.clone());
            }
        }
        _ => {}
    });
    if calls_eval {
        return Err(ParseExpressionError::CallEval);
    }
    needs.variables.remove("states");
    needs.fields = fields_of_states(program);
    Ok(needs)
}

/// The named fields of `$states`, where every mention of it is the start of a path with a plain field after it.
fn fields_of_states(program: &AstNode) -> Option<Vec<StatesField>> {
    let (mut mentions, mut named, mut fields) = (0, 0, Vec::new());
    visit(program, &mut |node| match node {
        AstNode::Variable(name) if name == "states" => mentions += 1,
        AstNode::Path { steps } => {
            if let [
                PathStep {
                    node: AstNode::Variable(name),
                    stages,
                    focus: None,
                    index_var: None,
                    ..
                },
                second,
                ..,
            ] = steps.as_slice()
                && name == "states"
                && stages.is_empty()
                && let AstNode::Name(field) = &second.node
            {
                named += 1;
                fields.extend(
                    StatesField::ALL
                        .into_iter()
                        .filter(|known| known.name() == field),
                );
            }
        }
        _ => {}
    });
    (mentions == named).then_some(fields)
}

/// Calls `see` with every node.
fn visit(node: &AstNode, see: &mut dyn FnMut(&AstNode)) {
    see(node);
    with_stack(|| match node {
        AstNode::Path { steps } => {
            for step in steps {
                visit(&step.node, see);
                for stage in &step.stages {
                    if let Stage::Filter(filter) = stage {
                        visit(filter, see);
                    }
                }
            }
        }
        AstNode::Binary { lhs, rhs, .. } => {
            visit(lhs, see);
            visit(rhs, see);
        }
        AstNode::Unary { operand, .. } => visit(operand, see),
        AstNode::Function { args, .. } => visit_all(args, see),
        AstNode::Call { procedure, args } => {
            visit(procedure, see);
            visit_all(args, see);
        }
        AstNode::Lambda { body, .. } => visit(body, see),
        AstNode::Array(items) | AstNode::Block(items) | AstNode::ArrayGroup(items) => {
            visit_all(items, see);
        }
        AstNode::Object(pairs) => visit_pairs(pairs, see),
        AstNode::ObjectTransform { input, pattern } => {
            visit(input, see);
            visit_pairs(pattern, see);
        }
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => {
            visit(condition, see);
            visit(then_branch, see);
            if let Some(branch) = else_branch {
                visit(branch, see);
            }
        }
        AstNode::FunctionApplication(inner) => visit(inner, see),
        AstNode::Sort { input, terms } => {
            visit(input, see);
            for (term, _) in terms {
                visit(term, see);
            }
        }
        AstNode::Transform {
            location,
            update,
            delete,
        } => {
            visit(location, see);
            visit(update, see);
            if let Some(delete) = delete {
                visit(delete, see);
            }
        }
        AstNode::String(_)
        | AstNode::Name(_)
        | AstNode::Number(_)
        | AstNode::Boolean(_)
        | AstNode::Null
        | AstNode::Undefined
        | AstNode::Placeholder
        | AstNode::Regex { .. }
        | AstNode::Variable(_)
        | AstNode::ParentVariable(_)
        | AstNode::Wildcard
        | AstNode::Descendant
        | AstNode::Parent(_) => {}
    });
}

fn visit_all(nodes: &[AstNode], see: &mut dyn FnMut(&AstNode)) {
    for node in nodes {
        visit(node, see);
    }
}

fn visit_pairs(pairs: &[(AstNode, AstNode)], see: &mut dyn FnMut(&AstNode)) {
    for (key, value) in pairs {
        visit(key, see);
        visit(value, see);
    }
}
