//! The pools of a service: side by side where there is room, else a table.

use super::{draw::Paint, screen::Screen};
use crate::cli::status::{Pool, dash, percent, time};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Color,
    text::{Line, Span, Text},
    widgets::{Block, Paragraph, Row, Sparkline, Table},
};

/// Of a card, with its border.
pub(super) const HEIGHT: u16 = 11;
const WIDTH: u16 = 24;

/// How many cards there is room for.
pub(super) fn across(width: u16) -> usize {
    usize::from(width / WIDTH)
}

pub(super) fn cards(
    screen: &Screen,
    paint: Paint,
    pools: &[&Pool],
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let shown = &pools[..pools.len().min(across(area.width))];
    let columns = Layout::horizontal(shown.iter().map(|_| Constraint::Fill(1))).split(area);
    for (pool, area) in shown.iter().zip(columns.iter()) {
        card(screen, paint, pool, *area, frame);
    }
}

fn card(screen: &Screen, paint: Paint, pool: &Pool, area: Rect, frame: &mut Frame<'_>) {
    let title = Line::from(vec![
        Span::styled(format!(" {} ", pool.name), paint.bold()),
        Span::raw(format!("{} ", pool.version)),
    ]);
    let block = Block::bordered().border_style(paint.dim()).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let figures = figures(pool);
    let lines = figures.iter().map(|(label, value, colour)| {
        let room = usize::from(inner.width).saturating_sub(label.len() + 1);
        let value = Span::styled(format!("{value:>room$} "), paint.colour(*colour));
        Line::from(vec![Span::styled(*label, paint.dim()), value])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
    let below = Rect { y: inner.y + figures.len() as u16, height: 1, ..inner };
    let below = below.intersection(inner);
    if !below.is_empty() {
        let rates = screen.rates(pool, usize::from(below.width));
        frame.render_widget(Sparkline::default().data(rates).style(paint.dim()), below);
    }
}

/// What a card says, top down.
fn figures(pool: &Pool) -> [(&'static str, String, Option<Color>); 8] {
    let Health { text: health, colour: health_colour } = health(pool);
    let (state, state_colour) = state(pool);
    let weight = format!("{} ({})", pool.weight, percent(pool.effective_weight));
    [
        ("state", state, state_colour),
        ("weight", weight, None),
        ("backends", health, health_colour),
        ("in flight", pool.in_flight.to_string(), None),
        ("requests/s", format!("{:.1}", pool.rate), None),
        ("errors", pool.error_rate.map_or_else(dash, percent), errors(pool)),
        ("p50", pool.p50.map_or_else(dash, time), None),
        ("p95/p99", format!("{} {}", seconds(pool.p95), seconds(pool.p99)), None),
    ]
}

fn seconds(figure: Option<f64>) -> String {
    figure.map_or_else(dash, time)
}

struct Health {
    text: String,
    colour: Option<Color>,
}

fn health(pool: &Pool) -> Health {
    let healthy = pool.backends.iter().filter(|backend| backend.healthy).count();
    let all = pool.backends.len();
    let colour = match healthy {
        0 => Color::Red,
        _ if healthy < all => Color::Yellow,
        _ => Color::Green,
    };
    Health { text: format!("{healthy}/{all}"), colour: Some(colour) }
}

fn state(pool: &Pool) -> (String, Option<Color>) {
    (pool.state.clone(), (pool.state != "active").then_some(Color::Yellow))
}

fn errors(pool: &Pool) -> Option<Color> {
    (pool.error_rate > Some(0.0)).then_some(Color::Red)
}

/// A column of the table: its heading, its width, and how early it is given up; 0: never.
struct Column {
    heading: &'static str,
    width: u16,
    rank: u8,
    cell: fn(&Pool) -> (String, Option<Color>),
}

const COLUMNS: [Column; 12] = [
    Column { heading: "POOL", width: 8, rank: 0, cell: |pool| (pool.name.clone(), None) },
    Column { heading: "VERSION", width: 9, rank: 7, cell: |pool| (pool.version.clone(), None) },
    Column { heading: "STATE", width: 8, rank: 9, cell: state },
    Column { heading: "WEIGHT", width: 7, rank: 10, cell: |pool| (pool.weight.to_string(), None) },
    Column {
        heading: "SHARE",
        width: 6,
        rank: 1,
        cell: |pool| (percent(pool.effective_weight), None),
    },
    Column {
        heading: "HEALTHY",
        width: 7,
        rank: 4,
        cell: |pool| {
            let Health { text, colour } = health(pool);
            (text, colour)
        },
    },
    Column { heading: "OPEN", width: 6, rank: 6, cell: |pool| (pool.in_flight.to_string(), None) },
    Column {
        heading: "REQ/S",
        width: 8,
        rank: 2,
        cell: |pool| (format!("{:.1}", pool.rate), None),
    },
    Column {
        heading: "ERRORS",
        width: 6,
        rank: 3,
        cell: |pool| (pool.error_rate.map_or_else(dash, percent), errors(pool)),
    },
    Column { heading: "P50", width: 7, rank: 11, cell: |pool| (seconds(pool.p50), None) },
    Column { heading: "P95", width: 7, rank: 8, cell: |pool| (seconds(pool.p95), None) },
    Column { heading: "P99", width: 7, rank: 5, cell: |pool| (seconds(pool.p99), None) },
];

/// Those of the columns that there is room for.
fn fitting(width: u16) -> Vec<&'static Column> {
    let mut by_rank: Vec<&Column> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut left = width;
    let fits = |column: &&&Column| {
        let room = left.checked_sub(column.width + 1);
        left = room.unwrap_or(left);
        room.is_some()
    };
    let last = by_rank.iter().take_while(fits).count().max(1);
    let ranks: Vec<u8> = by_rank[..last].iter().map(|column| column.rank).collect();
    COLUMNS.iter().filter(|column| ranks.contains(&column.rank)).collect()
}

pub(super) fn table(paint: Paint, pools: &[&Pool], area: Rect, frame: &mut Frame<'_>) {
    let columns = fitting(area.width);
    let text = |column: &Column, text: String| match column.heading {
        "POOL" | "VERSION" | "STATE" => Text::from(text),
        _ => Text::from(text).right_aligned(),
    };
    let heading = columns.iter().map(|column| text(column, column.heading.to_owned()));
    let rows = pools.iter().map(|pool| {
        Row::new(columns.iter().map(|column| {
            let (value, colour) = (column.cell)(pool);
            text(column, value).style(paint.colour(colour))
        }))
    });
    let widths = columns.iter().map(|column| match column.heading {
        "POOL" => Constraint::Fill(1),
        _ => Constraint::Length(column.width),
    });
    let table = Table::new(rows, widths).header(Row::new(heading).style(paint.dim()));
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_the_fewer_columns_the_name_always() {
        let headings = |width: u16| -> Vec<&str> {
            fitting(width).iter().map(|column| column.heading).collect()
        };
        assert_eq!(headings(0), ["POOL"]);
        assert_eq!(headings(40), ["POOL", "SHARE", "HEALTHY", "REQ/S", "ERRORS"]);
        assert_eq!(headings(200).len(), COLUMNS.len());
        for width in 1..200 {
            assert!(headings(width).len() <= headings(width + 1).len(), "{width}");
        }
    }
}
