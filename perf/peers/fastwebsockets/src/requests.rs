//! What a client sends, as a stream.

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketRead,
};
use futures_util::{Stream, stream};
use tokio::io::AsyncRead;

/// A message or a control frame of a client.
pub struct Request {
    /// What it is.
    pub opcode: OpCode,
    /// Its payload, unmasked.
    pub payload: Bytes,
}

/// All that comes from a client, until it closes or breaks off.
///
/// Unlike the future of `read_frame`, which loses its place in a frame when it is dropped, waiting
/// for the next item can be broken off and begun again.
pub fn of<S: AsyncRead + Unpin>(
    read: WebSocketRead<S>,
) -> impl Stream<Item = Result<Request, WebSocketError>> {
    stream::try_unfold(FragmentCollectorRead::new(read), async |mut read| {
        // Nothing is answered while reading.
        let mut answer = async |_: Frame| Ok::<(), WebSocketError>(());
        let frame = read.read_frame(&mut answer).await?;
        let request = Request {
            opcode: frame.opcode,
            payload: bytes_of(frame.payload),
        };
        Ok(Some((request, read)))
    })
}

fn bytes_of(payload: Payload) -> Bytes {
    match payload {
        Payload::Bytes(bytes) => bytes.freeze(),
        other => Vec::from(other).into(),
    }
}

/// The frame that answers a control frame, if any.
pub fn answer(request: &Request) -> Option<Frame<'_>> {
    let payload = Payload::Borrowed(&request.payload);
    match request.opcode {
        OpCode::Ping => Some(Frame::pong(payload)),
        OpCode::Close => Some(Frame::close_raw(payload)),
        _ => None,
    }
}
