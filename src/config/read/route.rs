use super::{
    super::{
        keys,
        kinds::Named,
        problem::quote,
        reader::{At, Field, Reader},
        tree::NodeId,
    },
    check_reference, matching,
};
use crate::spec::{
    Action, FieldChanges, Forward, Match, Name, PathMatch, Redirect, RedirectCode, Rewrite, Route,
    RouteLimits, RouteTimeouts,
};
use indexmap::IndexSet;

/// `None`: something was reported.
pub(super) fn route(
    reader: &mut Reader<'_>,
    name: Name,
    At { value: keys, node }: At<keys::Route>,
    services: Option<&IndexSet<&str>>,
) -> Option<Route> {
    let matches = match keys.r#match {
        Field::Good(mut at) => matching::matching(reader, at.node, at.value.conditions()),
        Field::Absent | Field::Bad(_) => Match::default(),
    };
    if let Some(place) = keys.redirect.node() {
        let beside: Vec<&str> =
            reader.keys(node).filter(|key| OF_A_SERVICE.contains(key)).collect();
        for key in beside {
            reader.key_problem(
                reader.place(place),
                node,
                "redirect",
                format!("a redirect goes to no service, so `{key}` has no meaning beside it"),
                format!("remove `redirect` or `{key}`"),
            );
        }
        let At { value: keys, .. } = keys.redirect.good()?;
        let redirect =
            Redirect { url: keys.url.value()?, code: keys.code.or(RedirectCode::default()) };
        return Some(Route { name, matches, action: Action::Redirect(redirect) });
    }
    if matches!(keys.service, Field::Absent) {
        let is_explained =
            reader.is_misspelt(node, "service") || reader.is_misspelt(node, "redirect");
        if !is_explained {
            reader.key_problem(
                reader.place(node),
                node,
                "service",
                "the key `service` is missing",
                "add it, such as `service: shop`, or a `redirect`",
            );
        }
        return None;
    }
    let rewrite = rewrite(reader, keys.rewrite, &matches);
    let request = (keys.request_headers)
        .good()
        .map(|at| (at.node, at.value))
        .map(|(node, keys)| changes(reader, node, keys.set, keys.add, keys.remove));
    let response = (keys.response_headers)
        .good()
        .map(|at| (at.node, at.value))
        .map(|(node, keys)| changes(reader, node, keys.set, keys.add, keys.remove));
    let service = keys.service.good()?;
    check_reference(reader, &service, services, "service");
    let forward = Forward {
        service: service.value,
        rewrite,
        request_headers: request.unwrap_or_default(),
        response_headers: response.unwrap_or_default(),
        timeouts: timeouts(keys.timeouts),
        limits: RouteLimits {
            body_bytes: keys.limits.value().and_then(|keys| keys.body_bytes.value()),
        },
    };
    Some(Route { name, matches, action: Action::Forward(forward) })
}

/// Keys of a route that say what happens on the way to its service.
const OF_A_SERVICE: [&str; 6] =
    ["service", "rewrite", "request_headers", "response_headers", "timeouts", "limits"];

fn rewrite(
    reader: &mut Reader<'_>,
    field: Field<keys::RewriteSection>,
    matches: &Match,
) -> Option<Rewrite> {
    let At { value: keys, node } = field.good()?;
    let prefix = keys.prefix.value()?;
    if !matches!(matches.path, PathMatch::Prefix(_)) {
        reader.problem(
            node,
            "there is no prefix that could be replaced",
            "add `path_prefix` to the route's `match`",
        );
    }
    Some(Rewrite { prefix: prefix.trim_end_matches('/').into() })
}

fn changes(
    reader: &mut Reader<'_>,
    node: NodeId,
    set: Field<Vec<Named<Name, Name>>>,
    add: Field<Vec<Named<Name, Name>>>,
    remove: Field<Vec<Name>>,
) -> FieldChanges {
    let pairs = |field: Field<Vec<Named<Name, Name>>>| -> Vec<(Name, Name)> {
        let all = field.or(Vec::new()).into_iter();
        all.filter_map(|named| Some((named.name, named.value?.value))).collect()
    };
    let changes = FieldChanges { set: pairs(set), add: pairs(add), remove: remove.or(Vec::new()) };
    for (name, _) in changes.set.iter().filter(|(name, _)| changes.remove.contains(name)) {
        reader.problem(
            node,
            format!("{} is both set and removed", quote(name)),
            "keep `set`: it takes the place of what there is",
        );
    }
    changes
}

fn timeouts(field: Field<keys::RouteTimeouts>) -> RouteTimeouts {
    field.value().map_or_else(RouteTimeouts::default, |keys| RouteTimeouts {
        connect: keys.connect.value(),
        response: keys.response.value(),
        body: keys.body.value(),
        request: keys.request.value(),
        tunnel_idle: keys.tunnel_idle.value(),
    })
}
