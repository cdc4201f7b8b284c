//! `GET /metrics`: what Prometheus asks for.

use super::local::Answer;
use crate::broker::Broker;
use crate::metrics;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};

/// The page.
pub(super) fn answer(broker: &Broker) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(broker.metrics())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    response
}
