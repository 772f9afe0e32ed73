//! What is shown, and what keys do.

use super::look::Picture;
use crate::cli::status::{Pool, Service};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// Rates that are remembered of each pool, one a look.
const REMEMBERED: usize = 120;

pub(super) struct Screen {
    pub(super) picture: Picture,
    /// By name: services may come and go.
    pub(super) service: Option<String>,
    pub(super) sort: Sort,
    /// Pools before the first that is shown.
    pub(super) skipped: usize,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) colours: bool,
    /// Why the last look found nothing, and when that began.
    pub(super) trouble: Option<(Instant, String)>,
    /// Requests a second of each pool of each service, the newest last.
    rates: HashMap<(String, String), VecDeque<f64>>,
}

/// The order of pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Configured,
    Rate,
    Errors,
    P99,
}

impl Sort {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "as configured",
            Self::Rate => "by rate",
            Self::Errors => "by errors",
            Self::P99 => "by p99",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Configured => Self::Rate,
            Self::Rate => Self::Errors,
            Self::Errors => Self::P99,
            Self::P99 => Self::Configured,
        }
    }
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) service: Option<String>,
    pub(super) paused: bool,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    Stay,
    Quit,
}

impl Screen {
    pub(super) fn new(picture: Picture, service: Option<String>, colours: bool) -> Self {
        let mut screen = Self {
            picture,
            service,
            sort: Sort::Configured,
            skipped: 0,
            paused: false,
            help: false,
            colours,
            trouble: None,
            rates: HashMap::new(),
        };
        screen.remember();
        screen
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted { service: self.service.clone(), paused: self.paused }
    }

    /// Takes what a look has found, or why it found nothing.
    pub(super) fn looked(&mut self, look: Result<Picture, String>) {
        match look {
            // It was under way when somebody wanted to read on.
            Ok(_) if self.paused => {}
            Ok(picture) => {
                self.picture = picture;
                self.trouble = None;
                self.remember();
            }
            Err(why) => {
                let began = self.trouble.as_ref().map_or_else(Instant::now, |(began, _)| *began);
                self.trouble = Some((began, why));
            }
        }
    }

    fn remember(&mut self) {
        let services = &self.picture.status.services;
        let place = |service: &Service, pool: &Pool| (service.name.clone(), pool.name.clone());
        self.rates.retain(|(service, pool), _| {
            let found = services.iter().find(|it| it.name == *service);
            found.is_some_and(|it| it.pools.iter().any(|it| it.name == *pool))
        });
        for service in services {
            for pool in &service.pools {
                let rates = self.rates.entry(place(service, pool)).or_default();
                if rates.len() == REMEMBERED {
                    rates.pop_front();
                }
                rates.push_back(pool.rate);
            }
        }
    }

    /// Requests a second in tenths, as many of the last as there is room for.
    pub(super) fn rates(&self, pool: &Pool, room: usize) -> Vec<u64> {
        let Some(service) = self.service() else { return Vec::new() };
        let place = (service.name.clone(), pool.name.clone());
        let Some(rates) = self.rates.get(&place) else { return Vec::new() };
        let before = rates.len().saturating_sub(room);
        rates.iter().skip(before).map(|rate| (rate * 10.0) as u64).collect()
    }

    /// The place of the one that is shown.
    pub(super) fn at(&self) -> usize {
        let services = &self.picture.status.services;
        services.iter().position(|it| Some(&it.name) == self.service.as_ref()).unwrap_or_default()
    }

    pub(super) fn service(&self) -> Option<&Service> {
        self.picture.status.services.get(self.at())
    }

    /// Its pools, in the order that is wanted.
    pub(super) fn pools(&self) -> Vec<&Pool> {
        let mut pools: Vec<&Pool> =
            self.service().map(|it| it.pools.iter().collect()).unwrap_or_default();
        let figure = |pool: &Pool| match self.sort {
            Sort::Configured => 0.0,
            Sort::Rate => pool.rate,
            Sort::Errors => pool.error_rate.unwrap_or(-1.0),
            Sort::P99 => pool.p99.unwrap_or(-1.0),
        };
        pools.sort_by(|one, other| figure(other).total_cmp(&figure(one)));
        pools
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Key {
        // What a terminal sends as a key while it is raw.
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Key::Quit,
            KeyCode::Char('q') => return Key::Quit,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => return Key::Quit,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Right | KeyCode::Tab => self.turn(1),
            KeyCode::Left | KeyCode::BackTab => self.turn(-1),
            KeyCode::Down => {
                let last = self.pools().len().saturating_sub(1);
                self.skipped = (self.skipped + 1).min(last);
            }
            KeyCode::Up => self.skipped = self.skipped.saturating_sub(1),
            _ => {}
        }
        Key::Stay
    }

    /// To another service; from the last one to the first.
    fn turn(&mut self, by: isize) {
        let services = &self.picture.status.services;
        if services.is_empty() {
            return;
        }
        let count = services.len() as isize;
        let to = (self.at() as isize + by).rem_euclid(count) as usize;
        self.service = Some(services[to].name.clone());
        self.skipped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::draw::tests::shop, *};

    fn press(screen: &mut Screen, code: KeyCode) -> Key {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn names(screen: &Screen) -> Vec<&str> {
        screen.pools().iter().map(|pool| &*pool.name).collect()
    }

    #[test]
    fn keys_go_round_the_services() {
        let mut screen = shop();
        let name = |screen: &Screen| screen.service().unwrap().name.clone();
        assert_eq!(name(&screen), "shop");
        press(&mut screen, KeyCode::Tab);
        assert_eq!((name(&screen), screen.wanted().service), ("api".into(), Some("api".into())));
        press(&mut screen, KeyCode::Right);
        assert_eq!(name(&screen), "shop");
        press(&mut screen, KeyCode::Left);
        assert_eq!(name(&screen), "api");
        press(&mut screen, KeyCode::BackTab);
        assert_eq!(name(&screen), "shop");
    }

    #[test]
    fn pools_in_the_order_that_is_wanted() {
        let mut screen = shop();
        assert_eq!(names(&screen), ["blue", "green", "old"]);
        let mut orders = Vec::new();
        for _ in 0..4 {
            press(&mut screen, KeyCode::Char('s'));
            orders.push((screen.sort, names(&screen).join(" ")));
        }
        let orders: Vec<_> = orders.iter().map(|(sort, names)| (*sort, &**names)).collect();
        assert_eq!(
            orders,
            [
                (Sort::Rate, "blue green old"),
                (Sort::Errors, "green blue old"),
                (Sort::P99, "green blue old"),
                (Sort::Configured, "blue green old"),
            ]
        );
        for (code, skipped) in [
            (KeyCode::Down, 1),
            (KeyCode::Down, 2),
            (KeyCode::Down, 2),
            (KeyCode::Up, 1),
            (KeyCode::Up, 0),
            (KeyCode::Up, 0),
        ] {
            press(&mut screen, code);
            assert_eq!(screen.skipped, skipped);
        }
    }

    #[test]
    fn ways_to_leave() {
        let mut screen = shop();
        assert_eq!(press(&mut screen, KeyCode::Char('x')), Key::Stay);
        assert_eq!(press(&mut screen, KeyCode::Char('c')), Key::Stay);
        assert_eq!(press(&mut screen, KeyCode::Char('?')), Key::Stay);
        assert_eq!(press(&mut screen, KeyCode::Esc), Key::Stay, "it closes the help");
        assert_eq!(press(&mut screen, KeyCode::Esc), Key::Quit);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Key::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(interrupt), Key::Quit);
    }

    #[test]
    fn a_pause_keeps_the_picture_and_trouble_is_dated_from_its_beginning() {
        let mut screen = shop();
        press(&mut screen, KeyCode::Char('p'));
        assert!(screen.wanted().paused);
        let mut next = shop().picture;
        next.status.revision = 99;
        screen.looked(Ok(next));
        assert_eq!(screen.picture.status.revision, 42);

        screen.looked(Err("gone".to_owned()));
        let began = screen.trouble.as_ref().unwrap().0;
        screen.looked(Err("still gone".to_owned()));
        assert_eq!(screen.trouble, Some((began, "still gone".to_owned())));
        press(&mut screen, KeyCode::Char('p'));
        screen.looked(Ok(shop().picture));
        assert_eq!(screen.trouble, None);
    }

    #[test]
    fn rates_are_remembered_of_pools_that_are_there() {
        let mut screen = shop();
        for _ in 0..2 * REMEMBERED {
            screen.looked(Ok(shop().picture));
        }
        let blue = &shop().picture.status.services[0].pools[0].name.clone();
        let pool = screen.pools().into_iter().find(|pool| pool.name == *blue).unwrap();
        assert_eq!(screen.rates(pool, 1000).len(), REMEMBERED);
        assert_eq!(screen.rates(pool, 3), [1234, 1234, 1234]);
        let mut next = shop().picture;
        next.status.services.clear();
        screen.looked(Ok(next));
        assert!(screen.rates.is_empty());
        assert_eq!((screen.at(), screen.pools().len()), (0, 0));
        press(&mut screen, KeyCode::Tab);
    }
}
