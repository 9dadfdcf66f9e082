//! The two directions of the signalling stream.

use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::time;
use wzp_relay_core::{
    admission::Refusal,
    limits::{Bucket, Rate},
};
use wzp_socket::clock;
use wzp_wire::signal::{Decoder, Reason, SignalMessage};

use super::End;
use crate::outbox::{Cut, Outgoings, Slow};

/// Taken from the stream at once.
const CHUNK: usize = 16 * 1_024;

/// Messages from the other end, not more of them than it may send.
pub(crate) struct Reader {
    stream: RecvStream,
    decoder: Decoder,
    rate: Rate,
    bucket: Bucket,
}

impl Reader {
    pub(crate) fn new(stream: RecvStream, rate: Rate) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            rate,
            bucket: Bucket::default(),
        }
    }

    /// The other end is a relay like us: its rooms' limits are its own.
    pub(crate) fn trust(&mut self) {
        self.rate = Rate::new(20_000, 200_000);
        self.bucket = Bucket::default();
    }

    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<SignalMessage, End> {
        loop {
            let skipped = self.decoder.skipped();
            let message = self.decoder.next();
            let message = message.map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
            let seen = self.decoder.skipped() - skipped + u64::from(message.is_some());
            self.count(seen)?;
            if let Some(message) = message {
                return Ok(message);
            }
            match self.stream.read_chunk(CHUNK, true).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) => return Err(End::Left),
                Err(ReadError::ConnectionLost(error)) => return Err(error.into()),
                Err(_) => return Err(End::Left),
            }
        }
    }

    fn count(&mut self, messages: u64) -> Result<(), Refusal> {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let taken = self.bucket.take(self.rate, clock::now(), messages);
        taken.map_err(|wait| Refusal::for_now(Reason::MessageRate, "too many messages a second", wait))
    }
}

/// Messages to the other end, out of its queue.
pub(crate) struct Writer {
    stream: SendStream,
    queue: Outgoings,
    /// What is left of the message being written.
    rest: Bytes,
    /// How long nothing of it may be taken.
    patience: Duration,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, queue: Outgoings, patience: Duration) -> Self {
        Self {
            stream,
            queue,
            rest: Bytes::new(),
            patience,
        }
    }

    /// Resolves once the session is to end from elsewhere.
    pub(crate) fn cut(&self) -> impl Future<Output = Cut> + use<> {
        self.queue.cut()
    }

    /// Writes until that fails, or until the other end takes nothing for too long. Cancel-safe: no message is cut in
    /// two.
    pub(crate) async fn run(&mut self) -> End {
        loop {
            if self.rest.is_empty() {
                self.rest = self.queue.next().await;
            }
            match time::timeout(self.patience, self.stream.write(&self.rest)).await {
                Ok(Ok(written)) => self.rest.advance(written),
                Ok(Err(WriteError::ConnectionLost(error))) => return error.into(),
                Ok(Err(_)) => return End::Left,
                Err(_) => return End::SlowReader(Slow::Stalled),
            }
        }
    }

    /// What is queued already, then `frame`, then the end of the stream; returns when the other end has all of it.
    pub(crate) async fn last_word(mut self, frame: Bytes) -> Result<(), WriteError> {
        self.write_rest().await?;
        while let Some(queued) = self.queue.try_next() {
            self.rest = queued;
            self.write_rest().await?;
        }
        self.rest = frame;
        self.write_rest().await?;
        if self.stream.finish().is_ok() {
            // The connection is closed next, whatever this says.
            let _ = self.stream.stopped().await;
        }
        Ok(())
    }

    async fn write_rest(&mut self) -> Result<(), WriteError> {
        while !self.rest.is_empty() {
            let written = self.stream.write(&self.rest).await?;
            self.rest.advance(written);
        }
        Ok(())
    }
}
