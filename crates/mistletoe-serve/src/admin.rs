//! The administration's listener: health, metrics, and a status page.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::service::Service;

/// The status page. It reads `status.json`, and nothing else.
const PAGE: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/status.js");
const STYLE: &str = include_str!("page/status.css");

/// Responds to a request of an administrator.
pub(crate) fn respond<B>(service: &Service, ready: bool, request: &Request<B>) -> Response<Body> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", PAGE.into()),
        "/status.js" => response(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT.into()),
        "/status.css" => response(StatusCode::OK, "text/css; charset=utf-8", STYLE.into()),
        "/status.json" => response(StatusCode::OK, "application/json", service.status().into()),
        "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", service.metrics().into()),
        "/healthz" => response(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" if ready => response(StatusCode::OK, TEXT, "ready\n".into()),
        "/readyz" => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".into()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "Not Found\n".into()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; base-uri 'none'; \
                  form-action 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}
