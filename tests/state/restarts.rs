//! A restart goes on where the process ended.

use crate::stage::{SHOP, Stage};
use serde_json::json;
use std::fs;

#[test]
fn changes_survive_a_kill() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    served.weights(70);
    served.change("POST", "/v1/services/shop/pools/green/drain", "");
    let before = served.get("/v1/config");
    served.kill();
    let served = stage.start();
    assert_eq!(served.get("/v1/config"), before);
    let tag = served.try_ask("GET", "/v1/config", "", &[]).unwrap();
    assert_eq!(tag.header("etag"), Some("\"3\""));
    let status = served.get("/v1/status");
    assert_eq!(status["drift"], 3, "two weights and a drain: {status}");
    assert_eq!(status["state"]["directory"], stage.path("state").to_str().unwrap());
    let revisions = served.get("/v1/revisions");
    let numbers: Vec<_> = revisions.as_array().unwrap().iter().map(|it| &it["revision"]).collect();
    assert_eq!(numbers, [3, 2, 1]);
    // What is kept is kept: nobody is warned of a restart.
    let warnings = served.weights(60)["warnings"].to_string();
    assert!(!warnings.contains("restart"), "{warnings}");
    // And an undo goes back over the restart.
    served.change("POST", "/v1/undo", "{\"force\": true}");
    assert_eq!(served.get("/v1/config"), before);
}

#[test]
fn the_file_is_merged_as_by_a_reload() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    served.weights(70);
    served.kill();
    let changed = SHOP
        .replace("threads: 1", "threads: 2")
        .replace("services:\n", "metrics: { linger: 7s }\nservices:\n");
    stage.configure(&changed);
    let served = stage.start();
    let config = served.get("/v1/config");
    assert_eq!((&config["threads"], &config["metrics"]["linger"]), (&json!(2), &json!("7s")));
    assert_eq!(config["services"]["shop"]["pools"]["blue"]["weight"], 70);
    let newest = &served.get("/v1/revisions")[0];
    assert_eq!((&newest["revision"], &newest["source"]), (&json!(3), &json!("file")));
    assert_eq!(newest["changed"].as_array().unwrap().len(), 2, "{newest}");
    served.kill();
    // The file says what the API said: it is the file's from then on.
    stage
        .configure(&changed.replace("weight: 100", "weight: 70").replace("weight: 0", "weight: 1"));
    let served = stage.start();
    assert_eq!(
        (&served.get("/v1/drift")["drift"], &served.get("/v1/status")["revision"]),
        (&json!([]), &json!(3))
    );
    served.kill();
    stage.configure(&changed);
    let served = stage.start();
    assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 100);
}

#[test]
fn without_a_directory_a_restart_returns_to_the_file() {
    let stage = Stage::new(&SHOP.replace("state: { directory: state }", "state: { revisions: 5 }"));
    let served = stage.start();
    let receipt = served.weights(70);
    assert!(receipt["warnings"][0].as_str().unwrap().contains("no state directory"), "{receipt}");
    assert_eq!(served.get("/v1/revisions").as_array().unwrap().len(), 2);
    served.kill();
    let served = stage.start();
    assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 100);
    assert!(!stage.path("state").exists());
}

#[test]
fn a_state_that_cannot_be_used_is_an_error_at_the_start() {
    let stage = Stage::new(SHOP);
    let first = stage.start();
    first.weights(70);
    let second = Stage::new(
        &SHOP.replace("directory: state", &format!("directory: {}", stage.path("state").display())),
    );
    let (code, said) = second.refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use: another crossfade keeps its state there"), "{said}");
    assert_eq!(first.weights(60)["revision"], 3);
    first.kill();
    // A start moves all that is good out of the log.
    stage.start().kill();

    let file = stage.path("state/state.sqlite3");
    let good = fs::read(&file).unwrap();
    let broken = b"not a database, whatever it is".repeat(100);
    fs::write(&file, &broken).unwrap();
    let (code, said) = stage.refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is damaged") && said.contains("mv "), "{said}");
    assert!(fs::read(&file).unwrap() == broken, "never a silent reset");
    fs::write(&file, good).unwrap();
    assert_eq!(stage.start().get("/v1/status")["revision"], 3);
}

/// Written in format 1, which knew no keys of changes.
#[test]
fn state_of_an_earlier_version_is_brought_up_to_date() {
    let stage = Stage::new(SHOP);
    fs::create_dir(stage.path("state")).unwrap();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/state/format-1.sqlite3");
    fs::copy(old, stage.path("state/state.sqlite3")).unwrap();
    let served = stage.start();
    let revisions = served.get("/v1/revisions");
    // One more: where the API listens is the file's, and a restart may change it.
    assert_eq!(revisions[0]["revision"], 4, "{revisions}");
    assert_eq!(
        (&revisions[2]["author"], &revisions[2]["cause"]),
        (&json!("ci"), &json!("release 2"))
    );
    assert_eq!(revisions[2]["at"], "2026-11-21T15:02:00.5Z");
    let pools = &served.get("/v1/config")["services"]["shop"]["pools"];
    assert_eq!((&pools["blue"]["weight"], &pools["green"]["drained"]), (&json!(70), &json!(true)));
    // What is new in the format works on it.
    let key = [("Idempotency-Key", "\"a\"")];
    for replayed in [None, Some("true")] {
        let path = "/v1/services/shop/pools/green/undrain";
        let answer = served.try_ask("POST", path, "", &key).unwrap();
        assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, replayed));
        assert_eq!(answer.body["revision"], 5);
    }
    served.kill();
    assert_eq!(stage.start().get("/v1/revisions").as_array().unwrap().len(), 5);
}

#[test]
fn certificates_that_have_gone_stop_nobody_whom_they_do_not_concern() {
    let stage = Stage::new(SHOP);
    for name in ["old", "new"] {
        let params = rcgen::CertificateParams::new([format!("{name}.example")]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(stage.path(&format!("{name}.crt")), params.self_signed(&key).unwrap().pem())
            .unwrap();
        fs::write(stage.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let with = |name: &str| {
        let tls = format!("tls: {{ certificates: [{{ cert: {name}.crt, key: {name}.key }}] }}");
        SHOP.replace("127.0.0.1:0 }", &format!("127.0.0.1:0, {tls} }}"))
    };
    stage.configure(&with("old"));
    let served = stage.start();
    served.weights(70);
    served.kill();
    // Renamed, in the file too.
    fs::remove_file(stage.path("old.crt")).unwrap();
    stage.configure(&with("new"));
    let served = stage.start();
    let config = served.get("/v1/config");
    assert_eq!(config["services"]["shop"]["pools"]["blue"]["weight"], 70);
    // The way back needs it.
    let back = served.try_ask("POST", "/v1/undo", "{\"to_revision\": 1}", &[]).unwrap();
    assert_eq!(back.status, 422, "{back:?}");
    assert!(back.body["detail"].as_str().unwrap().contains("old.crt cannot be read"), "{back:?}");
    served.kill();
    // What is in force needs it.
    fs::remove_file(stage.path("new.key")).unwrap();
    stage.configure(&with("new").replace("new.", "./new."));
    let (code, said) = stage.refused();
    assert!(code == 2 && said.contains("cannot be read"), "{code} {said}");
}

#[test]
fn the_command_line_speaks_of_history() {
    let stage = Stage::new(SHOP);
    let served = stage.start();
    served.change(
        "PUT",
        "/v1/services/shop/weights",
        "{\"weights\": {\"blue\": 70}, \"cause\": \"try it\"}",
    );
    let (code, out, err) = stage.run(&["history", "shop"]);
    assert_eq!((code, &*err), (0, ""));
    assert!(out.starts_with("2  ") && out.contains("try it"), "{out}");
    assert!(out.contains("\n  services.shop.pools.blue.weight: 100 -> 70\n"), "{out}");
    let (code, out, _) = stage.run(&["show", "1"]);
    assert!(code == 0 && out.contains("\nservices:\n  shop:\n    pools:\n      blue:\n"), "{out}");
    let (code, out, _) = stage.run(&["diff", "1"]);
    let text = "from revision 1 to 2\n  services.shop.pools.blue.weight: 100 -> 70\n";
    assert_eq!((code, &*out), (0, text));
    assert!(stage.run(&["status"]).1.contains("drift: 1 value differs from the file"));
    // The file that is printed ends the drift.
    let (code, file, note) = stage.run(&["adopt"]);
    assert!(code == 0 && note.contains("comments"), "{note}");
    stage.configure(&file);
    assert_eq!(stage.run(&["reload"]).0, 0);
    assert_eq!(served.get("/v1/drift")["drift"], json!([]));
    assert_eq!(served.get("/v1/status")["revision"], 2);
    let (code, out, err) = stage.run(&["undo", "shop"]);
    assert!(code == 0 && out.contains("revision 3"), "{out}{err}");
    assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 100);
    let (code, _, err) = stage.run(&["show", "9"]);
    assert!(code == 1 && err.contains("revision 9 is not kept; those from 1 to 3 are"), "{err}");
}
