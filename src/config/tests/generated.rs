//! Any spec comes back from its document. What is large is in boxes: stacks of tests are not.

use super::{
    observing::{access_log, tracing},
    plans::plan,
    *,
};
use crate::spec::*;
use indexmap::IndexMap;
use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*};
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

pub(super) fn duration(least: u64) -> impl Strategy<Value = Duration> {
    prop_oneof![
        (least..120_000).prop_map(Duration::from_millis),
        (1u64..366 * 86_400).prop_map(Duration::from_secs),
    ]
}

pub(super) fn name() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,6}|true|null|1e3|0x1f|\\.\\.\\."
        .prop_filter("a letter or digit first", |it| it.starts_with(|c: char| c.is_alphanumeric()))
        .prop_map(Arc::from)
}

fn label() -> impl Strategy<Value = Arc<str>> {
    r#"[a-z$\{\}:"'\\#&*!|>% é日-]{1,12}"#
        .prop_map(|text| Arc::from(text.trim()))
        .prop_filter("not empty", |text: &Arc<str>| !text.is_empty())
}

fn weight() -> impl Strategy<Value = Weight> {
    (0..=u64::from(Weight::MAX)).prop_map(|it| Weight::new(it).unwrap())
}

fn backend_address() -> impl Strategy<Value = BackendAddress> {
    prop_oneof![
        any::<SocketAddr>().prop_map(|it| it.to_string()),
        ("[a-z][a-z0-9]{0,5}(\\.[a-z]{1,3})?", 1u16..)
            .prop_map(|(host, port)| format!("{host}:{port}")),
        ("dns:[a-z][a-z0-9]{0,5}(\\.[a-z]{1,3})?\\.?", 1u16..)
            .prop_map(|(host, port)| format!("{host}:{port}")),
        "srv:_[a-z]{1,3}\\._tcp\\.[a-z]{1,3}".prop_map(|it| it),
        "/[a-z .$\\{\\}:é-]{0,9}[a-z]".prop_map(|path| format!("unix:{path}")),
    ]
    .prop_filter_map("not an address", |text| text.parse().ok())
}

fn backends() -> impl Strategy<Value = IndexMap<BackendAddress, Backend>> {
    let backend = prop_oneof![
        Just(Backend::default()),
        (weight(), any::<bool>()).prop_map(|(weight, drained)| Backend { weight, drained }),
    ];
    vec((backend_address(), backend), 1..4)
        .prop_map(|all| all.into_iter().collect::<IndexMap<_, _>>())
        .prop_filter("the weights sum to 0", |all| all.values().any(|it| it.weight != Weight::ZERO))
}

pub(super) fn file(extension: &'static str) -> impl Strategy<Value = PathBuf> {
    r#"/?[a-z$\{\}:"'# é.-]{1,6}(/[a-z]{1,3})?"#.prop_map(move |it| (it + extension).into())
}

fn certificate() -> impl Strategy<Value = Certificate> {
    (file(".crt"), file(".key")).prop_map(|(cert, key)| {
        let content = |path: &PathBuf| (MADE_UP.file)(path).unwrap();
        let pair = KeyPair::from_pem(&content(&cert), &content(&key)).unwrap();
        Certificate { cert: cert.into(), key: key.into(), pair: Arc::new(pair) }
    })
}

fn authority() -> impl Strategy<Value = Authority> {
    file(".crt").prop_map(|it| {
        let content = (MADE_UP.file)(&it).unwrap();
        Authority::from_pem(it.into(), &content).unwrap()
    })
}

fn pool_tls() -> impl Strategy<Value = PoolTls> {
    let name = "[a-z]{1,4}(\\.[a-z]{1,3})?".prop_map(Arc::from);
    (option::of(authority()), option::of(name), option::of(certificate()))
        .prop_map(|(ca, server_name, identity)| PoolTls { ca, server_name, identity })
}

fn listener_tls() -> impl Strategy<Value = ListenerTls> {
    let client_auth =
        (authority(), any::<bool>()).prop_map(|(ca, required)| ClientAuth { ca, required });
    let version = prop_oneof![Just(TlsVersion::V12), Just(TlsVersion::V13)];
    let certificates = (vec(certificate(), 0..3), any::<bool>());
    (certificates, option::of(client_auth), version, any::<bool>()).prop_map(
        |((certificates, acme), client_auth, min_version, resumption)| ListenerTls {
            acme: acme || certificates.is_empty(),
            certificates,
            client_auth,
            min_version,
            resumption,
        },
    )
}

fn acme() -> impl Strategy<Value = Acme> {
    let url = prop::sample::select(vec![
        "https://acme-v02.api.letsencrypt.org/directory",
        "https://ca.internal:14000/dir?a=${b}",
    ]);
    let contacts = vec("mailto:[a-z$]{1,5}@[a-z]{1,3}".prop_map(Arc::from), 0..3);
    let hosts = vec(vec("[a-z]{2}(\\.[a-z]{1,3})?".prop_map(Arc::from), 1..3), 1..4);
    let challenge = prop::sample::select(vec![AcmeChallenge::Http01, AcmeChallenge::TlsAlpn01]);
    let kept = (file(""), option::of(authority()), option::of(duration(1)));
    (url, contacts, hosts, challenge, kept).prop_map(
        |(directory, contacts, hosts, challenge, (state, ca, renew_before))| {
            let mut known = Vec::new();
            let mut fresh = |names: Vec<Name>| -> Vec<Name> {
                let names = names.into_iter().filter(|name| {
                    let is_fresh = !known.contains(name);
                    known.push(name.clone());
                    is_fresh
                });
                names.collect()
            };
            let hosts = hosts.into_iter().map(&mut fresh).filter(|names| !names.is_empty());
            Acme {
                directory: directory.into(),
                ca,
                contacts: unique(contacts),
                state: state.into(),
                hosts: hosts.collect(),
                challenge,
                renew_before,
            }
        },
    )
}

/// Listeners and what is ordered for them, as they must be to each other.
fn in_agreement(listeners: &[Listener], acme: Acme) -> Option<Acme> {
    let in_the_clear = listeners.iter().any(|listener| listener.tls.is_none());
    let mut tls = listeners.iter().filter_map(|listener| listener.tls.as_ref());
    if !tls.any(|tls| tls.acme) {
        return None;
    }
    let challenge = if in_the_clear { acme.challenge } else { AcmeChallenge::TlsAlpn01 };
    Some(Acme { challenge, ..acme })
}

fn pool() -> impl Strategy<Value = (Name, Pool)> {
    let protocol = prop::sample::select(vec![PoolProtocol::H1, PoolProtocol::H2]);
    let proxy_protocol =
        prop::sample::select(vec![None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)]);
    let spoken = (protocol, proxy_protocol, option::of(pool_tls()));
    (name(), option::of(label()), weight(), backends(), (duration(0), any::<bool>(), spoken))
        .prop_map(|(name, version, weight, backends, (slow_start, drained, spoken))| {
            let version = version.unwrap_or_else(|| name.clone());
            let (protocol, proxy_protocol, tls) = spoken;
            let pool = Pool {
                version,
                weight,
                backends,
                slow_start,
                drained,
                protocol,
                proxy_protocol,
                tls,
            };
            (name, pool)
        })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop::sample::select(vec![".*", "a|b", "^/v[0-9]+$", "x{2}\\$", "\\d+\"'", "$${2}", "(?i)é"])
        .prop_map(|source| Pattern::new(source).unwrap())
}

fn fields(names: &'static str) -> impl Strategy<Value = Vec<FieldMatch>> {
    let value = prop_oneof![
        r#"|true|2\.0|~|[a-z$\{\}:"'\\#]{1,8}"#.prop_map(|text| ValueMatch::Exact(text.into())),
        pattern().prop_map(ValueMatch::Regex),
        Just(ValueMatch::Present),
    ];
    vec((names, value), 0..3).prop_map(|all| {
        let all: IndexMap<String, ValueMatch> = all.into_iter().collect();
        all.into_iter().map(|(name, value)| FieldMatch { name: name.into(), value }).collect()
    })
}

fn host() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        "[a-z0-9]{1,4}(\\.[a-z]{1,4}){0,2}|\\[::1\\]|127\\.0\\.0\\.1"
            .prop_map(|it| HostPattern::Exact(it.into())),
        "[a-z0-9]{1,4}(\\.[a-z]{1,4}){0,2}".prop_map(|it| HostPattern::Suffix(it.into())),
    ]
}

fn path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        Just(PathMatch::Any),
        "(/[a-z$\\{\\}%~]{0,4}){1,3}".prop_map(|it| PathMatch::Exact(it.into())),
        "((/[a-z$\\{\\}%~]{1,4}){1,3})?".prop_map(|it| PathMatch::Prefix(it.into())),
        pattern().prop_map(PathMatch::Regex),
    ]
}

pub(super) fn unique<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    all.into_iter().fold(Vec::new(), |mut kept, it| {
        if !kept.contains(&it) {
            kept.push(it);
        }
        kept
    })
}

fn matches() -> impl Strategy<Value = Match> {
    (
        vec(host(), 0..3),
        path(),
        vec("[A-Z]{1,4}|M-SEARCH|purge", 0..3),
        fields("[a-z$][a-z0-9-]{0,4}"),
        fields("[a-zA-Z_$][a-zA-Z0-9_-]{0,4}"),
        fields(r#"[a-zA-Z$\{\} é"':]{1,5}"#),
    )
        .prop_map(|(hosts, path, methods, headers, cookies, query)| Match {
            hosts: unique(hosts),
            path,
            methods: unique(methods).into_iter().map(Arc::from).collect(),
            headers,
            cookies,
            query,
        })
}

fn sticky() -> impl Strategy<Value = Sticky> {
    let key = prop_oneof![
        "[a-zA-Z_$]{1,5}".prop_map(|it| StickyKey::Cookie(it.into())),
        "[a-z-]{1,5}".prop_map(|it| StickyKey::Header(it.into())),
        Just(StickyKey::ClientAddress),
    ];
    (key, any::<bool>(), option::of(duration(1)), option::of(label())).prop_map(
        |(key, issue, max_age, salt)| {
            let issue = issue && matches!(key, StickyKey::Cookie(_));
            Sticky { key, issue, max_age: max_age.filter(|_| issue), salt }
        },
    )
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    let asked = prop_oneof![
        "/[a-z?=&$\\{\\}]{0,9}".prop_map(|path| HealthCheck::new(&path)),
        label().prop_map(HealthCheck::of_grpc),
    ];
    (asked, duration(1), duration(1), 1u32..=1000, 1u32..=1000).prop_map(
        |(asked, interval, timeout, healthy_after, unhealthy_after)| HealthCheck {
            interval,
            timeout,
            healthy_after,
            unhealthy_after,
            ..asked
        },
    )
}

fn timeouts() -> impl Strategy<Value = ServiceTimeouts> {
    let above = || duration(1);
    let idle = (duration(0), duration(0), above());
    (above(), above(), above(), duration(0), idle, duration(0)).prop_map(
        |(connect, response, body, request, idle, drain)| ServiceTimeouts {
            connect,
            response,
            body,
            request,
            upstream_idle: idle.0,
            ping: idle.1,
            tunnel_idle: idle.2,
            drain,
        },
    )
}

fn retries() -> impl Strategy<Value = Retries> {
    (1u32..=10, 0u32..=100, any::<bool>(), any::<bool>(), 0u32..=16 << 20).prop_map(
        |(attempts, budget_percent, connect, reset, buffer)| Retries {
            attempts,
            budget_percent,
            on: RetryOn { connect, reset },
            buffer,
        },
    )
}

fn resolver() -> impl Strategy<Value = Resolver> {
    let families = prop::sample::select(vec![Families::Both, Families::V4, Families::V6]);
    let server = any::<SocketAddr>().prop_filter("no scope", |it| match it {
        SocketAddr::V6(it) => it.port() != 0 && it.scope_id() == 0 && it.flowinfo() == 0,
        SocketAddr::V4(it) => it.port() != 0,
    });
    let times = (duration(1), duration(1), duration(1), duration(0));
    (vec(server, 0..3), families, 1u32..=10, 1u32..=10_000, times).prop_map(
        |(nameservers, families, attempts, max_addresses, (timeout, one, other, hold))| Resolver {
            nameservers: unique(nameservers),
            families,
            timeout,
            attempts,
            min_ttl: one.min(other),
            max_ttl: one.max(other),
            hold,
            max_addresses,
        },
    )
}

fn limits() -> impl Strategy<Value = ServiceLimits> {
    let in_flight = || option::of(1u32..=10_000_000);
    let of_backends = (in_flight(), option::of(1u32..=1_000_000));
    let waiting = || 0u32..=10_000_000;
    (1u64..=1 << 50, in_flight(), waiting(), duration(1), waiting(), of_backends).prop_map(
        |(body_bytes, in_flight, queue, queue_timeout, held, of_backends)| ServiceLimits {
            body_bytes,
            in_flight,
            queue,
            queue_timeout,
            held,
            backend_in_flight: of_backends.0,
            backend_connections: of_backends.1,
        },
    )
}

fn rescue() -> impl Strategy<Value = (prop::sample::Index, u32, RescueOn)> {
    let on = prop::sample::select(vec![(true, true), (true, false), (false, true)])
        .prop_map(|(failure, server_error)| RescueOn { failure, server_error });
    (any::<prop::sample::Index>(), 0u32..=100, on)
}

fn mirror() -> impl Strategy<Value = (prop::sample::Index, Mirror)> {
    let methods = vec("[A-Z]{1,4}|M-SEARCH|purge", 1..3);
    let numbers = (0u32..=100, 0u32..=16 << 20, 1u32..=1_000_000);
    (any::<prop::sample::Index>(), methods, numbers).prop_map(|(at, methods, numbers)| {
        let (share_percent, body_bytes, in_flight) = numbers;
        let methods = unique(methods).into_iter().map(Arc::from).collect();
        let mirror = Mirror::new("later".into());
        (at, Mirror { share_percent, body_bytes, methods, in_flight, ..mirror })
    })
}

fn ejection() -> impl Strategy<Value = Ejection> {
    let judged = (1u32..=1000, 0u32..=100, duration(1), 1u32..=1_000_000);
    (judged, duration(1), duration(1), 0u32..=100).prop_map(
        |(judged, first, longest, at_most_percent)| {
            let (consecutive, success_rate_percent, window, min_requests) = judged;
            Ejection {
                consecutive,
                success_rate_percent,
                window,
                min_requests,
                duration: first,
                longest,
                at_most_percent,
            }
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let balance = prop::sample::select(vec![
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::Random,
        Balance::Hash,
    ]);
    let pools = vec(pool(), 1..4)
        .prop_map(|all| all.into_iter().collect::<IndexMap<_, _>>())
        .prop_filter("the weights sum to 0", |all| {
            all.values().any(|it| it.weight != Weight::ZERO)
        });
    let pins = vec((matches(), vec(network(), 0..2), any::<prop::sample::Index>()), 0..3);
    let first = (pools, pins, option::of(sticky()), balance, option::of(health_check()));
    let second = (
        option::of(ejection()),
        option::of(timeouts()),
        limits(),
        option::of(retries()),
        (option::of(rescue()), option::of(mirror())),
        any::<bool>(),
        any::<bool>(),
    );
    (first.boxed(), second.boxed(), option::of(plan())).prop_map(
        |((pools, pins, sticky, balance, health_check), more, rollout)| {
            let (ejection, timeouts, limits, retries, (rescue, mirror), fail, expose_version) =
                more;
            let has_sticky = sticky.is_some();
            let pins = (pins.into_iter())
                .filter(|(matches, from, _)| *matches != Match::default() || !from.is_empty());
            let pins = pins
                .map(|(matches, from, at)| Pin {
                    matches,
                    from,
                    pool: pools.get_index(at.index(pools.len())).unwrap().0.clone(),
                })
                .collect();
            let rescue = rescue.map(|(at, budget_percent, on)| Rescue {
                to: pools.get_index(at.index(pools.len())).unwrap().0.clone(),
                budget_percent,
                on,
            });
            Service {
                pins,
                sticky,
                balance,
                health_check,
                ejection: ejection.unwrap_or_default(),
                timeouts: timeouts.unwrap_or_default(),
                limits,
                retries: retries.unwrap_or_default(),
                rescue,
                mirror: mirror.map(|(at, mirror)| Mirror {
                    to: pools.get_index(at.index(pools.len())).unwrap().0.clone(),
                    ..mirror
                }),
                unhealthy_pool: if fail {
                    UnhealthyPool::Fail
                } else {
                    UnhealthyPool::Redistribute
                },
                expose_version,
                rollout: rollout.filter(|it: &RolloutPlan| {
                    it.strategy != RolloutStrategy::AbTest || has_sticky
                }),
                pools,
            }
        },
    )
}

fn field_changes() -> impl Strategy<Value = FieldChanges> {
    let value = || "([!-~]([ -~]{0,6}[!-~])?)?".prop_map(Name::from);
    let fields = |names: &'static str| {
        vec((names, value()), 0..3).prop_map(|all| {
            let all: IndexMap<String, Name> = all.into_iter().collect();
            all.into_iter().map(|(name, value)| (name.into(), value)).collect::<Vec<_>>()
        })
    };
    // None of the names that are the proxy's own, such as `te`.
    let removed = vec("[d-f$][0-9_]{0,3}", 0..3)
        .prop_map(|names| unique(names).into_iter().map(Name::from).collect());
    (fields("[a-c$][0-9_]{0,3}"), fields("[a-z$][0-9]{0,2}"), removed)
        .prop_map(|(set, add, remove)| FieldChanges { set, add, remove })
        .prop_filter("set and removed", |it| {
            it.set.iter().all(|(name, _)| !it.remove.contains(name))
        })
}

/// To no service yet.
fn action() -> impl Strategy<Value = Action> {
    let rewrite =
        "(/[a-z$%~]{1,4}){0,3}".prop_map(|it| Rewrite { prefix: it.replace('%', "%2a").into() });
    let timeouts = (
        option::of(duration(1)),
        option::of(duration(1)),
        option::of(duration(1)),
        option::of(duration(0)),
        option::of(duration(1)),
    );
    let timeouts = timeouts.prop_map(|(connect, response, body, request, tunnel_idle)| {
        RouteTimeouts { connect, response, body, request, tunnel_idle }
    });
    let limits = option::of(1u64..=1 << 50).prop_map(|body_bytes| RouteLimits { body_bytes });
    let forward = (option::of(rewrite), field_changes(), field_changes(), timeouts, limits)
        .prop_map(|(rewrite, request_headers, response_headers, timeouts, limits)| {
            Action::Forward(Forward {
                service: "".into(),
                rewrite,
                request_headers,
                response_headers,
                timeouts,
                limits,
            })
        });
    let urls = vec!["https://{host}{path}{query}", "/x${host}", "https://www.{host}:444/$", "/"];
    let redirect = (prop::sample::select(urls), prop::sample::select(&RedirectCode::ALL[..]));
    let redirect = redirect.prop_map(|(url, code)| {
        Action::Redirect(Redirect { url: RedirectUrl::new(url).unwrap(), code })
    });
    prop_oneof![3 => forward, 1 => redirect]
}

fn network() -> impl Strategy<Value = IpNet> {
    (any::<std::net::IpAddr>(), 0u8..=32)
        .prop_map(|(address, bits)| IpNet::new(address, bits).unwrap().trunc())
}

fn listener() -> impl Strategy<Value = Listener> {
    let protocols = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    let timeouts = (duration(1), duration(1), duration(1), duration(1)).prop_map(
        |(headers, body, keep_alive, handshake)| ListenerTimeouts {
            headers,
            body,
            keep_alive,
            handshake,
        },
    );
    let http2 = (1u32..=1_000_000, 1u32..=1_000_000, 64u32 << 10..=1 << 30);
    let limits = (8u32 << 10..=1 << 20, 1u32..=1000, 1u32..=10_000_000, http2).prop_map(
        |(header_bytes, header_count, connections, (http2_streams, http2_resets, http2_heads))| {
            ListenerLimits {
                header_bytes,
                header_count,
                connections,
                http2_streams,
                http2_resets,
                http2_heads,
            }
        },
    );
    let headers = vec![ProxyProtocol::Off, ProxyProtocol::Accept, ProxyProtocol::Require];
    let trust = (vec(network(), 0..3), prop::sample::select(headers)).prop_map(|(networks, it)| {
        let header = if networks.is_empty() { ProxyProtocol::Off } else { it };
        (networks, header)
    });
    let some = (
        option::of(timeouts),
        option::of(limits),
        trust,
        any::<(bool, bool, bool, bool)>(),
        option::of(listener_tls()),
    );
    (any::<SocketAddr>(), protocols, some).prop_map(
        |(
            address,
            (h1, h2),
            (
                timeouts,
                limits,
                (trusted_proxies, proxy_protocol),
                (forwarded, via, starts_traces, redirect),
                tls,
            ),
        )| Listener {
            redirect_https: redirect && tls.is_none(),
            address: plain(address),
            protocols: Protocols { h1, h2 },
            timeouts: timeouts.unwrap_or_default(),
            limits: limits.unwrap_or_default(),
            trusted_proxies,
            proxy_protocol,
            forwarded,
            via,
            starts_traces,
            tls,
        },
    )
}

/// Without what the text of an address does not keep.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn admin() -> impl Strategy<Value = Admin> {
    let address = prop_oneof![
        Just(Admin::default().address),
        any::<SocketAddr>().prop_map(|it| AdminAddress::Tcp(plain(it))),
        "/[a-z $\\{\\}]{1,20}".prop_map(|it| AdminAddress::Unix(it.into())),
    ];
    let hosts = vec("[a-z]{1,5}(\\.[a-z]{1,3})?", 0..3);
    let tls = (option::of(listener_tls()), vec(client_role(), 0..3));
    let limits = (1u32..1000, 1u32..1000)
        .prop_map(|(connections, connections_each)| AdminLimits { connections, connections_each });
    let others = (any::<bool>(), option::of(audit()), limits);
    let roles = (vec(token(), 0..3), vec(unix_role(), 0..3), others);
    (address, hosts, tls, roles).prop_map(
        |(
            address,
            hosts,
            (tls, client_roles),
            (mut tokens, unix_roles, (public_metrics, audit, limits)),
        )| {
            tokens.dedup_by(|one, other| one.name == other.name || one.file == other.file);
            let is_unix = matches!(address, AdminAddress::Unix(_));
            let mut admin = Admin { address, hosts: unique(hosts), tokens, ..Admin::default() };
            admin.insecure = admin.is_public();
            admin.public_metrics = public_metrics;
            admin.audit = audit;
            admin.limits = limits;
            // No TLS on a unix socket.
            admin.tls = tls.filter(|_| !is_unix).map(|mut tls| {
                (tls.acme, tls.resumption) = (false, false);
                if let Some(auth) = &mut tls.client_auth {
                    auth.required = false;
                }
                tls
            });
            admin.tls = admin.tls.filter(|tls| !tls.certificates.is_empty());
            admin.client_roles =
                if admin.client_ca().is_some() { client_roles } else { Vec::new() };
            admin.unix_roles = if is_unix { unix_roles } else { Vec::new() };
            admin
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Viewer), Just(Role::Operator), Just(Role::Approver)]
}

fn token() -> impl Strategy<Value = Token> {
    ("[x-z]{1}", "/[a-z $]{1,9}\\.token", role()).prop_map(|(name, file, role)| {
        let secret = Secret::from_file(&(MADE_UP.file)(file.as_ref()).unwrap()).unwrap();
        Token { name: name.into(), file: PathBuf::from(file).into(), role, secret }
    })
}

fn audit() -> impl Strategy<Value = AuditFile> {
    ("/[a-z $]{1,9}", (64u64 << 10)..1 << 40, 0u32..=1000)
        .prop_map(|(path, max_bytes, keep)| AuditFile { path: path.into(), max_bytes, keep })
}

fn client_role() -> impl Strategy<Value = ClientRole> {
    (option::of(label()), role()).prop_map(|(name, role)| ClientRole { name, role })
}

fn unix_role() -> impl Strategy<Value = UnixRole> {
    let name = || "[a-z0-9$\\{\\}]{1,9}".prop_map(Name::from);
    let who = prop_oneof![
        Just(UnixWho::Anybody),
        name().prop_map(UnixWho::User),
        name().prop_map(UnixWho::Group),
    ];
    (who, role()).prop_map(|(who, role)| UnixRole { who, role })
}

fn state() -> impl Strategy<Value = State> {
    (option::of(file("state")), 2u32..=100_000)
        .prop_map(|(directory, revisions)| State { directory, revisions })
}

pub(super) fn spec() -> impl Strategy<Value = Spec> {
    let services = vec((name(), service().boxed()), 1..4)
        .prop_map(|all| all.into_iter().collect::<IndexMap<_, _>>());
    let listeners = vec(listener().boxed(), 1..3);
    let routes = vec((name(), matches(), action(), any::<prop::sample::Index>()), 1..4);
    let engine = prop_oneof![Just(Engine::Native), Just(Engine::Hyper)];
    let threads = (option::of(1usize..=1024), engine);
    let settings = (
        threads,
        duration(0),
        duration(0),
        (duration(0), resolver(), option::of(1u32..=10_000_000), option::of(0u32..=100)),
        (duration(0), state(), option::of(access_log()), option::of(tracing())),
    );
    (services, (listeners, acme().boxed()), routes.boxed(), admin().boxed(), settings)
        .prop_map(|(services, (listeners, acme), routes, admin, settings)| {
            let ((threads, engine), delay, drain, startup, rest) = settings;
            let (metrics_linger, state, access_log, tracing) = rest;
            let (startup_wait, resolver, in_flight, max_stranded_percent) = startup;
            let routes: IndexMap<Name, Route> = routes
                .into_iter()
                .map(|(name, matches, mut action, at)| {
                    let service = services.get_index(at.index(services.len())).unwrap().0.clone();
                    if let Action::Forward(forward) = &mut action {
                        forward.service = service;
                        if !matches!(matches.path, PathMatch::Prefix(_)) {
                            forward.rewrite = None;
                        }
                    }
                    (name.clone(), Route { name, matches, action })
                })
                .collect();
            Spec {
                threads: threads.and_then(NonZeroUsize::new),
                engine,
                shutdown: Shutdown { delay, drain },
                startup_wait,
                resolver,
                limits: Limits { in_flight },
                reload: Reload { max_stranded_percent },
                acme: in_agreement(&listeners, acme),
                listeners,
                admin,
                state,
                metrics_linger,
                access_log,
                tracing,
                services,
                routes: routes.into_values().collect(),
            }
        })
        .prop_filter("an address twice", |spec| {
            let mut addresses: Vec<SocketAddr> =
                spec.listeners.iter().map(|it| it.address).collect();
            if let AdminAddress::Tcp(address) = spec.admin.address {
                addresses.push(address);
            }
            unique(addresses.clone()).len() == addresses.len()
        })
}
