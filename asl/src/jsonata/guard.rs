//! Keeps values small while an expression runs.
//!
//! The evaluator bounds time, depth and sequences, but checks them between nodes: a text that doubles, or an array that
//! holds another one many times over, grows without a check until some function walks it. So arguments of calls, operands
//! that are compared or joined, and what lambdas return are measured first, against a bound for one value and a budget for
//! all of them; a function whose answer may be much larger than its arguments has these checked together.

use std::cell::Cell;

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, Stage};
use jsonata_core::evaluator::{Evaluator, EvaluatorError};
use jsonata_core::value::{JValue, with_stack};

use super::Limits;

/// Measures its argument and hands it on. No expression can write this name.
const MEASURED: &str = "weir:measured";
/// Checks the product of a count and a text's length.
const PRODUCT: &str = "weir:product";
/// Values looked at by all measurements of one evaluation.
const BUDGET: usize = 20_000_000;

pub(super) fn register(evaluator: &mut Evaluator, limits: Limits) -> Result<(), EvaluatorError> {
    let spent = Cell::new(0);
    evaluator.register_fn(MEASURED, move |arguments: &[JValue]| {
        let value = arguments.first().cloned().unwrap_or(JValue::Undefined);
        spent.set(spent.get() + measure(&value, limits.bytes)?);
        if spent.get() > BUDGET {
            return Err(too_much("The values of the expression"));
        }
        Ok(value)
    })?;
    evaluator.register_fn(PRODUCT, move |arguments: &[JValue]| {
        let factor = |value: Option<&JValue>| match value {
            Some(JValue::Number(number)) => number.abs(),
            Some(JValue::String(text)) => text.len() as f64,
            Some(JValue::Array(items)) => items.len() as f64,
            _ => 1.0,
        };
        let product: f64 = arguments
            .iter()
            .map(|argument| factor(Some(argument)).max(1.0))
            .product();
        if product > limits.bytes as f64 * 8.0 {
            return Err(too_much("The result of a function"));
        }
        Ok(JValue::Undefined)
    })
}

fn too_much(what: &str) -> EvaluatorError {
    EvaluatorError::EvaluationError(format!("{what} would exceed the maximum size."))
}

/// How many values the value consists of; an error when it has more bytes than allowed.
fn measure(value: &JValue, bytes: usize) -> Result<usize, EvaluatorError> {
    let (mut count, mut size) = (0, 0);
    let mut pending = vec![value];
    while let Some(next) = pending.pop() {
        count += 1;
        size += 2;
        match next {
            JValue::String(text) => size += text.len(),
            JValue::Array(items) => {
                if items.len() > bytes {
                    return Err(too_much("A value"));
                }
                pending.extend(items.iter());
            }
            JValue::Object(_) => {
                for (name, field) in next.as_object().into_iter().flatten() {
                    size += name.len();
                    pending.push(field);
                }
            }
            _ => {}
        }
        if size > bytes || pending.len() > bytes {
            return Err(too_much("A value"));
        }
    }
    Ok(count)
}

/// The same program with the measurements in it.
pub(super) fn guarded(node: AstNode) -> AstNode {
    with_stack(|| match node {
        AstNode::Binary {
            op: BinaryOp::ChainPipe,
            lhs,
            rhs,
        } => chained(*lhs, *rhs),
        AstNode::Binary { op, lhs, rhs } => {
            let (lhs, rhs) = (guarded(*lhs), guarded(*rhs));
            let (lhs, rhs) = match op {
                BinaryOp::Concatenate | BinaryOp::Equal | BinaryOp::NotEqual | BinaryOp::In => {
                    (measured(lhs), measured(rhs))
                }
                _ => (lhs, rhs),
            };
            AstNode::Binary {
                op,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
            }
        }
        AstNode::Function {
            name,
            args,
            is_builtin,
        } => call(name, args, is_builtin),
        AstNode::Call { procedure, args } => AstNode::Call {
            procedure: Box::new(guarded(*procedure)),
            args: args.into_iter().map(|arg| measured(guarded(arg))).collect(),
        },
        AstNode::Lambda {
            params,
            body,
            signature,
            thunk,
        } => AstNode::Lambda {
            params,
            body: Box::new(returned(guarded(*body))),
            signature,
            thunk,
        },
        AstNode::Path { steps } => {
            let steps = steps.into_iter().map(|step| PathStep {
                node: guarded(step.node),
                stages: step
                    .stages
                    .into_iter()
                    .map(|stage| match stage {
                        Stage::Filter(filter) => Stage::Filter(Box::new(guarded(*filter))),
                        other => other,
                    })
                    .collect(),
                ..step
            });
            AstNode::Path {
                steps: steps.collect(),
            }
        }
        AstNode::Unary { op, operand } => AstNode::Unary {
            op,
            operand: Box::new(guarded(*operand)),
        },
        AstNode::Array(items) => AstNode::Array(all(items)),
        AstNode::Block(items) => AstNode::Block(all(items)),
        AstNode::ArrayGroup(items) => AstNode::ArrayGroup(all(items)),
        AstNode::Object(pairs) => AstNode::Object(pairs_of(pairs)),
        AstNode::ObjectTransform { input, pattern } => AstNode::ObjectTransform {
            input: Box::new(guarded(*input)),
            pattern: pairs_of(pattern),
        },
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => AstNode::Conditional {
            condition: Box::new(guarded(*condition)),
            then_branch: Box::new(guarded(*then_branch)),
            else_branch: else_branch.map(|branch| Box::new(guarded(*branch))),
        },
        AstNode::FunctionApplication(inner) => {
            AstNode::FunctionApplication(Box::new(guarded(*inner)))
        }
        AstNode::Sort { input, terms } => AstNode::Sort {
            input: Box::new(guarded(*input)),
            terms: terms
                .into_iter()
                .map(|(term, up)| (guarded(term), up))
                .collect(),
        },
        AstNode::Transform {
            location,
            update,
            delete,
        } => AstNode::Transform {
            location: Box::new(guarded(*location)),
            update: Box::new(guarded(*update)),
            delete: delete.map(|delete| Box::new(guarded(*delete))),
        },
        AstNode::Variable(name) if multiplies(&name) => by_value(name),
        leaf => leaf,
    })
}

/// Whether the function's answer may be as long as the product of its arguments.
fn multiplies(name: &str) -> bool {
    matches!(name, "pad" | "join" | "replace")
}

/// `text ~> $function(more)` is `$function(text, more)`.
fn chained(lhs: AstNode, rhs: AstNode) -> AstNode {
    match rhs {
        AstNode::Function {
            name,
            mut args,
            is_builtin: true,
        } if multiplies(&name) && !args.contains(&AstNode::Placeholder) => {
            args.insert(0, lhs);
            call(name, args, true)
        }
        rhs => AstNode::Binary {
            op: BinaryOp::ChainPipe,
            lhs: Box::new(measured(guarded(lhs))),
            rhs: Box::new(guarded(rhs)),
        },
    }
}

/// The function as a value, for somebody to call later: a lambda around the checked call.
fn by_value(name: String) -> AstNode {
    let count = if name == "join" { 2 } else { 3 };
    let params: Vec<String> = (0..count)
        .map(|index| format!("weir:parameter:{index}"))
        .collect();
    let args = params.iter().cloned().map(AstNode::Variable).collect();
    AstNode::Lambda {
        params,
        body: Box::new(call(name, args, true)),
        signature: None,
        thunk: false,
    }
}

fn all(nodes: Vec<AstNode>) -> Vec<AstNode> {
    nodes.into_iter().map(guarded).collect()
}

fn pairs_of(pairs: Vec<(AstNode, AstNode)>) -> Vec<(AstNode, AstNode)> {
    pairs
        .into_iter()
        .map(|(key, value)| (guarded(key), guarded(value)))
        .collect()
}

/// Whether a node's value may be large.
fn may_grow(node: &AstNode) -> bool {
    !matches!(
        node,
        AstNode::String(_)
            | AstNode::Number(_)
            | AstNode::Boolean(_)
            | AstNode::Null
            | AstNode::Undefined
            | AstNode::Placeholder
            | AstNode::Regex { .. }
            | AstNode::Lambda { .. }
            | AstNode::Transform { .. }
    )
}

fn measured(node: AstNode) -> AstNode {
    if !may_grow(&node) || matches!(&node, AstNode::Function { name, .. } if name == MEASURED) {
        return node;
    }
    AstNode::Function {
        name: MEASURED.to_owned(),
        args: vec![node],
        is_builtin: true,
    }
}

/// What a lambda returns. Calls in tail position stay where they are, so that they still cost no stack: their arguments
/// are measured, and what they return is measured inside.
fn returned(node: AstNode) -> AstNode {
    match node {
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => AstNode::Conditional {
            condition,
            then_branch: Box::new(returned(*then_branch)),
            else_branch: else_branch.map(|branch| Box::new(returned(*branch))),
        },
        AstNode::Block(mut items) => {
            if let Some(last) = items.pop() {
                items.push(returned(last));
            }
            AstNode::Block(items)
        }
        tail @ (AstNode::Function { .. } | AstNode::Call { .. }) => tail,
        other => measured(other),
    }
}

fn call(name: String, args: Vec<AstNode>, is_builtin: bool) -> AstNode {
    let args: Vec<AstNode> = args.into_iter().map(|arg| measured(guarded(arg))).collect();
    if !is_builtin
        || !multiplies(&name)
        || args.iter().any(|arg| matches!(arg, AstNode::Placeholder))
    {
        return AstNode::Function {
            name,
            args,
            is_builtin,
        };
    }
    // ($a := ...; $b := ...; product($a, $b); $name($a, $b)), with names no expression can write.
    let mut block = Vec::new();
    let mut variables = Vec::new();
    for (index, arg) in args.into_iter().enumerate() {
        if may_grow(&arg) {
            let variable = format!("weir:argument:{index}");
            block.push(AstNode::Binary {
                op: BinaryOp::ColonEqual,
                lhs: Box::new(AstNode::Variable(variable.clone())),
                rhs: Box::new(arg),
            });
            variables.push(AstNode::Variable(variable));
        } else {
            variables.push(arg);
        }
    }
    // What is replaced by whom: the pattern does not make the answer longer, a lambda is no text.
    let is_pattern = |index| name == "replace" && index == 1;
    let factors = variables.iter().enumerate().filter(|(index, node)| {
        let is_text = !matches!(node, AstNode::Lambda { .. } | AstNode::Regex { .. });
        is_text && !is_pattern(*index)
    });
    block.push(AstNode::Function {
        name: PRODUCT.to_owned(),
        args: factors.map(|(_, node)| node.clone()).collect(),
        is_builtin: true,
    });
    block.push(AstNode::Function {
        name,
        args: variables,
        is_builtin,
    });
    AstNode::Block(block)
}
