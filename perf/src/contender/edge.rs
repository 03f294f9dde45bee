//! An engine and its edge as one server.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::serve;
use crate::token::Signer;

/// What becomes both.
pub(super) const SHELL: &str = "bash";
/// Takes two command lines behind each other, and first how long the engine's is. The shell becomes
/// the edge, with the engine as its child, so that both are one tree of processes. Whatever ends the
/// edge ends the engine, which does not even begin where that has happened before the kernel knew of
/// it. Unlike the engine, the edge leaves the limit of open files as it finds it.
const BOTH: &str = r#"ulimit -Sn hard
setpriv --pdeathsig KILL bash -c '[[ $PPID = "$0" ]] && exec "$@"' $$ "${@:2:$1}" &
shift $(($1 + 1))
exec "$@""#;
/// File with the edge's token for the engine.
const TOKEN: &str = "token";

/// The shell's arguments. Clients find the edge at `listen` and publishers the engine on the port
/// above, as the dialect has it.
pub(super) fn line<'a>(
    tickwire: &Path,
    args: impl Iterator<Item = &'a String>,
    listen: SocketAddr,
    secret: &Path,
    workdir: &Path,
) -> Vec<String> {
    let port = |above| SocketAddr::new(listen.ip(), listen.port() + above);
    let mut engine = vec![tickwire.display().to_string()];
    engine.extend(serve(port(1), port(2), secret));
    engine.extend(["--floors", "1"].map(String::from));
    engine.extend(args.cloned());
    let edge = [
        beside(tickwire).display().to_string(),
        "--set=per_ip_rate=0".to_owned(),
        "--set=per_ip_connections_max=0".to_owned(),
        "--set=per_ip_sockets_max=0".to_owned(),
        "--set=threads=1".to_owned(),
        format!("--listen={listen}"),
        format!("--admin={}", port(3)),
        format!("--upstream=ws://{}/v1/ws", port(1)),
        format!("--upstream-token-file={}", workdir.join(TOKEN).display()),
        format!("--jwt-hs256-file={}", secret.display()),
    ];
    let shell = ["-c", BOTH, "both"].map(String::from).into_iter();
    let shell = shell.chain([engine.len().to_string()]);
    shell.chain(engine).chain(edge).collect()
}

/// Leaves the edge's token in `workdir`.
pub(super) fn write_token(secret: &Path, workdir: &Path) -> io::Result<()> {
    fs::write(workdir.join(TOKEN), Signer::from_file(secret)?.edge())
}

/// The edge's binary.
pub(super) fn beside(tickwire: &Path) -> PathBuf {
    tickwire.with_file_name("tickwire-edge")
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::process::Tree;

    const POLL: Duration = Duration::from_millis(1);

    /// A program that says its name and arguments, and stays.
    fn program(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let text = "#!/bin/sh\necho \"$0 $*\" >\"$0.said\"\nexec sleep 60\n";
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn said(program: &Path) -> String {
        loop {
            let said = fs::read_to_string(format!("{}.said", program.display()));
            match said {
                Ok(said) if said.ends_with('\n') => return said,
                _ => thread::sleep(POLL),
            }
        }
    }

    fn pair(folder: &Path, tickwire: &Path, args: &[String]) -> Command {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7_000));
        let secret = folder.join("secret");
        let mut shell = Command::new(SHELL);
        shell.args(line(tickwire, args.iter(), listen, &secret, folder));
        shell
    }

    #[test]
    fn engine_and_edge_are_one_tree_that_ends_with_the_edge() {
        let folder = tempfile::tempdir().unwrap();
        let [engine, edge] = ["tickwire", "tickwire-edge"].map(|name| program(folder.path(), name));
        let args = ["--set=x=a b".to_owned()];
        let mut shell = pair(folder.path(), &engine, &args)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (engine, edge) = (said(&engine), said(&edge));
        let sleeping = |pid: &u32| {
            // Of a process that has ended it cannot be read.
            let program = fs::read_link(format!("/proc/{pid}/exe"));
            program.is_ok_and(|program| program.ends_with("sleep"))
        };
        let tree = Tree::of(shell.id()).pids().unwrap();
        while !tree.iter().all(sleeping) {
            thread::sleep(POLL);
        }
        assert_eq!(tree.len(), 2);
        shell.kill().unwrap();
        shell.wait().unwrap();
        while tree.iter().any(sleeping) {
            thread::sleep(POLL);
        }
        assert!(engine.contains("--listen 127.0.0.1:7001"), "{engine}");
        assert!(engine.ends_with("--floors 1 --set=x=a b\n"), "{engine}");
        assert!(edge.contains("--listen=127.0.0.1:7000"), "{edge}");
        let upstream = "--upstream=ws://127.0.0.1:7001/v1/ws";
        assert!(edge.contains(upstream), "{edge}");
    }

    #[test]
    fn without_an_edge_no_engine_stays() {
        let folder = tempfile::tempdir().unwrap();
        let engine = program(folder.path(), "tickwire");
        let began = Instant::now();
        // This lasts until nobody holds the pipe any more.
        let output = pair(folder.path(), &engine, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(127));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_edge_has_a_token_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
        write_token(&secret, folder.path()).unwrap();
        let token = fs::read_to_string(folder.path().join(TOKEN)).unwrap();
        assert_eq!(token.split('.').count(), 3, "{token}");
    }
}
