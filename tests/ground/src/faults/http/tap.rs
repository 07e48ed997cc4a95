//! A body that passes through while its bytes are counted and, where asked for, kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use super::record::{CAPTURE_LIMIT, Log, Outcome};
use super::{Body, BoxError};

/// Whose body it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Frames pass through one by one, never gathered: watches stay live. The end of an answer's body, or its being dropped
/// before, is noted as the end of the request.
pub(super) struct Tap {
    inner: Body,
    side: Side,
    log: Arc<Log>,
    index: usize,
    capture: bool,
}

impl Tap {
    pub(super) fn new(inner: Body, side: Side, log: Arc<Log>, index: usize, capture: bool) -> Self {
        Self {
            inner,
            side,
            log,
            index,
            capture,
        }
    }

    fn passed(&self, data: &Bytes) {
        self.log.change(self.index, |record| {
            let (count, kept) = match self.side {
                Side::Request => (&mut record.sent, &mut record.request_body),
                Side::Response => (&mut record.received, &mut record.response_body),
            };
            *count += data.len() as u64;
            if self.capture {
                let room = CAPTURE_LIMIT.saturating_sub(kept.len());
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
        });
    }

    fn ended(&self, outcome: Outcome) {
        if self.side == Side::Response {
            self.log.end(self.index, outcome);
        }
    }
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.passed(data);
                }
            }
            Some(Err(_)) => self.ended(Outcome::Broken),
            None => self.ended(Outcome::Answered),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // hyper drops a body that said it has ended without polling it once more.
        self.ended(if self.inner.is_end_stream() {
            Outcome::Answered
        } else {
            Outcome::Broken
        });
    }
}
