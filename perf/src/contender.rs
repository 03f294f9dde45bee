//! The servers of a comparison: tickwire in its forms, and the peers in theirs.

mod edge;
mod form;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dialect::{self, Dialect, Framing},
    peer::{Peer, Variant},
    redis::Redis,
    scenario::Scenario,
    server::{Program, Server, ServerError, free_address},
};
use form::{FORMS, Form};

/// A server that can be started.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name in results.
    pub name: String,
    /// The same for people.
    pub title: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tickwire {
        binary: PathBuf,
        form: Form,
        args: Vec<String>,
    },
    /// With an edge in front of it.
    Edge {
        binary: PathBuf,
        args: Vec<String>,
    },
    Peer {
        peer: Peer,
        variant: Variant,
    },
}

/// Who stands a storm beside tickwire: what is to be replaced, and who comes closest.
const IN_STORMS: [&str; 3] = ["nestjs-socketio", "tokio-tungstenite-4k", "uwebsockets"];

/// tickwire's form that is not confined.
const IN_ALL_CORES: &str = "tickwire-default";
/// The peer whose hosts share ticks through a Redis, at the port of its option `--redis-port`.
const SHARES_TICKS: &str = "nestjs-socketio";

/// Where servers are started.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Scratch; each server gets a folder of its own in it.
    pub folder: PathBuf,
    /// File with the HS256 secret.
    pub secret: PathBuf,
    /// The core of confined servers.
    pub server_core: usize,
}

/// tickwire in all its forms. `args` are added to its command line.
pub fn tickwire(binary: &Path, args: &[String]) -> Vec<Contender> {
    let forms = FORMS.iter().map(|&form| Contender {
        name: form.name.to_owned(),
        title: form.title.to_owned(),
        kind: Kind::Tickwire {
            binary: binary.to_owned(),
            form,
            args: args.to_vec(),
        },
    });
    forms.collect()
}

/// tickwire with an edge, whose binary lies beside its own. `args` are added to the engine's command
/// line.
pub fn edge(binary: &Path, args: &[String]) -> Contender {
    Contender {
        name: "tickwire-edge".to_owned(),
        title: "tickwire, edge (SSE)".to_owned(),
        kind: Kind::Edge {
            binary: binary.to_owned(),
            args: args.to_vec(),
        },
    }
}

/// The variants of `peers`.
pub fn of_peers(peers: &[Peer]) -> Vec<Contender> {
    let variants = peers.iter().flat_map(|peer| {
        peer.manifest.variants.iter().map(|variant| Contender {
            name: variant.name.clone(),
            title: variant
                .title
                .as_ref()
                .unwrap_or(&peer.manifest.title)
                .clone(),
            kind: Kind::Peer {
                peer: peer.clone(),
                variant: variant.clone(),
            },
        })
    });
    variants.collect()
}

impl Contender {
    /// Whether `scenario` says anything about it.
    pub fn plays(&self, scenario: Scenario) -> bool {
        match &self.kind {
            Kind::Edge { .. } => scenario == Scenario::Sse,
            Kind::Tickwire { form, .. } if form.sends_per_turn.is_some() => {
                matches!(scenario, Scenario::Hot | Scenario::RampWatchlist)
            }
            Kind::Tickwire { form, .. } => match scenario {
                Scenario::Latency => form.confined && form.max_delay_ms.is_none(),
                Scenario::Scale | Scenario::Slow | Scenario::Churn | Scenario::Soak => {
                    form.name == FORMS[0].name
                }
                Scenario::Sse => false,
                Scenario::Bridge => form.name == IN_ALL_CORES,
                // Everything on one core, and the door on another.
                Scenario::Storm | Scenario::Hosts => {
                    ["tickwire", IN_ALL_CORES].contains(&form.name)
                }
                // What a budget costs in latency is its own choice; the limit is the same.
                Scenario::RampHot | Scenario::RampWatchlist => {
                    form.idle.is_none() && form.max_delay_ms.is_none()
                }
                _ => form.idle.is_none(),
            },
            Kind::Peer { .. } => match scenario {
                // Nobody else declares what a slow client missed.
                Scenario::Scale
                | Scenario::Slow
                | Scenario::Churn
                | Scenario::Soak
                | Scenario::Bridge => false,
                Scenario::Hosts => self.name == SHARES_TICKS,
                Scenario::Storm => IN_STORMS.contains(&&*self.name),
                // Event streams are compared with each other alone.
                _ => self.streams_events() == (scenario == Scenario::Sse),
            },
        }
    }

    /// Whether it belongs to a first look: tickwire, and who comes closest to it.
    pub fn is_quick(&self) -> bool {
        let closest = ["uwebsockets", "uwebsockets-after", "tokio-tungstenite-4k"];
        let batched = self.name.starts_with("tickwire-batch");
        (self.is_tickwire() && !batched)
            || closest.contains(&&*self.name)
            || self.name.starts_with("kernel-")
    }

    /// Whether its ramps do: those that targets are about.
    pub fn ramps_quickly(&self) -> bool {
        self.is_quick() && (self.name == FORMS[0].name || !self.is_tickwire())
    }

    /// Whether it is tickwire, and has no core of its own.
    pub fn has_all_cores(&self) -> bool {
        matches!(&self.kind, Kind::Tickwire { form, .. } if !form.confined)
    }

    fn is_tickwire(&self) -> bool {
        matches!(self.kind, Kind::Tickwire { .. })
    }

    fn streams_events(&self) -> bool {
        let dialect = self.dialect();
        dialect.is_ok_and(|dialect| dialect.framing() == Framing::EventStream)
    }

    /// The folder of the peer that it is a variant of.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.kind {
            Kind::Peer { peer, .. } => Some(peer),
            Kind::Tickwire { .. } | Kind::Edge { .. } => None,
        }
    }

    /// Programs and versions.
    pub fn versions(&self) -> Vec<String> {
        match &self.kind {
            Kind::Peer { peer, .. } => peer.versions(),
            Kind::Tickwire { binary, .. } => vec![version(binary)],
            Kind::Edge { binary, .. } => vec![version(binary), version(&edge::beside(binary))],
        }
    }

    /// Who gets which core.
    pub fn layout(&self, server_core: usize, generator_core: usize) -> String {
        match &self.kind {
            Kind::Tickwire { form, .. } if !form.confined => {
                format!("server on all cores, generator on core {generator_core}")
            }
            _ => format!("server on core {server_core}, generator on core {generator_core}"),
        }
    }

    /// How it is talked to.
    pub fn dialect(&self) -> io::Result<Box<dyn Dialect>> {
        let name = match &self.kind {
            Kind::Tickwire { form, .. } => {
                return Ok(dialect::tickwire(form.sbe, form.max_delay_ms));
            }
            Kind::Edge { .. } => "tickwire-sse",
            Kind::Peer { peer, variant } => {
                variant.dialect.as_ref().unwrap_or(&peer.manifest.dialect)
            }
        };
        dialect::named(name)
            .ok_or_else(|| io::Error::other(format!("{}: unknown dialect {name}", self.name)))
    }

    /// Starts it. `extra` is added to tickwire's command line, and to no other.
    pub fn start(&self, stage: &Stage, extra: &[String]) -> Result<(Server, Program), ServerError> {
        let failed = |error| ServerError::Io {
            name: self.name.clone(),
            error,
        };
        let workdir = stage.folder.join(&self.name);
        match fs::remove_dir_all(&workdir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::create_dir_all(&workdir).map_err(failed)?;
        if let Kind::Edge { .. } = self.kind {
            edge::write_token(&stage.secret, &workdir).map_err(failed)?;
        }
        let program = self.program(stage, &workdir, extra).map_err(failed)?;
        Ok((program.start(&stage.folder)?, program))
    }

    /// Starts it as one of several hosts that share ticks through `redis`, over so many `shards` where
    /// it has any.
    pub fn start_host(
        &self,
        stage: &Stage,
        redis: &Redis,
        shards: u32,
    ) -> Result<(Server, Program), ServerError> {
        let Kind::Peer { peer, variant } = &self.kind else {
            let mut extra = vec![
                format!("--redis={}", redis.urls()),
                format!("--redis-shards={shards}"),
            ];
            extra.extend(
                redis
                    .is_cluster()
                    .then(|| "--set=redis_cluster=true".to_owned()),
            );
            return self.start(stage, &extra);
        };
        let mut variant = variant.clone();
        variant.args.push(format!("--redis-port={}", redis.port()));
        let host = Self {
            kind: Kind::Peer {
                peer: peer.clone(),
                variant,
            },
            ..self.clone()
        };
        host.start(stage, &[])
    }

    fn program(&self, stage: &Stage, workdir: &Path, extra: &[String]) -> io::Result<Program> {
        let listen = free_address()?;
        let on_core = Some(vec![stage.server_core]);
        let (path, args, cores) = match &self.kind {
            Kind::Tickwire { binary, form, args } => {
                let admin = std::net::SocketAddr::new(listen.ip(), listen.port() + 1);
                let mut line = serve(listen, admin, &stage.secret);
                let floors_given = extra
                    .iter()
                    .chain(args)
                    .any(|arg| arg.starts_with("--floors"));
                if form.confined && !floors_given {
                    line.extend(["--floors", "1"].map(String::from));
                }
                line.extend(form.idle.map(|idle| format!("--idle={idle}")));
                let batch = form.sends_per_turn;
                line.extend(batch.map(|sends| format!("--set=sends_per_turn={sends}")));
                line.extend(args.iter().chain(extra).cloned());
                (binary.clone(), line, on_core.filter(|_| form.confined))
            }
            Kind::Edge { binary, args } => {
                let args = args.iter().chain(extra);
                let line = edge::line(binary, args, listen, &stage.secret, workdir);
                (edge::SHELL.into(), line, on_core)
            }
            Kind::Peer { peer, variant } => {
                let mut line = vec![
                    "--port".to_owned(),
                    listen.port().to_string(),
                    "--secret".to_owned(),
                    stage.secret.display().to_string(),
                    "--workdir".to_owned(),
                    workdir.display().to_string(),
                ];
                line.extend(variant.args.iter().cloned());
                (peer.start(), line, on_core)
            }
        };
        Ok(Program {
            name: self.name.clone(),
            path,
            args,
            listen,
            cores,
        })
    }
}

/// tickwire's command line: its defaults, but for the limits per IP, as all connections come from
/// one.
fn serve(listen: std::net::SocketAddr, admin: std::net::SocketAddr, secret: &Path) -> Vec<String> {
    let unlimited = ["--set=per_ip_rate=0", "--set=per_ip_connections_max=0"];
    let mut line = vec!["serve".to_owned()];
    line.extend(unlimited.map(String::from));
    line.extend(["--listen".to_owned(), listen.to_string()]);
    line.extend(["--admin".to_owned(), admin.to_string()]);
    line.extend(["--jwt-hs256-file".to_owned(), secret.display().to_string()]);
    line
}

/// What a binary of tickwire's says of itself.
fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("{}: {error}", binary.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage {
            folder: PathBuf::from("/x"),
            secret: PathBuf::from("/x/secret"),
            server_core: 0,
        }
    }

    fn line(contender: &Contender, extra: &[&str]) -> (String, Option<Vec<usize>>) {
        let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
        let program = contender
            .program(&stage(), Path::new("/w"), &extra)
            .unwrap();
        (program.args.join(" "), program.cores)
    }

    #[test]
    fn tickwire_has_one_floor_on_the_servers_core_unless_it_is_left_alone() {
        let forms = tickwire(Path::new("tickwire"), &["--idle=spin".to_owned()]);
        let (args, cores) = line(&forms[0], &[]);
        assert!(
            args.contains("--floors 1") && args.ends_with("--idle=spin"),
            "{args}"
        );
        assert_eq!(cores, Some(vec![0]));
        let (args, cores) = line(&forms[4], &[]);
        assert!(!args.contains("--floors"), "{args}");
        assert_eq!(cores, None);
        let (args, _) = line(&forms[0], &["--floors=4"]);
        assert_eq!(args.matches("--floors").count(), 1, "{args}");
    }

    #[test]
    fn scenarios_are_played_by_whom_they_say_something_about() {
        let forms = tickwire(Path::new("tickwire"), &[]);
        let playing = |scenario| {
            let playing = forms.iter().filter(|form| form.plays(scenario));
            playing.map(|form| &*form.name).collect::<Vec<_>>()
        };
        assert_eq!(playing(Scenario::Scale), ["tickwire"]);
        assert_eq!(playing(Scenario::Hot).len(), 7);
        let latency = [
            "tickwire",
            "tickwire-sbe",
            "tickwire-spin",
            "tickwire-hybrid",
        ];
        assert_eq!(playing(Scenario::Latency), latency);
        let ramp = ["tickwire", "tickwire-sbe", "tickwire-default"];
        assert_eq!(playing(Scenario::RampHot), ramp);
        let batches = ["tickwire-batch16", "tickwire-batch256"];
        assert_eq!(playing(Scenario::RampWatchlist)[3..], batches);
        assert!(forms.iter().filter(|form| form.is_quick()).count() == forms.len() - 2);
        assert!(forms[0].ramps_quickly() && !forms[1].ramps_quickly());
    }

    #[test]
    fn event_streams_have_a_scenario_of_their_own() {
        let manifest = "title = \"p\"\ndialect = \"nchan\"\nstart = \"go\"\n\
                        [[variant]]\nname = \"a\"\n\
                        [[variant]]\nname = \"b\"\ndialect = \"nchan-sse\"\n";
        let peer = Peer {
            folder: PathBuf::from("/p"),
            manifest: toml::from_str(manifest).unwrap(),
        };
        let mut contenders = tickwire(Path::new("tickwire"), &[]);
        contenders.push(edge(Path::new("tickwire"), &[]));
        contenders.extend(of_peers(&[peer]));
        let playing = contenders.iter().filter(|one| one.plays(Scenario::Sse));
        let playing: Vec<&str> = playing.map(|one| &*one.name).collect();
        assert_eq!(playing, ["tickwire-edge", "b"]);
        let scenarios = Scenario::all(false).into_iter().map(|play| play.0);
        for scenario in scenarios.filter(|&scenario| scenario != Scenario::Sse) {
            let of_streams = contenders.iter().filter(|one| one.streams_events());
            for contender in of_streams {
                assert!(
                    !contender.plays(scenario),
                    "{} {scenario:?}",
                    contender.name
                );
            }
        }
    }

    #[test]
    fn a_peers_variants_are_servers_of_their_own() {
        let manifest = toml::from_str(
            "title = \"p\"\ndialect = \"nats\"\nstart = \"go\"\n[[variant]]\nname = \"a\"\n\
             [[variant]]\nname = \"b\"\nargs = [\"-x\"]\ntitle = \"q\"\ndialect = \"nchan-sse\"\n",
        );
        let peer = Peer {
            folder: PathBuf::from("/p"),
            manifest: manifest.unwrap(),
        };
        let contenders = of_peers(&[peer]);
        assert_eq!((&*contenders[0].title, &*contenders[1].title), ("p", "q"));
        assert!(!contenders[0].is_quick() && contenders[0].plays(Scenario::Idle));
        assert_eq!(contenders[0].dialect().unwrap().name(), "nats");
        assert_eq!(contenders[1].dialect().unwrap().name(), "nchan-sse");
        let (args, cores) = line(&contenders[1], &["--only-for-tickwire"]);
        assert!(
            args.ends_with("--secret /x/secret --workdir /w -x"),
            "{args}"
        );
        assert_eq!(cores, Some(vec![0]));
    }
}
