//! Names that an expression reads at its top level. There is nothing there to read them from: a state's
//! expressions begin with `$states` or a variable (aws-semantics 10.5.1), and AWS refuses others with
//! the definition.

use jsonata_core::ast::AstNode;
use jsonata_core::value::with_stack;

/// The names, each once, in their order.
pub(super) fn names(program: &AstNode) -> Vec<String> {
    let mut found = Vec::new();
    visit(program, &mut found);
    found
}

/// Visits what is evaluated without a context item. What comes after the first step of a path, in a
/// filter, or in the body of a function may have one, so it is left alone.
fn visit(node: &AstNode, found: &mut Vec<String>) {
    with_stack(|| match node {
        AstNode::Name(name) if !found.contains(name) => found.push(name.clone()),
        AstNode::Path { steps } => {
            if let Some(first) = steps.first() {
                visit(&first.node, found);
            }
        }
        AstNode::Binary { lhs, rhs, .. } => {
            visit(lhs, found);
            visit(rhs, found);
        }
        AstNode::Unary { operand, .. } => visit(operand, found),
        AstNode::Function { args, .. } => visit_all(args, found),
        AstNode::Call { procedure, args } => {
            visit(procedure, found);
            visit_all(args, found);
        }
        AstNode::Array(items) | AstNode::Block(items) => visit_all(items, found),
        AstNode::Object(pairs) => {
            for (key, value) in pairs {
                visit(key, found);
                visit(value, found);
            }
        }
        AstNode::ObjectTransform { input, .. } | AstNode::Sort { input, .. } => visit(input, found),
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => {
            visit(condition, found);
            visit(then_branch, found);
            if let Some(branch) = else_branch {
                visit(branch, found);
            }
        }
        _ => {}
    });
}

fn visit_all(nodes: &[AstNode], found: &mut Vec<String>) {
    for node in nodes {
        visit(node, found);
    }
}
