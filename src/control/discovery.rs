//! Which addresses the names of the desired state stand for. The lookups only report: the control task alone
//! judges, and publishes what is other than before. A name keeps its last addresses as long as nobody can say
//! which it has.

use super::{
    command::{Lookups, NameStatus},
    probe::jittered,
    prober::Task,
};
use crate::{
    net::{self, Answer},
    spec::{Backend, BackendAddress, DnsName, Found, Resolver, Spec, Weight},
};
use indexmap::IndexMap;
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::sleep};

/// The longest pause between lookups that fail, or that find nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Findings that wait to be judged; lookups wait when there are more.
const QUEUE: usize = 256;

pub(super) struct Discovery {
    resolver: Arc<Resolver>,
    names: IndexMap<DnsName, Known>,
    tasks: u64,
    findings: mpsc::Sender<Finding>,
}

/// What a lookup came to.
pub(super) struct Finding {
    name: DnsName,
    task: u64,
    result: Result<Answer, String>,
}

struct Known {
    task: Task,
    memory: Memory,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Memory {
    addresses: Vec<(Found, Weight)>,
    /// Since when it has no addresses, as DNS says.
    empty_since: Option<Instant>,
    /// Why the last lookup did not tell all addresses.
    error: Option<String>,
    left_out: usize,
    lookups: Lookups,
}

impl Discovery {
    pub(super) fn new() -> (Self, mpsc::Receiver<Finding>) {
        let (findings, receiver) = mpsc::channel(QUEUE);
        let resolver = Arc::default();
        (Self { resolver, names: IndexMap::new(), tasks: 0, findings }, receiver)
    }

    /// Looks the names of `spec` up from now on, and no others.
    pub(super) fn follow(&mut self, spec: &Spec) {
        let same = *self.resolver == spec.resolver;
        if !same {
            self.resolver = Arc::new(spec.resolver.clone());
        }
        let mut before = std::mem::take(&mut self.names);
        for name in names(spec) {
            if self.names.contains_key(name) {
                continue;
            }
            let known = match before.swap_remove(name) {
                Some(known) if same => known,
                known => Known {
                    task: self.begin(name.clone()),
                    memory: known.map(|known| known.memory).unwrap_or_default(),
                },
            };
            self.names.insert(name.clone(), known);
        }
    }

    /// Takes a finding in. True when the name stands for other addresses from now on.
    pub(super) fn judge(&mut self, finding: Finding, now: Instant) -> bool {
        let Some(known) = self.names.get_mut(&finding.name) else { return false };
        if known.task.number != finding.task {
            return false;
        }
        known.memory.learn(&finding.name, finding.result, now, self.resolver.hold)
    }

    /// `spec` with the addresses in place of their names. An address that is in the pool already is not there
    /// twice.
    pub(super) fn expand(&self, spec: &Arc<Spec>) -> Arc<Spec> {
        let mut expanded = spec.clone();
        if names(spec).next().is_none() {
            return expanded;
        }
        let pools = Arc::make_mut(&mut expanded).services.values_mut();
        for pool in pools.flat_map(|service| service.pools.values_mut()) {
            let is_name = |address: &BackendAddress| matches!(address, BackendAddress::Dns(_));
            if pool.backends.keys().any(is_name) {
                pool.backends = self.backends(&pool.backends);
            }
        }
        expanded
    }

    pub(super) fn status(&self) -> Vec<NameStatus> {
        let status = |(name, Known { memory, .. }): (&DnsName, &Known)| NameStatus {
            name: name.clone(),
            addresses: memory.addresses.iter().map(|(found, _)| found.socket).collect(),
            error: memory.error.clone(),
            lookups: memory.lookups,
        };
        self.names.iter().map(status).collect()
    }

    fn backends(
        &self,
        wanted: &IndexMap<BackendAddress, Backend>,
    ) -> IndexMap<BackendAddress, Backend> {
        let mut taken: HashSet<SocketAddr> =
            wanted.keys().filter_map(BackendAddress::socket).collect();
        let mut backends = IndexMap::new();
        for (address, settings) in wanted {
            let BackendAddress::Dns(name) = address else {
                backends.insert(address.clone(), *settings);
                continue;
            };
            let known = self.names.get(name).map_or(&[][..], |known| &known.memory.addresses);
            for (found, weight) in known {
                if taken.insert(found.socket) {
                    let weight = settings.weight.times(*weight);
                    let address = BackendAddress::Found(Arc::new(found.clone()));
                    backends.insert(address, Backend { weight, ..*settings });
                }
            }
        }
        backends
    }

    fn begin(&mut self, name: DnsName) -> Task {
        self.tasks += 1;
        let work = look_up(name, self.tasks, self.resolver.clone(), self.findings.clone());
        Task { number: self.tasks, handle: tokio::spawn(work) }
    }
}

/// The names in the pools of `spec`.
fn names(spec: &Spec) -> impl Iterator<Item = &DnsName> {
    let pools = spec.services.values().flat_map(|service| service.pools.values());
    pools.flat_map(|pool| pool.backends.keys()).filter_map(|address| match address {
        BackendAddress::Dns(name) => Some(name),
        _ => None,
    })
}

/// Asks for a name again and again, each time when the last answer has ended.
async fn look_up(
    name: DnsName,
    task: u64,
    resolver: Arc<Resolver>,
    findings: mpsc::Sender<Finding>,
) {
    let mut pause = resolver.min_ttl;
    loop {
        let result = net::resolve(&name, &resolver).await;
        let wait = match &result {
            Ok(answer) if !answer.addresses.is_empty() && answer.unknown.is_empty() => {
                pause = resolver.min_ttl;
                answer.ttl
            }
            _ => {
                let longest = LONGEST_PAUSE.max(resolver.min_ttl).min(resolver.max_ttl);
                let wait = pause;
                pause = (pause * 2).min(longest);
                wait
            }
        };
        if findings.send(Finding { name: name.clone(), task, result }).await.is_err() {
            return;
        }
        sleep(jittered(wait)).await;
    }
}

impl Memory {
    /// True when the addresses are others from now on.
    fn learn(
        &mut self,
        name: &DnsName,
        result: Result<Answer, String>,
        now: Instant,
        hold: Duration,
    ) -> bool {
        let had_error = self.error.take().is_some();
        let next = match result {
            Ok(answer) if answer.addresses.is_empty() => {
                self.lookups.empty += 1;
                self.error = Some("DNS has no addresses for it".to_owned());
                let since = *self.empty_since.get_or_insert(now);
                let is_over = now.saturating_duration_since(since) >= hold;
                if is_over { Vec::new() } else { self.addresses.clone() }
            }
            Ok(answer) => {
                self.lookups.found += 1;
                self.empty_since = None;
                self.note_left_out(name, answer.left_out);
                self.complete(answer)
            }
            Err(why) => {
                self.lookups.failed += 1;
                // Whether it still has none is not known.
                self.error = Some(why);
                self.addresses.clone()
            }
        };
        match &self.error {
            Some(why) if !had_error => {
                let kept = next.len();
                tracing::warn!(%name, why, kept, "name not resolved; its last addresses stay");
            }
            None if had_error => tracing::info!(%name, "name resolved again"),
            _ => {}
        }
        self.replace(name, next)
    }

    /// The addresses of an answer, with those that were known where it is incomplete.
    fn complete(&mut self, answer: Answer) -> Vec<(Found, Weight)> {
        let Answer { mut addresses, unknown, .. } = answer;
        for unknown in &unknown {
            let is_new = |found: &Found| addresses.iter().all(|(it, _)| it.socket != found.socket);
            let kept: Vec<_> = (self.addresses.iter())
                .filter(|(found, _)| unknown.concerns(found) && is_new(found))
                .cloned()
                .collect();
            addresses.extend(kept);
        }
        if let Some(unknown) = unknown.first() {
            let family = if unknown.is_ipv6 { "IPv6" } else { "IPv4" };
            let host = &unknown.host;
            self.error = Some(format!("{family} addresses of {host}: {}", unknown.why));
        }
        addresses.sort_unstable();
        addresses
    }

    fn note_left_out(&mut self, name: &DnsName, left_out: usize) {
        if left_out > 0 && self.left_out == 0 {
            tracing::warn!(%name, left_out, "name has more addresses than `resolver.max_addresses`");
        }
        self.left_out = left_out;
    }

    fn replace(&mut self, name: &DnsName, next: Vec<(Found, Weight)>) -> bool {
        if next == self.addresses {
            return false;
        }
        let sockets = |all: &[(Found, Weight)]| -> HashSet<SocketAddr> {
            all.iter().map(|(found, _)| found.socket).collect()
        };
        let (old, new) = (sockets(&self.addresses), sockets(&next));
        let (come, left) = (new.difference(&old).count(), old.difference(&new).count());
        tracing::info!(%name, addresses = new.len(), come, left, "name resolved");
        self.addresses = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::testing::{pool, service, spec},
        net::Unknown,
    };

    const HOLD: Duration = Duration::from_secs(30);

    fn name() -> DnsName {
        DnsName::Host { host: "shop.internal".into(), port: 80 }
    }

    fn found(socket: &str, weight: u64) -> (Found, Weight) {
        let (host, by) = ("shop.internal".into(), name());
        let found = Found { socket: socket.parse().unwrap(), host, by };
        (found, Weight::new(weight).unwrap())
    }

    fn answer(sockets: &[&str]) -> Result<Answer, String> {
        let addresses = sockets.iter().map(|socket| found(socket, 1)).collect();
        Ok(Answer { addresses, ..Answer::default() })
    }

    fn sockets(memory: &Memory) -> Vec<String> {
        memory.addresses.iter().map(|(found, _)| found.socket.to_string()).collect()
    }

    #[test]
    fn addresses_come_and_go_and_stay_while_nobody_knows() {
        let mut memory = Memory::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut learn = |result, seconds| {
            let changed = memory.learn(&name(), result, at(seconds), HOLD);
            (changed, sockets(&memory).join(" "), memory.error.is_some())
        };
        let failed = || Err("SERVFAIL".to_owned());
        let (one, two) = ("10.0.0.1:80", "10.0.0.2:80");
        assert_eq!(learn(failed(), 0), (false, "".into(), true));
        assert_eq!(learn(answer(&[one, two]), 1), (true, format!("{one} {two}"), false));
        assert_eq!(learn(answer(&[one, two]), 2), (false, format!("{one} {two}"), false));
        assert_eq!(learn(answer(&[two]), 3), (true, two.into(), false));
        assert_eq!(learn(failed(), 1000), (false, two.into(), true));
        // That it has none is believed after a while.
        assert_eq!(learn(answer(&[]), 1001), (false, two.into(), true));
        assert_eq!(learn(answer(&[]), 1030), (false, two.into(), true));
        assert_eq!(learn(answer(&[one]), 1032), (true, one.into(), false));
        assert_eq!(learn(answer(&[]), 1040), (false, one.into(), true));
        assert_eq!(learn(failed(), 1060), (false, one.into(), true));
        assert_eq!(learn(answer(&[]), 1070), (true, "".into(), true));
        assert_eq!(memory.lookups, Lookups { found: 4, empty: 4, failed: 3 });
    }

    #[test]
    fn what_nobody_could_tell_stays() {
        let mut memory = Memory::default();
        let now = Instant::now();
        let (v4, v6) = ("10.0.0.1:80", "[2001:db8::1]:80");
        memory.learn(&name(), answer(&[v4, v6]), now, HOLD);
        let partly = |sockets: &[&str], is_ipv6| {
            let (host, why) = ("shop.internal".into(), "timeout".to_owned());
            let unknown = vec![Unknown { host, port: 80, is_ipv6, why }];
            answer(sockets).map(|answer| Answer { unknown, ..answer })
        };
        assert!(!memory.learn(&name(), partly(&[v4], true), now, HOLD));
        assert!(memory.error.as_ref().unwrap().starts_with("IPv6"));
        assert!(memory.learn(&name(), partly(&["10.0.0.2:80"], true), now, HOLD));
        assert_eq!(sockets(&memory), ["10.0.0.2:80", v6]);
        assert!(memory.learn(&name(), partly(&[v6], true), now, HOLD));
        assert_eq!(sockets(&memory), [v6], "it is not there twice");
    }

    #[tokio::test]
    async fn addresses_stand_in_the_place_of_their_name() {
        let mut shop = service(&[("blue", pool("v1", 1, &[1, 2]))]);
        let backends = &mut shop.pools["blue"].backends;
        backends.clear();
        let dns: BackendAddress = "dns:shop.internal:80".parse().unwrap();
        let literal: BackendAddress = "10.0.0.2:80".parse().unwrap();
        let weight = Weight::new(3).unwrap();
        backends.insert(dns, Backend { weight, drained: true });
        backends.insert(literal, Backend::default());
        let spec = Arc::new(spec(&[("shop", shop)]));
        let (mut discovery, _findings) = Discovery::new();
        discovery.follow(&spec);
        let text = |discovery: &Discovery| -> Vec<_> {
            let expanded = discovery.expand(&spec);
            let backends = &expanded.services["shop"].pools["blue"].backends;
            backends.iter().map(|(a, b)| format!("{a} {} {}", b.weight.get(), b.drained)).collect()
        };
        assert_eq!(text(&discovery), ["10.0.0.2:80 1 false"], "nothing is known yet");
        let known = &discovery.names[0];
        let addresses = vec![found("10.0.0.1:80", 5), found("10.0.0.2:80", 5)];
        let finding = |task| {
            let result = Ok(Answer { addresses: addresses.clone(), ..Answer::default() });
            Finding { name: name(), task, result }
        };
        let number = known.task.number;
        assert!(!discovery.judge(finding(number + 1), Instant::now()), "of another task");
        assert!(discovery.judge(finding(number), Instant::now()));
        assert_eq!(text(&discovery), ["10.0.0.1:80 15 true", "10.0.0.2:80 1 false"]);
    }
}
