//! A WebSocket to an engine: SBE and JSON in, JSON out.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use tickwire_engine::client::Target;
use tickwire_proto::{
    json::DecodeError, reply::Reply, request::Request, sbe::Decoder, session::Disconnect,
    upgrade::Subprotocol,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

/// Largest message taken from an engine, bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// An open connection.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    decoder: Decoder,
}

/// Something that came.
pub enum Heard {
    /// Messages of the protocol, in order.
    Replies(Vec<Reply>),
    /// A ping or a pong, or a message of a later version.
    Life,
}

impl Socket {
    /// Connects and upgrades.
    pub async fn open(target: &Target, token: &str) -> Result<Self, Disconnect> {
        let request = target.to_string().into_client_request();
        let mut request = request.map_err(|_| Disconnect::Io)?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|_| Disconnect::Refused {
            status: 401,
            retry_after_ms: None,
        })?;
        bearer.set_sensitive(true);
        let fields = request.headers_mut();
        fields.insert(header::AUTHORIZATION, bearer);
        let subprotocol = HeaderValue::from_static(Subprotocol::Sbe.as_str());
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        match connect_async_with_config(request, Some(config), true).await {
            Ok((stream, _)) => Ok(Self {
                stream,
                decoder: Decoder::new(),
            }),
            Err(error) => Err(ended(&error)),
        }
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &Request) -> Result<(), Disconnect> {
        let text = request.to_json();
        let sent = self.stream.send(Message::Text(text.into())).await;
        sent.map_err(|error| ended(&error))
    }

    /// Waits for the next message.
    pub async fn hear(&mut self) -> Result<Heard, Disconnect> {
        match self.stream.next().await {
            Some(message) => self.read(message),
            None => Err(Disconnect::Io),
        }
    }

    /// The next message, if it is there.
    pub fn heard_already(&mut self) -> Result<Option<Heard>, Disconnect> {
        match self.stream.next().now_or_never() {
            Some(Some(message)) => self.read(message).map(Some),
            Some(None) => Err(Disconnect::Io),
            None => Ok(None),
        }
    }

    fn read(&mut self, message: Result<Message, Error>) -> Result<Heard, Disconnect> {
        match message.map_err(|error| ended(&error))? {
            Message::Text(text) => match Reply::from_json(&text) {
                Ok(reply) => Ok(Heard::Replies(vec![reply])),
                Err(DecodeError::UnknownKind { .. }) => Ok(Heard::Life),
                Err(error) => {
                    tracing::warn!(%error, "unreadable message of the engine");
                    Ok(Heard::Life)
                }
            },
            Message::Binary(bytes) => {
                let mut replies = Vec::with_capacity(16);
                let read = self.decoder.decode(&bytes, |reply| replies.push(reply));
                read.map_err(|error| {
                    tracing::error!(%error, "the engine's SBE cannot be read");
                    Disconnect::Io
                })?;
                Ok(Heard::Replies(replies))
            }
            Message::Close(frame) => Err(Disconnect::Closed {
                code: frame.map_or(1005, |CloseFrame { code, .. }| code.into()),
            }),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(Heard::Life),
        }
    }
}

fn ended(error: &Error) -> Disconnect {
    let Error::Http(response) = error else {
        tracing::debug!(%error, "connection to the engine");
        return Disconnect::Io;
    };
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    Disconnect::Refused {
        status: response.status().as_u16(),
        retry_after_ms: retry_after_s.map(|seconds| seconds.saturating_mul(1_000)),
    }
}
