//! A small HTTP/1.1 client that hides nothing: what is sent is what the test says, what came is what it sees.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use super::{Gateway, PATIENCE};

/// The header that every body needs.
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Response {
    /// The value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a good answer.
    #[track_caller]
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The body of a failure of this status and kind.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(
            (self.status, &problem["type"], &problem["status"]),
            (status, &Value::from(format!("/problems/{kind}")), &Value::from(status)),
            "{self:?}"
        );
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        problem
    }

    /// The text of a tool's good result.
    #[track_caller]
    pub(crate) fn said(&self) -> String {
        self.good()["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// A member of the receipt, as it was written, without its parameters.
    #[track_caller]
    pub(crate) fn receipt(&self, member: &str) -> &str {
        let receipt = self.header("spawnling-receipt").unwrap_or_else(|| panic!("no receipt: {self:?}"));
        let mut members = receipt.split(", ").filter_map(|entry| entry.split_once('='));
        let (_, value) =
            members.find(|(name, _)| *name == member).unwrap_or_else(|| panic!("no {member}: {receipt}"));
        value.split(';').next().unwrap_or_default()
    }
}

impl Gateway {
    /// Asks, on a connection of its own, and waits for the whole answer.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.begin(method, path, headers, body).response()
    }

    /// Asks, on a connection of its own, and does not wait.
    #[track_caller]
    pub(crate) fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Pending {
        let mut connection = Connection::to(self);
        connection.send(method, path, &[&[("Connection", "close")], headers].concat(), body);
        Pending(connection)
    }

    /// `GET`.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    /// `POST` of JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, &[JSON], body)
    }

    /// Calls a tool of the server `demo`.
    #[track_caller]
    pub(crate) fn tool(&self, tool: &str, arguments: &str) -> Response {
        self.post(&tool_path(tool), arguments)
    }

    /// Calls a tool of the server `demo`, and waits for its end and the receipt.
    #[track_caller]
    pub(crate) fn tool_to_its_end(&self, tool: &str, arguments: &str) -> Response {
        self.request("POST", &tool_path(tool), &[JSON, ("Spawnling-Wait", "end")], arguments)
    }

    /// Calls a tool of the server `demo`, and does not wait.
    #[track_caller]
    pub(crate) fn begin_tool(&self, tool: &str, arguments: &str) -> Pending {
        self.begin("POST", &tool_path(tool), &[JSON], arguments)
    }
}

fn tool_path(tool: &str) -> String {
    format!("/v1/servers/demo/tools/{tool}")
}

/// A request that was sent, its answer not yet read. Dropped, its caller has left.
pub(crate) struct Pending(Connection);

impl Pending {
    /// The whole answer, as soon as it is there.
    #[track_caller]
    pub(crate) fn response(mut self) -> Response {
        self.0.receive()
    }

    /// The caller leaves.
    pub(crate) fn hang_up(self) {
        drop(self);
    }

    /// Reads the head of the answer and the body up to and including this text.
    #[track_caller]
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let mut line = String::new();
            let length = self.0.stream.read_line(&mut line).expect("the answer goes on");
            assert!(length > 0, "the answer ended before {text:?}: {read}");
            read.push_str(&line);
        }
        read
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// A new one.
    #[track_caller]
    pub(crate) fn to(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address()).expect("it accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit above zero");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a whole request. `Host` and `Content-Length` are added; the latter only if there is a body or a `POST`.
    #[track_caller]
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str("Host: localhost\r\n");
        }
        if method == "POST" || !body.is_empty() {
            text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        self.write(format!("{text}\r\n{body}").as_bytes());
    }

    /// Sends these bytes as they are.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the gateway takes the request");
    }

    /// Exactly so many bytes, as they come.
    #[track_caller]
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        self.exactly(length).expect("as many bytes")
    }

    /// The next whole answer.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Response {
        self.try_receive().expect("an answer")
    }

    /// The next whole answer, if one comes.
    pub(crate) fn try_receive(&mut self) -> io::Result<Response> {
        let start = self.line()?;
        let status =
            start.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| broken(&start))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: String::new() };
        let length =
            response.header("content-length").map(|length| length.parse().map_err(|_| broken(length)));
        let bytes = match length.transpose()? {
            Some(length) => self.exactly(length)?,
            None if response.header("transfer-encoding") == Some("chunked") => self.chunks()?,
            None => Vec::new(),
        };
        response.body = String::from_utf8(bytes).map_err(|_| broken("not UTF-8"))?;
        Ok(response)
    }

    /// Everything until the gateway closes the connection, or resets it.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Sends these bytes as they are, if the gateway still takes them.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    #[track_caller]
    pub(crate) fn close_half(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("it is open");
    }

    /// Whether the gateway has closed it, all it sent being read.
    pub(crate) fn is_at_its_end(&mut self) -> bool {
        self.stream.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).map_err(|_| broken(&line))?;
            bytes.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(bytes);
            }
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(format!("broken answer: {what}"))
}

/// The events of a whole stream. Comments are left out; an event that is not one `event:` and one `data:` line fails
/// the test, as does white space where SSE would take it for a line's end.
#[track_caller]
pub(crate) fn events(body: &str) -> Vec<Event> {
    assert!(!body.contains('\r'), "a carriage return ends a line of an event: {body:?}");
    let blocks = body.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap_or_else(|| panic!("not two lines: {block:?}"));
        let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {block:?}"));
        let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("no name: {block:?}")).to_owned();
        assert!(!data.contains('\n'), "data of more than one line: {block:?}");
        Event { name, data: serde_json::from_str(data).unwrap_or(Value::Null) }
    };
    blocks.map(event).collect()
}
