//! What a change would do to the requests of the last hour. PURE.

use crate::{
    live::Weighted,
    routing::{Moved, RoutingTable},
    spec::Name,
};

/// Requests that are named for each service, of those that nobody would answer.
const EXAMPLES: usize = 5;

/// Fates that are looked at; of more samples only every second, third... is.
const MOST: usize = 50_000;

/// By what some of the requests of the last hour would come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    pub all: Forecast,
    /// Those with requests that would go elsewhere or nowhere.
    pub services: Vec<(Name, Forecast)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Requests of the last hour, as far as they are known.
    pub requests: f64,
    /// Those that this is taken from.
    pub samples: usize,
    /// The share, 0 to 1, that another pool or service would answer.
    pub elsewhere: f64,
    /// The share, 0 to 1, that nobody would answer.
    pub nowhere: f64,
    /// Some of those.
    pub examples: Vec<String>,
}

/// `recent`: requests of each service.
pub(super) fn preview(
    recent: &[(Name, Vec<Weighted>)],
    before: &RoutingTable,
    after: &RoutingTable,
) -> Preview {
    let samples: usize = recent.iter().map(|(_, samples)| samples.len()).sum();
    let every = samples.div_ceil(MOST).max(1);
    let mut preview = Preview::default();
    for (service, samples) in recent {
        let mut forecast = Forecast::default();
        for Weighted { sample, requests } in samples.iter().step_by(every) {
            let moved = sample.fate(before).moved(&sample.fate(after));
            forecast.add(*requests, moved);
            let example = (moved.nowhere > 0.0).then(|| sample.to_string());
            if let Some(example) = example
                && forecast.examples.len() < EXAMPLES
                && !forecast.examples.contains(&example)
            {
                forecast.examples.push(example);
            }
        }
        preview.all.take(&forecast);
        if forecast.elsewhere > 0.0 || forecast.nowhere > 0.0 {
            preview.services.push((service.clone(), forecast.shares()));
        }
    }
    preview.all = preview.all.shares();
    preview
}

impl Forecast {
    /// As numbers of requests, until [`Self::shares`].
    fn add(&mut self, requests: f64, moved: Moved) {
        self.requests += requests;
        self.samples += 1;
        self.elsewhere += moved.elsewhere * requests;
        self.nowhere += moved.nowhere * requests;
    }

    fn take(&mut self, other: &Self) {
        self.requests += other.requests;
        self.samples += other.samples;
        self.elsewhere += other.elsewhere;
        self.nowhere += other.nowhere;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }

    fn shares(self) -> Self {
        let share =
            |requests: f64| if self.requests > 0.0 { requests / self.requests } else { 0.0 };
        Self { elsewhere: share(self.elsewhere), nowhere: share(self.nowhere), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::testing::{service, shop, spec},
        routing::{Host, RequestView, Salts, Sample, compile},
        spec::Spec,
    };
    use std::{net::Ipv4Addr, sync::Arc};

    fn samples(spec: &Spec, asked: &[(&str, f64)]) -> Vec<Weighted> {
        let table = compile(spec, &Salts::default());
        let sample = |host: &str| {
            let host = Host::parse(host.as_bytes()).unwrap();
            let fields: &[(&str, &str)] = &[];
            let client = Ipv4Addr::LOCALHOST.into();
            let view = RequestView::new("GET", host, "/", None, fields, client);
            let service = table.find(&view).and_then(|route| route.service()).unwrap();
            Arc::new(Sample::of(&view, &table, &table.services[service]).unwrap())
        };
        asked.iter().map(|&(host, requests)| Weighted { sample: sample(host), requests }).collect()
    }

    #[test]
    fn shares_are_of_requests_not_of_samples() {
        let before = spec(&[("shop", shop()), ("cart", shop())]);
        let recent = [
            ("shop".into(), samples(&before, &[("shop.example.com", 300.0)])),
            ("cart".into(), samples(&before, &[("cart.example.com", 100.0)])),
        ];
        let mut after = before.clone();
        after.routes.pop();
        let table = |spec: &Spec| compile(spec, &Salts::default());
        let seen = preview(&recent, &table(&before), &table(&after));
        assert_eq!((seen.all.requests, seen.all.samples), (400.0, 2));
        assert_eq!((seen.all.nowhere, seen.all.elsewhere), (0.25, 0.0));
        assert_eq!(seen.services.len(), 1);
        let (name, cart) = &seen.services[0];
        assert_eq!((&**name, cart.nowhere), ("cart", 1.0));
        assert_eq!(cart.examples, ["GET cart.example.com/"]);
        assert_eq!(seen.all.examples, cart.examples);

        after.services["shop"] = service(&[("blue", crate::control::testing::pool("v1", 1, &[1]))]);
        let seen = preview(&recent, &table(&before), &table(&after));
        assert!((seen.all.elsewhere - 0.05 * 0.75).abs() < 1e-9, "{seen:?}");
        assert_eq!(preview(&[], &table(&before), &table(&after)), Preview::default());
    }
}
