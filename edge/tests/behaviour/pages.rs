//! What a browser loads.

use crate::harness::Site;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_its_client_and_the_protocol_are_served_under_a_strict_policy() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| config.page_engine = Some("ws://127.0.0.1:9001/v1/ws".to_owned()))
        .await;
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "<html"),
        ("/tickwire.js", "text/javascript; charset=utf-8", "export"),
        (
            "/tickwire/client.js",
            "text/javascript; charset=utf-8",
            "class Client",
        ),
        ("/demo/main.js", "text/javascript; charset=utf-8", "import"),
        ("/demo.css", "text/css; charset=utf-8", "{"),
        ("/asyncapi.yaml", "application/yaml", "asyncapi: 3"),
    ] {
        let response = edge.plain(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let fields = response.headers();
        assert_eq!(fields["content-type"], kind);
        assert_eq!(fields["x-content-type-options"], "nosniff");
        let policy = fields["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'; connect-src 'self' ws://127.0.0.1:9001 "));
        assert!(response.text().await.unwrap().contains(part), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_where_its_engine_is() {
    let site = Site::start();
    let file = site.files.path().join("page");
    std::fs::write(&file, "a.b.c\n").unwrap();
    let edge = site
        .edge_with(|config| {
            config.page_engine = Some("ws://127.0.0.1:9001/v1/ws".to_owned());
            config.page_token_file = Some(file);
            config.page_symbols.0 = vec!["A".to_owned()];
        })
        .await;
    let response = edge.plain("/demo.json").send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let settings: serde_json::Value =
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let expected = serde_json::json!({
        "engine": "ws://127.0.0.1:9001/v1/ws", "edge": "", "token": "a.b.c", "symbols": ["A"],
    });
    assert_eq!(settings, expected);
}
