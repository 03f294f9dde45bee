//! Redis as replica and cluster, and with its doors locked.

use rustix::process::Signal;
use serde_json::json;
use tickwire_engine::config::Config;

use super::{
    faults::outlasts,
    host_at, is_in_the_stream, process, read_to,
    redis_server::{Cluster, RedisServer, free_port},
};
use crate::{harness::TestEngine, ledger::Ledger, resume::run};

fn pair(urls: &[String], change: impl Fn(&mut Config)) -> [TestEngine; 2] {
    [(); 2].map(|()| host_at(urls, &change))
}

#[test]
fn a_replica_takes_over() {
    let mut master = RedisServer::start();
    let replica = master.replica();
    let hosts = pair(&[master.url(), replica.url()], |_| {});
    // What the master had confirmed and the replica had not may be in gaps.
    outlasts(&hosts, |publish| {
        master.kill();
        publish();
        replica.say(&["REPLICAOF", "NO", "ONE"]);
        publish();
    });
}

#[test]
fn what_a_replica_never_got_is_a_gap_for_whoever_had_not_read_it() {
    let mut master = RedisServer::start();
    let replica = master.replica();
    let urls = [master.url(), replica.url()];
    let first = host_at(&urls, |_| {});
    let serve = process(&urls.join(","));
    let mut publisher = first.publisher();
    let mut client = serve.connect("/v1/ws", None);
    client.subscribe(json!({"symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=10));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 10);
    serve.process.signal(Signal::STOP);
    // From here on it gets nothing any more.
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    // The first of these answers the read that the stopped host waits for.
    for from in (11..=50).step_by(10) {
        publisher.publish(&run("A", 1, from..=from + 9));
        is_in_the_stream(&first);
    }
    master.kill();
    serve.process.signal(Signal::CONT);
    publisher.publish(&run("A", 1, 51..=60));
    read_to(&mut client, &mut ledger, "A", 60);
    assert_eq!(ledger.delivered + ledger.gapped, 60);
    assert!(ledger.gapped >= 30, "{}", ledger.gapped);
    assert_eq!(ledger.reasons, ["bridge"]);
}

#[test]
fn a_cluster_spreads_the_shards_and_outlasts_one_of_its_masters() {
    let mut cluster = Cluster::start();
    let urls: Vec<String> = cluster.urls().collect();
    let hosts = pair(&urls, |config| {
        config.redis_cluster = true;
        config.redis_shards = 6;
    });
    outlasts(&hosts, |publish| {
        cluster.kill_the_master_of("tickwire:{0}");
        publish();
    });
}

#[test]
fn tls_and_a_user_with_few_rights_are_enough() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let certificate = file("certificate", certified.cert.pem());
    let key = file("key", certified.signing_key.serialize_pem());
    let password = file("password", "secret\n".to_owned());
    let port = free_port().to_string();
    let [shown, hidden] = [&certificate, &key].map(|path| path.display().to_string());
    let rights = "bridge on >secret ~tickwire:* \
                  +@read +@write +@connection +@transaction +role +time";
    let mut args = vec!["--tls-port", &port, "--tls-auth-clients", "no"];
    args.extend(["--tls-cert-file", &shown, "--tls-key-file", &hidden]);
    args.extend(["--tls-ca-cert-file", &shown, "--user"]);
    args.extend(rights.split_whitespace());
    let _redis = RedisServer::with(&args);
    let url = format!("rediss://bridge@localhost:{port}");
    let [first, second] = pair(&[url], |config| {
        config.redis_ca_file = Some(certificate.clone());
        config.redis_password_file = Some(password.clone());
    });
    let mut client = second.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    first.publisher().publish(&run("A", 1, 1..=3));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 3);
    assert_eq!((ledger.delivered, ledger.gapped), (3, 0));
}
