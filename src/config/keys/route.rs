use super::{matching_section, section};
use crate::config::kinds::{
    Bytes, FieldValue, MapOf, NameKind, RedirectCodeKind, RedirectUrlKind, RequestField,
    ResponseField, RewritePath, SetOf, Span,
};

section! {
    Route, "Match rules, and the service that such requests are for or where they are sent instead.",
    {
        name: NameKind, Absent("`route-` and its position, from 1"), example "shop",
            "Unique.";
        r#match: RouteMatch, Absent("every request"), example "{ hosts: [shop.example.com] }",
            "What a request must look like.";
        service: NameKind, Absent("required, unless there is a redirect"), example "shop",
            "The service such requests are for.";
        rewrite: RewriteSection, Absent("the path is sent as it came"), example "{ prefix: / }",
            "Changes the path that the backend is asked for.";
        request_headers: RequestHeaders, Absent("none is changed"),
            example "{ set: { x-team: shop } }",
            "Changes the headers of requests, after pins and sticky keys have been read.";
        response_headers: ResponseHeaders, Absent("none is changed"),
            example "{ set: { strict-transport-security: max-age=31536000 } }",
            "Changes the headers of the backends' responses (not of informational ones, nor of the \
             proxy's own replies).";
        timeouts: RouteTimeouts, Absent("the service's"), example "{ response: 5m }",
            "The service's timeouts, otherwise for this route.";
        limits: RouteLimits, Absent("the service's"), example "{ body_bytes: 5GiB }",
            "The service's limits, otherwise for this route.";
        redirect: RedirectSection, Absent("requests go to the service"),
            example "{ url: \"https://{host}{path}{query}\" }",
            "The proxy answers with another place. Such a route has no service.";
    }
}

matching_section! {
    RouteMatch, "What a request must look like: everything that is named must hold.", {}
}

section! {
    RewriteSection, "Changes the path that the backend is asked for.",
    {
        prefix: RewritePath, Required, example "/",
            "What the match's `path_prefix` becomes. The rest of the path stays as it came.";
    }
}

section! {
    RequestHeaders, "Changes headers of requests. Those that frame a message, name its host or are the \
                     proxy's own cannot be changed.",
    {
        set: MapOf<RequestField, FieldValue, 1>, Absent("none"), example "{ x-team: shop }",
            "Instead of what there is of that name.";
        add: MapOf<RequestField, FieldValue, 1>, Absent("none"), example "{ x-tag: edge }",
            "Beside what there is of that name.";
        remove: SetOf<RequestField, 1>, Absent("none"), example "[x-debug]",
            "Whatever the value. As with `set`, `_` is the same as `-`.";
    }
}

section! {
    ResponseHeaders, "Changes headers of responses. Those that frame a message or are the proxy's own \
                      cannot be changed.",
    {
        set: MapOf<ResponseField, FieldValue, 1>, Absent("none"), example "{ x-frame-options: DENY }",
            "Instead of what there is of that name.";
        add: MapOf<ResponseField, FieldValue, 1>, Absent("none"), example "{ vary: origin }",
            "Beside what there is of that name.";
        remove: SetOf<ResponseField, 1>, Absent("none"), example "[server]",
            "Whatever the value. As with `set`, `_` is the same as `-`.";
    }
}

section! {
    RouteTimeouts, "The service's timeouts, otherwise for this route.",
    {
        connect: Span<false>, Absent("the service's"), example "500ms", "To open a connection.";
        response: Span<false>, Absent("the service's"), example "5m",
            "From the end of the request's headers to the response's headers.";
        body: Span<false>, Absent("the service's"), example "30s",
            "The longest wait for more bytes of a response body.";
        request: Span<true>, Absent("the service's"), example "5m",
            "The whole request; `0s`: no limit.";
        tunnel_idle: Span<false>, Absent("the service's"), example "10m",
            "The longest silence of a tunnel.";
    }
}

section! {
    RouteLimits, "The service's limits, otherwise for this route.",
    {
        body_bytes: Bytes<1, { 1 << 50 }>, Absent("the service's"), example "10MiB",
            "A request body.";
    }
}

section! {
    RedirectSection, "The proxy answers with another place.",
    {
        url: RedirectUrlKind, Required, example "\"https://{host}{path}{query}\"",
            "Where to, with `{host}` (without its port), `{path}` and `{query}` (with its `?`) of the request \
             in their places. No request can lead it to another host.";
        code: RedirectCodeKind, Default("302"), example "308",
            "301 and 308 are for good, 302 and 307 for now; 307 and 308 keep the method.";
    }
}
