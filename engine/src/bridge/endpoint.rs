//! Where Redis is: one server, a list of which one is the master, or a cluster.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisError, TlsCertificates, Value, aio::MultiplexedConnection, cmd,
};

use super::shard::Shard;
use crate::config::Config;

/// How long a server may take to accept.
const ACCEPT_WITHIN: Duration = Duration::from_secs(2);
/// How long until it is known whether it is the right one.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A file that the settings name cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {path}: {source}")]
pub struct FileError {
    /// The config key.
    key: &'static str,
    /// The file.
    path: String,
    /// The system's word.
    source: std::io::Error,
}

/// Why there is no connection to a shard's master.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file can be read no more, or not just now.
    #[error(transparent)]
    File(#[from] FileError),
    /// The server refused, or cannot be reached.
    #[error("{address}: {source}")]
    Server {
        /// Which.
        address: String,
        /// Its word.
        source: RedisError,
    },
    /// The server is a replica, or is becoming a master only now.
    #[error("{address} is no master, but {role}")]
    NotMaster {
        /// Which.
        address: String,
        /// What it says that it is.
        role: String,
    },
    /// The cluster serves no slot of the shard, or not yet.
    #[error("{address}: the cluster has no master for {stream}")]
    NoMaster {
        /// Who was asked.
        address: String,
        /// For what.
        stream: String,
    },
}

/// Why the settings name no Redis.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// An address is no URL of Redis.
    #[error("redis: {0}")]
    Address(#[source] RedisError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The servers of a bridge, and how to talk to them.
#[derive(Debug)]
pub struct Endpoint {
    servers: Vec<ConnectionInfo>,
    is_cluster: bool,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// What the files say, read for each connection, so that they can be changed while the engine runs.
struct Secrets {
    password: Option<String>,
    certificates: Option<Vec<u8>>,
}

impl Endpoint {
    /// What `config` names: `redis`, `redis_cluster`, `redis_password_file`, `redis_ca_file`.
    ///
    /// # Errors
    ///
    /// See [`EndpointError`].
    pub fn new(config: &Config) -> Result<Self, EndpointError> {
        let servers = config.redis.iter().map(|url| {
            let info = url.as_str().into_connection_info()?;
            let settings = info.redis_settings().clone();
            Ok(info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3)))
        });
        let endpoint = Self {
            servers: servers
                .collect::<Result<_, _>>()
                .map_err(EndpointError::Address)?,
            is_cluster: config.redis_cluster,
            password_file: config.redis_password_file.clone(),
            ca_file: config.redis_ca_file.clone(),
        };
        endpoint.secrets()?;
        Ok(endpoint)
    }

    fn secrets(&self) -> Result<Secrets, FileError> {
        let password = read("redis_password_file", self.password_file.as_deref())?;
        Ok(Secrets {
            password: password.map(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                text.trim_end_matches(['\r', '\n']).to_owned()
            }),
            certificates: read("redis_ca_file", self.ca_file.as_deref())?,
        })
    }

    /// A connection to the master that has a shard.
    ///
    /// # Errors
    ///
    /// The last server's [`ConnectError`] where none of them will do.
    pub async fn connect(&self, shard: Shard) -> Result<MultiplexedConnection, ConnectError> {
        let secrets = self.secrets()?;
        let mut last = None;
        for server in &self.servers {
            let attempt = async {
                if self.is_cluster {
                    connect_by_cluster(server, &secrets, shard).await
                } else {
                    connect_to_master(server, &secrets).await
                }
            };
            let connected = tokio::time::timeout(CONNECT_WITHIN, attempt).await;
            match connected.unwrap_or_else(|_| Err(timed_out(server))) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a bridge has a server"))
    }
}

/// The bytes of the file that `key` names, if it names one.
fn read(key: &'static str, path: Option<&Path>) -> Result<Option<Vec<u8>>, FileError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| FileError {
            key,
            path: path.display().to_string(),
            source,
        })
    };
    path.map(read).transpose()
}

async fn connect_by_cluster(
    seed: &ConnectionInfo,
    secrets: &Secrets,
    shard: Shard,
) -> Result<MultiplexedConnection, ConnectError> {
    let address = seed.addr().to_string();
    let failed = |source| ConnectError::Server {
        address: address.clone(),
        source,
    };
    let mut connection = open(seed, secrets).await?;
    let stream = shard.stream();
    let slot: u16 = cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg(&stream)
        .query_async(&mut connection)
        .await
        .map_err(failed)?;
    let slots: Value = cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut connection)
        .await
        .map_err(failed)?;
    let Some((host, port)) = master_of(&slots, slot) else {
        return Err(ConnectError::NoMaster { address, stream });
    };
    // A server that does not know its own name is where it was asked.
    let host = Some(host).filter(|host| !host.is_empty());
    let master = seed
        .clone()
        .set_addr(moved(seed.addr(), host.as_deref(), port));
    connect_to_master(&master, secrets).await
}

async fn connect_to_master(
    server: &ConnectionInfo,
    secrets: &Secrets,
) -> Result<MultiplexedConnection, ConnectError> {
    let address = server.addr().to_string();
    let mut connection = open(server, secrets).await?;
    let role: Value = cmd("ROLE")
        .query_async(&mut connection)
        .await
        .map_err(|source| ConnectError::Server {
            address: address.clone(),
            source,
        })?;
    match role_name(&role) {
        "master" => Ok(connection),
        role => Err(ConnectError::NotMaster {
            address,
            role: role.to_owned(),
        }),
    }
}

async fn open(
    server: &ConnectionInfo,
    secrets: &Secrets,
) -> Result<MultiplexedConnection, ConnectError> {
    let mut info = server.clone();
    if let Some(password) = &secrets.password {
        let settings = info.redis_settings().clone();
        info = info.set_redis_settings(settings.set_password(password));
    }
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ACCEPT_WITHIN))
        // A read that waits for entries has a time of its own.
        .set_response_timeout(None);
    let connect = async {
        let client = match &secrets.certificates {
            Some(certificates) => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(certificates.clone()),
                },
            ),
            None => Client::open(info),
        };
        client?
            .get_multiplexed_async_connection_with_config(&settings)
            .await
    };
    connect.await.map_err(|source| ConnectError::Server {
        address: server.addr().to_string(),
        source,
    })
}

fn timed_out(server: &ConnectionInfo) -> ConnectError {
    ConnectError::Server {
        address: server.addr().to_string(),
        source: std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
    }
}

/// The same way to talk, to another server.
fn moved(seed: &ConnectionAddr, host: Option<&str>, port: u16) -> ConnectionAddr {
    match seed {
        ConnectionAddr::TcpTls {
            host: own,
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: host.unwrap_or(own).to_owned(),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host.unwrap_or(own).to_owned(), port),
        other => other.clone(),
    }
}

/// The master of a slot in the answer to `CLUSTER SLOTS`: `[[from, to, [host, port, …], …], …]`.
fn master_of(slots: &Value, slot: u16) -> Option<(String, u16)> {
    let Value::Array(ranges) = slots else {
        return None;
    };
    ranges.iter().find_map(|range| {
        let Value::Array(range) = range else {
            return None;
        };
        let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = range.as_slice() else {
            return None;
        };
        if !(*from..=*to).contains(&i64::from(slot)) {
            return None;
        }
        let [host, Value::Int(port), ..] = master.as_slice() else {
            return None;
        };
        Some((text(host).to_owned(), u16::try_from(*port).ok()?))
    })
}

/// The first element of the answer to `ROLE`.
fn role_name(role: &Value) -> &str {
    match role {
        Value::Array(parts) => parts.first().map_or("", text),
        _ => "",
    }
}

/// A string of any kind; empty for anything else.
fn text(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::SimpleString(text) => text,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(from: i64, to: i64, host: &str, port: i64) -> Value {
        let master = Value::Array(vec![bulk(host), Value::Int(port), bulk("id")]);
        let replica = Value::Array(vec![bulk("replica"), Value::Int(1)]);
        Value::Array(vec![Value::Int(from), Value::Int(to), master, replica])
    }

    #[test]
    fn a_slots_master_is_found() {
        let slots = Value::Array(vec![
            range(0, 5_460, "10.0.0.1", 7_000),
            range(5_461, 16_383, "10.0.0.2", 7_001),
        ]);
        let master = |slot| master_of(&slots, slot);
        assert_eq!(master(5_460), Some(("10.0.0.1".to_owned(), 7_000)));
        assert_eq!(master(5_461), Some(("10.0.0.2".to_owned(), 7_001)));
        assert_eq!(master_of(&Value::Array(vec![]), 1), None);
        assert_eq!(master_of(&Value::Nil, 1), None);
    }

    #[test]
    fn a_role_is_named() {
        let role = Value::Array(vec![bulk("slave"), bulk("10.0.0.1")]);
        assert_eq!(role_name(&role), "slave");
        assert_eq!(role_name(&Value::Nil), "");
    }
}
