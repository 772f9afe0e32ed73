//! What the judgement of rollouts comes to, on made traffic: how often a version that is no worse is cut, how soon one
//! that is worse, and how the usual rules of an interval and a threshold do on the same traffic.
//!
//! `cargo run --release --example rollouts -- --seed 1 [--rollouts 300]`; it fails when a goal is missed.

#[path = "../tests/simulation/dice.rs"]
mod dice;
#[path = "../tests/simulation/draws.rs"]
mod draws;
#[path = "../tests/simulation/lane.rs"]
mod lane;
#[path = "../tests/simulation/rules.rs"]
mod rules;
#[path = "../tests/simulation/shop.rs"]
mod shop;
#[path = "../tests/simulation/study.rs"]
mod study;
#[path = "../tests/simulation/traffic.rs"]
mod traffic;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use crossfade::spec::RolloutPlan;
use std::process::ExitCode;
use study::{Row, failing, harmless, many, slow, study};
use traffic::Case;

#[derive(Parser)]
struct Arguments {
    /// Of the traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of each kind.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    rollouts: u64,
}

type Cases = Vec<(&'static str, RolloutPlan, Case)>;

fn main() -> ExitCode {
    let Arguments { seed, rollouts } = Arguments::parse();
    println!(
        "seed {seed}, {rollouts} rollouts of each kind by crossfade, and by each of the others"
    );
    let table = |title: &str, cases: Cases| -> Vec<Row> {
        println!("\n{title}");
        let rows = cases
            .into_iter()
            .flat_map(|(what, plan, case)| study(what, &plan, case, seed, rollouts, &rules::RULES));
        let rows: Vec<Row> = rows.collect();
        print(&rows);
        rows
    };
    let good = table("A version that is no worse", harmless());
    let bad = table("One that fails more often; stable has 0.1 % errors", failing());
    let late = table("One that is slower; stable has p50 50 ms, p95 134 ms, p99 202 ms", slow());
    let runs: usize = good.iter().chain(&bad).chain(&late).map(|row| row.runs.len()).sum();
    let drawn = print_draws(seed, rollouts);
    println!("\n{} rollouts", runs as u64 + drawn);
    if goals(&good, &bad) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "traffic",
        "by",
        "cut %",
        "through %",
        "requests p50 / p95",
        "seconds p50 / p95",
        "failed for it",
        "why",
    ]);
    rows.iter().for_each(|row| {
        table.add_row(cells(row));
    });
    for column in table.column_iter_mut().skip(2).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Whether the draws of the proxy cost anything; how many rollouts showed it.
fn print_draws(seed: u64, rollouts: u64) -> u64 {
    println!(
        "\nA version that is the same, a step of 7 % for 15 minutes, strict, at a confidence of 80 %, so"
    );
    println!("that 20 % may be cut. A second cuts the stretches in which the proxy draws.");
    let mut number = 0;
    for (what, kind) in draws::KINDS {
        let cut = many(rollouts, |nth| draws::is_cut(kind, seed, nth));
        number += cut.len() as u64;
        let part = cut.iter().filter(|cut| **cut).count() as f64 / cut.len() as f64;
        println!("{what}: {:.2} % cut", part * 100.0);
    }
    number
}

/// Says of each goal whether it is met; whether all of them are.
fn goals(good: &[Row], bad: &[Row]) -> bool {
    let ours = |row: &&Row| row.who == "crossfade";
    let worst = good.iter().filter(ours).map(Row::cut).fold(0.0, f64::max);
    let median = |what: &str, of: fn(&lane::Run) -> u64| {
        let row = bad.iter().filter(ours).find(|row| row.what == what);
        row.and_then(|row| row.quantile(0.5, of)).unwrap_or(u64::MAX)
    };
    let requests = median("5 % errors, 100/s", |run| run.requests);
    let seconds = median("5 % errors, 1,000/s", |run| run.seconds);
    let goals = [
        (format!("no worse: at most 1 % cut in each kind: {:.2} %", worst * 100.0), worst <= 0.01),
        (format!("5 % errors, 100/s: 120 requests in the median: {requests}"), requests <= 120),
        (format!("5 % errors, 1,000/s: 7 s in the median: {seconds}"), seconds <= 7),
    ];
    for (goal, is_met) in &goals {
        println!("{} {goal}", if *is_met { "met:   " } else { "MISSED:" });
    }
    goals.iter().all(|(_, is_met)| *is_met)
}

fn cells(row: &Row) -> [String; 8] {
    let both = |of: fn(&lane::Run) -> u64| {
        let at = |part| row.quantile(part, of).map_or("-".to_owned(), |it| it.to_string());
        format!("{} / {}", at(0.5), at(0.95))
    };
    [
        row.what.to_owned(),
        row.who.to_owned(),
        format!("{:.2}", row.cut() * 100.0),
        format!("{:.1}", row.through() * 100.0),
        both(|run| run.requests),
        both(|run| run.seconds),
        if row.is_worse { format!("{:.1}", row.extra()) } else { "-".to_owned() },
        row.reason().to_owned(),
    ]
}
