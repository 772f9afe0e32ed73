//! The statistics against golden vectors that another implementation has made. CROSSFADE_VECTORS names another folder
//! with vectors of the same form.

use crossfade::{
    rollout::sequential::{
        Action, Bad, BetConfig, BetTest, Counts, Guard, Histogram, Judge, JudgeConfig, Latency,
        LatencyConfig, NiTest, OnInconclusive, Promotion, Side, Slice, Stage, Weights, dispersion,
    },
    spec::{FINE_BUCKETS, fine_bucket},
};
use serde_json::Value;
use std::{fs, path::PathBuf};

fn read(file: &str) -> Value {
    let folder = std::env::var_os("CROSSFADE_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list, not {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a whole number, not {value}"))
}

/// Every field of `object` that is `known`; a name that is not means that the vectors have a form of their own.
fn fields<'a>(object: &'a Value, known: &[&str]) -> impl Fn(&str) -> Option<&'a Value> {
    for key in object.as_object().expect("an object").keys() {
        assert!(known.contains(&key.as_str()), "unknown key {key}");
    }
    move |key| object.get(key).filter(|value| !value.is_null())
}

fn assert_close(got: f64, want: &Value, what: impl Fn() -> String) {
    let want = number(want);
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{}: {got} for {want}", what());
}

fn histogram(counts: &Value) -> Histogram {
    let mut histogram = [0; FINE_BUCKETS];
    for (bucket, count) in counts.as_object().expect("buckets") {
        histogram[bucket.parse::<usize>().expect("a bucket")] = whole(count);
    }
    histogram
}

fn bet_config(params: &Value) -> BetConfig {
    let known =
        ["rho", "tau", "one_sample", "grid", "cap0", "refill", "beta0", "beta_stage", "J", "phi"];
    let get = fields(params, &known);
    let default = BetConfig::default();
    let or = |key: &str, default: f64| get(key).map_or(default, number);
    BetConfig {
        rho: or("rho", default.rho),
        tau: or("tau", default.tau),
        one_sample: get("one_sample").is_some_and(|value| value == true),
        ratios: get("grid").map_or(default.ratios, |grid| list(grid).iter().map(number).collect()),
        credit: or("cap0", default.credit),
        refill: or("refill", default.refill),
        first_stake: or("beta0", default.first_stake),
        stage_stake: or("beta_stage", default.stage_stake),
        horizon: or("J", default.horizon),
        phi: or("phi", default.phi),
    }
}

#[test]
fn vectors_of_buckets() {
    let all = read("buckets.json");
    for case in list(&all["cases"]) {
        assert_eq!(fine_bucket(whole(&case[0])) as u64, whole(&case[1]), "{case}");
    }
    for (bucket, edge) in list(&all["edges_ns"]).iter().enumerate() {
        assert_eq!(fine_bucket(whole(edge)), bucket);
        assert_eq!(fine_bucket(whole(edge) - 1), bucket.saturating_sub(1));
    }
}

#[test]
fn vectors_of_bets() {
    for case in list(&read("bet.json")) {
        let mut test = BetTest::new(bet_config(&case["params"]));
        let mut first = None;
        for (at, slice) in list(&case["slices"]).iter().enumerate() {
            let what = || format!("{} slice {at}", case["name"]);
            let counts = Counts {
                canary: whole(&slice[2]),
                canary_hits: whole(&slice[3]),
                baseline: whole(&slice[4]),
                baseline_hits: whole(&slice[5]),
            };
            let evidence = test.update(number(&slice[0]), counts, slice[1] == true);
            assert_close(evidence.ln(), &case["log_e"][at], what);
            assert_close(test.cash(), &case["cash"][at], what);
            if evidence >= 100.0 {
                first.get_or_insert(at as u64);
            }
        }
        assert_eq!(first, case["first_ge_100"].as_u64(), "{}", case["name"]);
    }
}

#[test]
fn vectors_of_non_inferiority() {
    for case in list(&read("ni.json")) {
        let get = fields(&case["params"], &["rho", "margin", "one_sample", "lambdas"]);
        let value = |key: &str| number(get(key).expect(key));
        let lambdas: Vec<f64> = list(get("lambdas").expect("bets")).iter().map(number).collect();
        let one_sample = get("one_sample").is_some_and(|value| value == true);
        let mut test = NiTest::with(value("rho"), value("margin"), one_sample, &lambdas);
        let mut first = None;
        for (at, slice) in list(&case["slices"]).iter().enumerate() {
            let counts = Counts {
                canary: whole(&slice[1]),
                canary_hits: whole(&slice[2]),
                baseline: whole(&slice[3]),
                baseline_hits: whole(&slice[4]),
            };
            let log = test.update(number(&slice[0]), counts);
            assert_close(log, &case["log_e"][at], || format!("{} slice {at}", case["name"]));
            if log >= 20_f64.ln() {
                first.get_or_insert(at as u64);
            }
        }
        assert_eq!(first, case["first_pass_beta05"].as_u64(), "{}", case["name"]);
    }
}

#[test]
fn vectors_of_latency() {
    for case in list(&read("latency.json")) {
        let get = fields(&case["params"], &["levels", "d", "d_warm", "half_life_slices"]);
        let value = |key: &str| number(get(key).expect(key));
        let levels: Vec<f64> = list(get("levels").expect("levels")).iter().map(number).collect();
        let config = LatencyConfig {
            levels: levels.clone(),
            tolerated: value("d") as usize,
            tolerated_cold: value("d_warm") as usize,
            half_life: value("half_life_slices"),
            ..LatencyConfig::default()
        };
        let mut latency = Latency::new(config, &BetConfig::default());
        latency.learn(&histogram(&case["seed_hist"]));
        for (at, slice) in list(&case["slices"]).iter().enumerate() {
            let what = || format!("{} slice {at}", case["name"]);
            let thresholds: Vec<Option<u64>> = levels
                .iter()
                .map(|level| latency.threshold(*level).map(|bucket| bucket as u64))
                .collect();
            let wanted: Vec<Option<u64>> =
                list(&case["thresholds"][at]).iter().map(Value::as_u64).collect();
            assert_eq!(thresholds, wanted, "{}", what());
            let both = (&histogram(&slice["c"]), &histogram(&slice["b"]));
            let (start, warm) = (slice["stage_start"] == true, slice["warm"] == true);
            let evidence = latency.update(number(&slice["w"]), both, start, warm);
            assert_close(evidence.ln(), &case["log_e"][at], what);
        }
    }
}

#[test]
fn vectors_of_dispersion() {
    for case in list(&read("dispersion.json")) {
        let pair = |pair: &Value| (whole(&pair[0]), whole(&pair[1]));
        let blocks: Vec<Vec<(u64, u64)>> = list(&case["blocks"])
            .iter()
            .map(|block| list(block).iter().map(pair).collect())
            .collect();
        assert_close(dispersion(&blocks), &case["phi"], || case["name"].to_string());
    }
}

/// The stages with their shares; a probe is the one before the first.
fn stages(cfg: &Value) -> Vec<(i64, f64, Stage)> {
    let promote = &cfg["promote"];
    let step = Stage::Step {
        least_time: number(&promote["min_s"]),
        by_evidence: promote["mode"] == "evidence",
    };
    let probe = Some(&cfg["probe"]).filter(|probe| !probe.is_null());
    let probe = probe.map(|probe| (-1, number(&probe["w"]), Stage::Probe(number(&probe["s"]))));
    let steps = list(&cfg["stages"]).iter().zip(0..);
    probe.into_iter().chain(steps.map(|(share, at)| (at, number(share), step))).collect()
}

fn judge_config(cfg: &Value) -> JudgeConfig {
    let known = [
        "stages",
        "probe",
        "slice_s",
        "alpha",
        "weights",
        "err",
        "guards",
        "min_guard_n",
        "guard_freeze",
        "guard_half_lives",
        "warmup_s",
        "promote",
    ];
    let get = fields(cfg, &known);
    let of = |key: &str| get(key).unwrap_or_else(|| panic!("{key} is missing"));
    let weights = fields(of("weights"), &["err", "lat", "guard"]);
    let guards = fields(of("guards"), &["err", "slow"]);
    let known = [
        "mode",
        "beta",
        "err_margin",
        "err_rho",
        "min_s",
        "min_requests",
        "deadline_s",
        "on_inconclusive",
        "hold_e",
    ];
    let promote = fields(of("promote"), &known);
    let promotes = |key: &str| promote(key).unwrap_or_else(|| panic!("{key} is missing"));
    let guard = |key: &str, of| guards(key).map(|limit| Guard { of, limit: number(limit) });
    let weight = |key: &str| weights(key).map_or(0.0, number);
    let half_lives = list(of("guard_half_lives"));
    JudgeConfig {
        slice: number(of("slice_s")),
        alpha: number(of("alpha")),
        weights: Weights { errors: weight("err"), latency: weight("lat"), guards: weight("guard") },
        errors: bet_config(of("err")),
        latency: LatencyConfig::default(),
        guards: [guard("err", Bad::Errors), guard("slow", Bad::Slow)]
            .into_iter()
            .flatten()
            .collect(),
        guard_requests: whole(of("min_guard_n")),
        guard_freeze: number(of("guard_freeze")),
        guard_half_lives: [number(&half_lives[0]), number(&half_lives[1])],
        warm_up: number(of("warmup_s")),
        promotion: Promotion {
            beta: number(promotes("beta")),
            margin: number(promotes("err_margin")),
            rho: number(promotes("err_rho")),
            least_requests: whole(promotes("min_requests")),
            deadline: number(promotes("deadline_s")),
            on_inconclusive: match promotes("on_inconclusive").as_str() {
                Some("hold") => OnInconclusive::Hold,
                Some("rollback") => OnInconclusive::Rollback,
                Some("promote") => OnInconclusive::Promote,
                other => panic!("{other:?}"),
            },
            suspicion: number(promotes("hold_e")),
        },
    }
}

#[test]
fn vectors_of_whole_rollouts() {
    for case in list(&read("rollout.json")) {
        let mut judge = Judge::new(judge_config(&case["cfg"]));
        judge.learn(&histogram(&case["seed_hist"]));
        let stages = stages(&case["cfg"]);
        let mut now = 0;
        let steps = list(&case["steps"]);
        for (at, (slice, step)) in list(&case["slices"]).iter().zip(steps).enumerate() {
            let what = || format!("{} slice {at}", case["name"]);
            let side = |s: &str| Side {
                requests: whole(&slice[format!("n_{s}")]),
                errors: whole(&slice[format!("e_{s}")]),
                slow: whole(&slice[format!("slow_{s}")]),
                latency: histogram(&slice[s]),
            };
            let (number, share, stage) = stages[now];
            judge.feed(&Slice { canary: side("c"), baseline: side("b") }, share);
            let verdict = judge.verdict(stage, share);
            let is_last = now + 1 == stages.len();
            let action = match verdict.action {
                Action::Run => "RUN",
                Action::Promote if is_last => "DONE",
                Action::Promote => "PROMOTE",
                Action::Abort => "ABORT",
                Action::Hold => "HOLD",
            };
            assert_eq!(action, step["action"], "{}", what());
            assert_eq!(Some(number), step["stage"].as_i64(), "{}", what());
            assert_close(share, &step["w"], what);
            if action == "PROMOTE" {
                now += 1;
                judge.begin_stage();
            }
            assert_close(verdict.log_evidence, &step["log_e"], what);
            if let Some(reason) = step.get("reason").and_then(Value::as_str) {
                let got = match (verdict.inconclusive, verdict.parts.reason()) {
                    (true, _) => "inconclusive",
                    (_, crossfade::rollout::sequential::Concern::Errors) => "err",
                    (_, crossfade::rollout::sequential::Concern::Latency) => "lat",
                    (_, crossfade::rollout::sequential::Concern::Guards) => "guard",
                };
                assert_eq!(got, reason, "{}", what());
            }
        }
    }
}
