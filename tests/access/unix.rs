use crate::{stage::*, support::*};
use std::{
    fs,
    os::unix::{fs::chown, net::UnixListener},
};

/// Of the user `nobody`, mostly.
const NOBODY: u32 = 65534;

/// Waits until it can be asked.
async fn served(backend: &Backend, admin: &str) -> (Served, String) {
    let served = Served::start(tempfile::tempdir().unwrap(), &config_of(backend, admin));
    served.logged("admin API").await;
    let admin = format!("unix:{}", served.path("admin.sock").display());
    (served, admin)
}

#[tokio::test]
async fn the_author_is_the_user_who_connects() {
    let backend = Backend::named("blue").await;
    let (_served, admin) = served(&backend, "address: unix:admin.sock").await;
    let words = ["--admin", &admin, "-o", "json", "cutover", "shop", "green"];
    let done = run(&words, &[], None).await;
    assert_eq!(done.code, 0, "{}", done.err);
    let receipt: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        assert_eq!(receipt["author"], "root");
    }
    assert_ne!(receipt["author"], "api");
}

#[tokio::test]
async fn users_have_the_roles_that_they_are_given() {
    if rustix::process::geteuid().as_raw() != 0 {
        // Only root can ask as another user.
        return;
    }
    let backend = Backend::named("blue").await;
    for (roles, status, cutover) in [
        ("", 0, 0),
        (", unix_roles: [{ user: \"65534\", role: viewer }, { role: operator }]", 0, 1),
        (", unix_roles: [{ group: \"65534\", role: operator }]", 0, 0),
        (", unix_roles: [{ group: no-such-group, role: operator }]", 1, 1),
    ] {
        let (served, admin) = served(&backend, &format!("address: unix:admin.sock{roles}")).await;
        let cut = ["--admin", &admin, "cutover", "shop", "green"];
        let shut = run(&cut, &[], Some(NOBODY)).await;
        assert_eq!(shut.code, 5, "{roles}: owner and group alone can open it: {}", shut.err);
        chown(served.path("admin.sock"), None, Some(NOBODY)).unwrap();
        let seen = run(&["--admin", &admin, "status"], &[], Some(NOBODY)).await;
        assert_eq!(seen.code, status, "{roles}: {}", seen.err);
        let ran = run(&cut, &[], Some(NOBODY)).await;
        assert_eq!(ran.code, cutover, "{roles}: {}", ran.err);
        if cutover == 1 {
            assert!(ran.err.contains("role"), "{}", ran.err);
        }
        let as_root = run(&cut, &[], None).await;
        assert_eq!(as_root.code, 0, "{roles}: {}", as_root.err);
    }
}

#[tokio::test]
async fn a_socket_that_was_left_is_replaced_and_one_that_is_used_is_not() {
    let backend = Backend::named("blue").await;
    let (mut first, admin) = served(&backend, "address: unix:admin.sock").await;
    first.kill();
    assert!(first.path("admin.sock").exists(), "it was killed");
    let text = fs::read_to_string(first.path("c.yaml")).unwrap();
    let folder = std::mem::replace(&mut first.folder, tempfile::tempdir().unwrap());
    let second = Served::start(folder, &text);
    second.logged("admin API").await;
    assert_eq!(run(&["--admin", &admin, "healthcheck"], &[], None).await.code, 0);

    let path = second.path("c.yaml");
    let third = run(&["serve", path.to_str().unwrap()], &[], None).await;
    assert_eq!(third.code, 1, "{}", third.err);
    assert!(third.err.contains("another process may be listening on it"), "{}", third.err);
    assert_eq!(run(&["--admin", &admin, "healthcheck"], &[], None).await.code, 0);
    drop(second);
    // What is no socket of ours is not touched either.
    let folder = tempfile::tempdir().unwrap();
    let _theirs = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    fs::write(folder.path().join("c.yaml"), &text).unwrap();
    let path = folder.path().join("c.yaml");
    assert_eq!(run(&["serve", path.to_str().unwrap()], &[], None).await.code, 1);
}
