use super::super::{
    keys::Conditions,
    kinds::Named,
    reader::{Field, Reader},
    tree::NodeId,
};
use crate::spec::{FieldMatch, Match, Name, PathMatch, ValueMatch};

/// The match whose conditions stand in the mapping `node`.
pub(super) fn matching(reader: &mut Reader<'_>, node: NodeId, conditions: Conditions) -> Match {
    let Conditions { hosts, path, path_prefix, path_regex, methods, headers, cookies, query } =
        conditions;
    let given = [path.node(), path_prefix.node(), path_regex.node()];
    if given.iter().flatten().count() > 1 {
        let words = ["path", "path_prefix", "path_regex"];
        let named: Vec<String> =
            (0..3).filter(|&i| given[i].is_some()).map(|i| format!("`{}`", words[i])).collect();
        let message = format!("{} stand in one match", named.join(" and "));
        reader.problem(node, message, "keep one of them, or make two routes");
    }
    let path = match (path, path_prefix, path_regex) {
        (Field::Good(exact), _, _) => PathMatch::Exact(exact.value),
        (_, Field::Good(prefix), _) => PathMatch::Prefix(prefix.value.trim_end_matches('/').into()),
        (_, _, Field::Good(regex)) => PathMatch::Regex(regex.value),
        _ => PathMatch::Any,
    };
    Match {
        hosts: hosts.or(Vec::new()),
        path,
        methods: methods.or(Vec::new()),
        headers: fields(headers),
        cookies: fields(cookies),
        query: fields(query),
    }
}

fn fields(field: Field<Vec<Named<Name, ValueMatch>>>) -> Vec<FieldMatch> {
    let fields = field.or(Vec::new()).into_iter();
    fields
        .filter_map(|named| Some(FieldMatch { name: named.name, value: named.value?.value }))
        .collect()
}
