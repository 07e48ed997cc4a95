#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const LINES: &str = r#"{"time":"2026-01-02T03:04:05.1Z","method":"GET","path":"/v1/sys/health","status":429,"remote_addr":"127.0.0.1:4","user_agent":"vto (t)"}
{"time":"2026-01-02T03:04:05.2Z","method":"PUT","path":"/v1/auth/kubernetes/login","status":200,"remote_addr":"127.0.0.1:4","user_agent":"vto (t)"}
{"time":"2026-01-02T03:04:05.3Z","method":"GET","path":"/v1/kv/da"#;

#[test]
fn filters_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, LINES).unwrap();
    let log = AccessLog::new(&path);
    let count = |filter: AccessFilter| log.count(&filter).unwrap();
    assert_eq!(count(AccessFilter::new()), 2, "the half line waits");
    assert_eq!(
        count(
            AccessFilter::new()
                .path_prefix("/v1/sys/")
                .status(429)
                .method("GET")
        ),
        1
    );
    assert_eq!(count(AccessFilter::new().user_agent_contains("(t)")), 2);
    assert_eq!(count(AccessFilter::new().user_agent_contains("(u)")), 0);
    let mark = log.mark().unwrap();
    let rest = r#"ta/a","status":200,"remote_addr":"127.0.0.1:5","user_agent":"vto (t)"}"#;
    std::fs::write(&path, format!("{LINES}{rest}\n")).unwrap();
    let new = log.requests(&AccessFilter::new().since(mark)).unwrap();
    assert_eq!(
        (new.len(), new[0].path.as_str(), new[0].remote.as_str()),
        (1, "/v1/kv/data/a", "127.0.0.1:5")
    );
}
