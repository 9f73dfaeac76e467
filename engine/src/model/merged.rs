//! Graphs with one branch for the first run and one for later ones, as older exports have them.

use std::collections::HashMap;

use super::proto::{GraphProto, NodeProto};

/// ONNX's number for bool.
const BOOL: i32 = 9;

/// The graph of later runs, and the input that chooses it; as it is where a graph has no such branches.
///
/// That graph is all that runs but for the first run of a conversation, which gives the same as it would.
pub(super) fn later_runs(graph: GraphProto) -> (GraphProto, Option<String>) {
    let Some((place, chooser)) = branch(&graph) else { return (graph, None) };
    let GraphProto { mut node, mut initializer, input, output } = graph;
    let branch = node.remove(place);
    let Some(mut later) = branch.graph("then_branch").cloned() else {
        node.insert(place, branch);
        return (GraphProto { node, initializer, input, output }, None);
    };
    let inside = later.output.iter().map(|value| value.name.clone());
    let names: HashMap<String, String> = inside.zip(branch.output).collect();
    later.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output)).for_each(|name| {
        if let Some(outside) = names.get(name) {
            name.clone_from(outside);
        }
    });
    node.append(&mut later.node);
    initializer.append(&mut later.initializer);
    (GraphProto { node, initializer, input, output }, Some(chooser))
}

/// The one branch whose condition is an input of the graph.
fn branch(graph: &GraphProto) -> Option<(usize, String)> {
    let chosen = |node: &NodeProto| {
        let condition = node.given(0).filter(|_| node.op_type == "If")?;
        let input = graph.input.iter().find(|input| input.name == condition)?;
        (input.element() == BOOL).then(|| condition.to_owned())
    };
    let mut found = graph.node.iter().enumerate().filter_map(|(place, node)| Some((place, chosen(node)?)));
    let first = found.next()?;
    if found.next().is_some() { None } else { Some(first) }
}
