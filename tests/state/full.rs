//! A disk that is full, or fails.

use crate::stage::{SHOP, Shim, Stage, weights};
use std::fs;

#[test]
fn a_change_that_cannot_be_kept_is_refused_and_traffic_goes_on() {
    for (error, status) in [("ENOSPC", 507), ("EIO", 503)] {
        let stage = Stage::new(SHOP);
        let served = stage.start_on(&Shim::default()).expect("it starts");
        served.weights(70);
        let before = served.get("/v1/config");
        fs::write(stage.path("flag"), error).unwrap();
        for _ in 0..3 {
            let path = "/v1/services/shop/weights";
            let answer = served.try_ask("PUT", path, &weights(60), &[]).unwrap();
            assert_eq!(answer.status, status, "{error}: {answer:?}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("cannot be kept, so it is not made"), "{detail}");
        }
        // Everything else goes on.
        assert_eq!(served.get("/v1/config"), before);
        let told = served.get("/v1/status");
        assert!(told["state"]["error"].is_string() && told["revision"] == 2, "{told}");
        assert!(stage.run(&["status"]).1.contains("changes cannot be kept, and are refused"));
        // Until there is room again.
        fs::remove_file(stage.path("flag")).unwrap();
        assert_eq!(served.weights(50)["revision"], 3);
        assert!(served.get("/v1/status")["state"]["error"].is_null());
        served.kill();
        let served = stage.start();
        let revisions = served.get("/v1/revisions");
        assert_eq!(revisions.as_array().unwrap().len(), 3, "{error}: {revisions}");
        assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 50);
    }
}

#[test]
fn what_was_refused_is_not_there_after_a_crash() {
    for seed in 0..4 {
        let stage = Stage::new(SHOP);
        let served = stage.start_on(&Shim::default()).expect("it starts");
        served.weights(70);
        served.kill();
        // The write fails in the middle, or its sync; then the process is killed.
        let served = stage.start_on(&Shim::default()).expect("it starts");
        fs::write(stage.path("flag"), "EIO").unwrap();
        let path = "/v1/services/shop/weights";
        assert_eq!(served.try_ask("PUT", path, &weights(60 + seed), &[]).unwrap().status, 503);
        fs::remove_file(stage.path("flag")).unwrap();
        served.kill();
        let served = stage.start();
        assert_eq!(served.get("/v1/status")["revision"], 2);
        assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 70);
    }
}
