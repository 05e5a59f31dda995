//! A registry in memory, or a proxy in front of a real one, which does to its responses what a test asks for.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What happens to a response.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is closed before it.
    Close,
    /// It is not HTTP.
    Garbage,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// The body is announced with another length, and the connection is closed after it.
    Length(u64),
    /// The body is another one.
    Body(Vec<u8>),
    /// The body has no end, and no announced length.
    Endless,
    /// The body comes in chunks, and after the last one come trailers without end.
    Trailers,
    /// Nothing comes after the head.
    Stall,
    /// Each byte of the body comes after a pause.
    Drip(Duration),
    /// The head has no end.
    EndlessHead,
    /// Another response: status, header fields, body.
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Parts are not sent: the whole body is.
    NoRange,
}

type Faults = dyn Fn(&Request, usize) -> Option<Fault> + Send + Sync;

/// A server on a free port, which ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// A connection, perhaps with encryption.
pub(crate) trait Stream: Read + Write {
    /// Says that nothing more comes.
    fn finish(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

struct Shared {
    origin: Origin,
    faults: Box<Faults>,
    requests: Mutex<Vec<Request>>,
    sent: AtomicU64,
}

/// Media types and bytes by path.
pub(crate) type Content = HashMap<String, (String, Vec<u8>)>;

/// Where responses come from.
pub(crate) enum Origin {
    /// Content by path: media type and bytes.
    Memory(Content),
    /// Another server.
    Upstream(SocketAddr),
}

/// A response before any fault.
struct Response {
    head: String,
    body: Vec<u8>,
}

impl Server {
    /// Starts a server. `faults` gets each request and the number of earlier ones of its path.
    pub(crate) fn start(
        origin: Origin,
        faults: impl Fn(&Request, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self::with(origin, faults, Ok)
    }

    /// Starts a server, each of whose connections becomes another stream first.
    pub(crate) fn with<S: Stream>(
        origin: Origin,
        faults: impl Fn(&Request, usize) -> Option<Fault> + Send + Sync + 'static,
        accept: impl Fn(TcpStream) -> io::Result<S> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (requests, sent) = (Mutex::default(), AtomicU64::new(0));
        let shared = Arc::new(Shared { origin, faults: Box::new(faults), requests, sent });
        let server = Self { address, shared: shared.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, accept, Ok(stream)) = (shared.clone(), accept.clone(), stream) else { break };
                // A client that closes the connection is not this server's problem.
                thread::spawn(move || shared.respond(&mut accept(stream)?));
            }
        });
        server
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic").clone()
    }

    /// Returns the number of bytes of bodies that were sent, or are on their way.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn respond(&self, stream: &mut impl Stream) -> io::Result<()> {
        // One request: what the reader holds beyond it is nothing.
        let Some(request) = read(&mut BufReader::new(&mut *stream))? else { return Ok(()) };
        let earlier = {
            let mut requests = self.requests.lock().expect("no panic");
            let earlier = requests.iter().filter(|earlier| earlier.path == request.path).count();
            requests.push(request.clone());
            earlier
        };
        let fault = (self.faults)(&request, earlier);
        let ranges = !matches!(fault, Some(Fault::NoRange));
        let response = match &self.origin {
            Origin::Memory(content) => from_memory(content, &request, ranges),
            Origin::Upstream(address) => from_upstream(*address, &request, ranges)?,
        };
        self.send(stream, &request, response, fault)
    }

    fn send(
        &self,
        stream: &mut impl Stream,
        request: &Request,
        response: Response,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let Response { mut head, mut body } = response;
        let mut length = Some(body.len() as u64);
        let mut end = body.len();
        match &fault {
            Some(Fault::Close) => return Ok(()),
            Some(Fault::Garbage) => return stream.write_all(b"SSH-2.0-x\r\n\r\n"),
            Some(Fault::EndlessHead) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Filler: ")?;
                return self.endless(stream);
            }
            Some(Fault::Trailers) => {
                let length = body.len();
                stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n").as_bytes())?;
                self.write(stream, &body)?;
                stream.write_all(b"\r\n0\r\n")?;
                let trailers = b"X-Filler: xxxxxxxxxxxxxxxxxxxx\r\n".repeat(128);
                loop {
                    self.write(stream, &trailers)?;
                }
            }
            Some(Fault::Cut(bytes)) => end = end.min(*bytes),
            Some(Fault::Length(announced)) => length = Some(*announced),
            Some(Fault::Body(other)) => {
                body.clone_from(other);
                (length, end) = (Some(body.len() as u64), body.len());
            }
            Some(Fault::Endless) => length = None,
            Some(Fault::Reply(status, fields, other)) => {
                let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                head = format!("HTTP/1.1 {status} X\r\n{fields}");
                body.clone_from(other);
                (length, end) = (Some(body.len() as u64), body.len());
            }
            Some(Fault::Stall | Fault::Drip(_) | Fault::NoRange) | None => {}
        }
        let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        stream.write_all(format!("{head}{length}Connection: close\r\n\r\n").as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(Fault::Endless) => self.endless(stream),
            // Until the client goes.
            Some(Fault::Stall) => stream.read(&mut [0]).map(drop),
            Some(Fault::Drip(pause)) => body.iter().try_for_each(|byte| {
                self.write(stream, &[*byte])?;
                thread::sleep(pause);
                Ok(())
            }),
            _ => {
                self.write(stream, &body[..end])?;
                stream.finish()?;
                // So that what was sent arrives, even if more was received than read.
                stream.read(&mut [0]).map(drop)
            }
        }
    }

    fn endless(&self, stream: &mut impl Stream) -> io::Result<()> {
        loop {
            self.write(stream, &[b'x'; 4096])?;
        }
    }

    fn write(&self, stream: &mut impl Stream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)?;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a request, if there is one.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

fn from_memory(content: &Content, request: &Request, ranges: bool) -> Response {
    let Some((media_type, bytes)) = content.get(&request.path) else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec();
        return Response { head: "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n".to_owned(), body };
    };
    let from = request
        .header("range")
        .filter(|_| ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        Some(from) => {
            let (last, length) = (bytes.len() - 1, bytes.len());
            let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{last}/{length}\r\n");
            Response { head, body: bytes[from..].to_vec() }
        }
        None => Response { head: format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n"), body: bytes.clone() },
    }
}

/// Passes a request on, and returns the response without the fields about its length and connection.
fn from_upstream(address: SocketAddr, request: &Request, ranges: bool) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if name != "connection" && (ranges || name != "range") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&request.body)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(response[..end].to_vec()).expect("text");
    let is_kept = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("content-length:") && !line.starts_with("connection:")
    };
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let head: String = head.lines().filter(is_kept).map(|line| format!("{line}\r\n")).collect();
    Ok(Response { head, body: response[end + 4..].to_vec() })
}
