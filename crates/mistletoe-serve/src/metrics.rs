//! What happened, as numbers: for Prometheus, and for the status page.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

/// Upper bounds of the histogram of times, in seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Number of failures that the status page shows.
const FAILURES: usize = 20;

/// The numbers of a service. They outlast a reload, for routes that keep their name.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    routes: Mutex<BTreeMap<Arc<str>, Arc<RouteMetrics>>>,
    /// Requests that no route takes.
    pub(crate) unrouted: Arc<RouteMetrics>,
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
    pub(crate) connections: AtomicU64,
    latest: Mutex<VecDeque<Latest>>,
}

/// The numbers of a route.
#[derive(Debug, Default)]
pub(crate) struct RouteMetrics {
    statuses: Mutex<BTreeMap<u16, u64>>,
    failures: Mutex<BTreeMap<String, u64>>,
    seconds: Histogram,
    fuel: AtomicU64,
    memory_peak: AtomicU64,
    response_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One more than bounds: the last one is for all that is longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// A failure, for the status page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latest {
    pub(crate) time: String,
    pub(crate) route: String,
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// The state of a route now.
#[derive(Debug, Serialize)]
pub(crate) struct RouteStatus {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) handler: HandlerStatus,
    pub(crate) middleware: Vec<MiddlewareStatus>,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    #[serde(skip)]
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// The state of middleware now.
#[derive(Debug, Serialize)]
pub(crate) struct MiddlewareStatus {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) handler: HandlerStatus,
}

/// The state of what responds to requests now.
#[derive(Debug, Serialize)]
pub(crate) struct HandlerStatus {
    /// Nothing without a module.
    pub(crate) engine: Option<&'static str>,
    /// The file of the module, or the upstream.
    pub(crate) target: Option<String>,
    /// Nothing where their number has no limit.
    pub(crate) instances: Option<Instances>,
    pub(crate) compile_seconds: f64,
}

/// Instances of a guest now, or requests to an upstream.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Instances {
    pub(crate) in_use: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
    pub(crate) limit: usize,
}

/// What the status page shows.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    uptime_seconds: f64,
    connections: u64,
    reloads: u64,
    failed_reloads: u64,
    routes: &'a [RouteStatus],
    latest_failures: Vec<Latest>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            routes: Mutex::default(),
            unrouted: Arc::default(),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            latest: Mutex::default(),
        }
    }

    /// Returns the numbers of the route with this name.
    pub(crate) fn route(&self, name: &Arc<str>) -> Arc<RouteMetrics> {
        lock(&self.routes).entry(name.clone()).or_default().clone()
    }

    /// Forgets all routes but these.
    pub(crate) fn retain(&self, is_route: impl Fn(&str) -> bool) {
        lock(&self.routes).retain(|name, _| is_route(name));
    }

    pub(crate) fn failed(&self, latest: Latest) {
        let mut all = lock(&self.latest);
        if all.len() == FAILURES {
            all.pop_back();
        }
        all.push_front(latest);
    }

    /// Returns the status as JSON.
    pub(crate) fn status(&self, routes: &[RouteStatus]) -> String {
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            connections: self.connections.load(Ordering::Relaxed),
            reloads: self.reloads.load(Ordering::Relaxed),
            failed_reloads: self.failed_reloads.load(Ordering::Relaxed),
            routes,
            latest_failures: lock(&self.latest).iter().cloned().collect(),
        };
        serde_json::to_string(&status).unwrap_or_default()
    }

    /// Returns all numbers in Prometheus' text format, version 0.0.4.
    pub(crate) fn prometheus(&self, routes: &[RouteStatus], lost_log_lines: u64, lost_spans: Option<u64>) -> String {
        let mut text = Exposition::default();
        let named = || routes.iter().map(|route| (&*route.name, &route.metrics)).chain([("", &self.unrouted)]);

        text.family("mistletoe_requests_total", "counter", "Requests by route and status; 499 is a client that left.");
        for (name, metrics) in named() {
            for (status, count) in &*lock(&metrics.statuses) {
                text.sample("", &[("route", name), ("status", &status.to_string())], count);
            }
        }
        text.family("mistletoe_failures_total", "counter", "Requests without a response of their guest, by kind.");
        for (name, metrics) in named() {
            for (kind, count) in &*lock(&metrics.failures) {
                text.sample("", &[("route", name), ("kind", kind)], count);
            }
        }
        text.family("mistletoe_request_seconds", "histogram", "Time from a request's head to the end of its response.");
        for (name, metrics) in named() {
            metrics.seconds.write(&mut text, name);
        }
        text.family("mistletoe_response_bytes_total", "counter", "Bytes of response bodies.");
        for (name, metrics) in named() {
            text.sample("", &[("route", name)], metrics.response_bytes.load(Ordering::Relaxed));
        }
        text.family("mistletoe_fuel_total", "counter", "Fuel that guests used, where it is counted.");
        for route in routes {
            text.sample("", &[("route", &route.name)], route.metrics.fuel.load(Ordering::Relaxed));
        }
        text.family("mistletoe_memory_peak_bytes", "gauge", "Largest memory of an instance.");
        for route in routes {
            text.sample("", &[("route", &route.name)], route.metrics.memory_peak.load(Ordering::Relaxed));
        }
        type Gauge = (&'static str, &'static str, fn(&Instances) -> usize);
        let gauges: [Gauge; 4] = [
            ("mistletoe_instances_in_use", "Guests that run.", |instances| instances.in_use),
            ("mistletoe_instances_idle", "Instances that are kept for further requests.", |instances| instances.idle),
            ("mistletoe_instances_waiting", "Requests that wait for an instance.", |instances| instances.waiting),
            ("mistletoe_instances_limit", "Maximum number of guests that run at once.", |instances| instances.limit),
        ];
        for (family, help, value) in gauges {
            text.family(family, "gauge", help);
            text.handlers(routes, |handler| handler.instances.as_ref().map(value));
        }
        text.family("mistletoe_compile_seconds", "gauge", "Time that the module of a route took to compile.");
        text.handlers(routes, |handler| handler.engine.map(|_| handler.compile_seconds));
        text.family("mistletoe_reloads_total", "counter", "Reloads by result.");
        text.sample("", &[("result", "ok")], self.reloads.load(Ordering::Relaxed));
        text.sample("", &[("result", "failed")], self.failed_reloads.load(Ordering::Relaxed));
        text.family("mistletoe_connections", "gauge", "Open connections.");
        text.sample("", &[], self.connections.load(Ordering::Relaxed));
        text.family("mistletoe_log_lines_lost_total", "counter", "Lines of the log that could not be written.");
        text.sample("", &[], lost_log_lines);
        if let Some(lost) = lost_spans {
            text.family("mistletoe_spans_lost_total", "counter", "Spans that the collector did not get.");
            text.sample("", &[], lost);
        }
        text.text
    }
}

impl RouteMetrics {
    /// Counts a request that has ended.
    pub(crate) fn request(&self, status: u16, time: Duration, bytes: u64) {
        *lock(&self.statuses).entry(status).or_default() += 1;
        self.response_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.seconds.observe(time);
    }

    pub(crate) fn failure(&self, kind: Cow<'static, str>) {
        *lock(&self.failures).entry(kind.into_owned()).or_default() += 1;
    }

    pub(crate) fn fuel(&self, units: u64) {
        self.fuel.fetch_add(units, Ordering::Relaxed);
    }

    /// Notes the size of an instance's memory.
    pub(crate) fn memory(&self, bytes: u64) {
        // Seldom more than before: a read leaves the number in the caches of all processors.
        if bytes > self.memory_peak.load(Ordering::Relaxed) {
            self.memory_peak.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// Returns the numbers of requests and of failures.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (lock(&self.statuses).values().sum(), lock(&self.failures).values().sum())
    }
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Exposition, route: &str) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            text.sample("_bucket", &[("route", route), ("le", &bound)], count);
        }
        let seconds = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        text.sample("_sum", &[("route", route)], seconds);
        text.sample("_count", &[("route", route)], count);
    }
}

/// A text in Prometheus' format.
#[derive(Default)]
struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let family = self.family;
        self.line(format_args!("{family}{suffix}"));
        for (i, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.line(format_args!("{}{name}=\"{value}\"", if i == 0 { "{" } else { "," }));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}\n"));
    }

    /// A sample for each handler that has a value, and for each middleware.
    fn handlers<V: Display>(&mut self, routes: &[RouteStatus], value: impl Fn(&HandlerStatus) -> Option<V>) {
        for route in routes {
            if let Some(value) = value(&route.handler) {
                self.sample("", &[("route", &route.name)], value);
            }
            for MiddlewareStatus { name, handler } in &route.middleware {
                if let Some(value) = value(handler) {
                    self.sample("", &[("route", &route.name), ("middleware", name)], value);
                }
            }
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // A `String` takes every text.
        let _ = self.text.write_fmt(line);
    }
}

/// Returns the time now, for the log and the status page.
pub(crate) fn now() -> impl Display {
    humantime::format_rfc3339_millis(SystemTime::now())
}

/// Locks a mutex, also a poisoned one: all data here is consistent at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_text_format() {
        let metrics = Metrics::new();
        let name: Arc<str> = "a\"b".into();
        let route = metrics.route(&name);
        route.request(200, Duration::from_millis(3), 10);
        route.request(200, Duration::from_secs(60), 5);
        route.failure("busy".into());
        let instances = Instances { in_use: 1, idle: 4, waiting: 2, limit: 3 };
        let handler = || HandlerStatus {
            engine: Some("wasmi"),
            target: Some("m.wasm".to_owned()),
            instances: Some(instances),
            compile_seconds: 0.5,
        };
        let status = RouteStatus {
            name: name.to_string(),
            kind: "package",
            handler: handler(),
            middleware: vec![MiddlewareStatus { name: "auth".to_owned(), handler: handler() }],
            requests: 2,
            failures: 1,
            metrics: route,
        };
        let text = metrics.prometheus(&[status], 7, Some(8));
        for line in [
            "# TYPE mistletoe_requests_total counter",
            r#"mistletoe_requests_total{route="a\"b",status="200"} 2"#,
            r#"mistletoe_failures_total{route="a\"b",kind="busy"} 1"#,
            r#"mistletoe_request_seconds_bucket{route="a\"b",le="0.0025"} 0"#,
            r#"mistletoe_request_seconds_bucket{route="a\"b",le="0.005"} 1"#,
            r#"mistletoe_request_seconds_bucket{route="a\"b",le="10"} 1"#,
            r#"mistletoe_request_seconds_bucket{route="a\"b",le="+Inf"} 2"#,
            r#"mistletoe_request_seconds_sum{route="a\"b"} 60.003"#,
            r#"mistletoe_request_seconds_count{route="a\"b"} 2"#,
            r#"mistletoe_response_bytes_total{route="a\"b"} 15"#,
            r#"mistletoe_instances_idle{route="a\"b"} 4"#,
            r#"mistletoe_instances_waiting{route="a\"b"} 2"#,
            r#"mistletoe_instances_limit{route="a\"b",middleware="auth"} 3"#,
            "mistletoe_log_lines_lost_total 7",
            "mistletoe_spans_lost_total 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert_eq!(text.matches("# TYPE mistletoe_request_seconds ").count(), 1);
    }
}
