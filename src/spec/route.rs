use super::{Match, Name, Redirect, ServiceLimits, ServiceTimeouts};
use std::{sync::Arc, time::Duration};

/// Match rules and what becomes of the requests that they hold for.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub name: Name,
    pub matches: Match,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Forward(Forward),
    /// The proxy answers with another place.
    Redirect(Redirect),
}

/// To a service, and what is changed on the way there and back.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    pub service: Name,
    pub rewrite: Option<Rewrite>,
    pub request_headers: FieldChanges,
    pub response_headers: FieldChanges,
    pub timeouts: RouteTimeouts,
    pub limits: RouteLimits,
}

/// What the path prefix of the match becomes. Both are kept as [`PathMatch::Prefix`] is: without a trailing
/// slash, `/` as the empty prefix.
///
/// [`PathMatch::Prefix`]: super::PathMatch::Prefix
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub prefix: Arc<str>,
}

/// Changes of header fields. Names are lower case; in `set` and `remove` each name stands once at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Instead of all fields of the name.
    pub set: Vec<(Name, Name)>,
    /// Beside those that there are.
    pub add: Vec<(Name, Name)>,
    pub remove: Vec<Name>,
}

/// A service's timeouts, otherwise for a route; `None`: the service's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    pub connect: Option<Duration>,
    pub response: Option<Duration>,
    pub body: Option<Duration>,
    /// Zero: no limit.
    pub request: Option<Duration>,
    pub tunnel_idle: Option<Duration>,
}

/// A service's limits, otherwise for a route; `None`: the service's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    pub body_bytes: Option<u64>,
}

impl Route {
    /// To a service, with nothing changed.
    pub fn new(name: Name, matches: Match, service: Name) -> Self {
        Self { name, matches, action: Action::Forward(Forward::to(service)) }
    }

    /// `None`: it leads to none.
    pub fn service(&self) -> Option<&Name> {
        match &self.action {
            Action::Forward(forward) => Some(&forward.service),
            Action::Redirect(_) => None,
        }
    }
}

impl Forward {
    /// With nothing changed.
    pub fn to(service: Name) -> Self {
        Self {
            service,
            rewrite: None,
            request_headers: FieldChanges::default(),
            response_headers: FieldChanges::default(),
            timeouts: RouteTimeouts::default(),
            limits: RouteLimits::default(),
        }
    }
}

impl FieldChanges {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

impl RouteTimeouts {
    /// The service's timeouts as they are for the route.
    pub fn over(&self, service: ServiceTimeouts) -> ServiceTimeouts {
        ServiceTimeouts {
            connect: self.connect.unwrap_or(service.connect),
            response: self.response.unwrap_or(service.response),
            body: self.body.unwrap_or(service.body),
            request: self.request.unwrap_or(service.request),
            tunnel_idle: self.tunnel_idle.unwrap_or(service.tunnel_idle),
            ..service
        }
    }
}

impl RouteLimits {
    /// The service's limits as they are for the route.
    pub fn over(&self, service: ServiceLimits) -> ServiceLimits {
        ServiceLimits { body_bytes: self.body_bytes.unwrap_or(service.body_bytes), ..service }
    }
}
