//! Every kind of problem that this gateway reports: name, status, and what its page says. Pure.
//!
//! One list makes the enum and its texts, so that no kind is without a page.

use http::StatusCode;

/// What is the same for all problems of one kind.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Facts {
    /// The last part of `type`.
    pub(in crate::http) name: &'static str,
    /// The status of the answer.
    pub(in crate::http) status: StatusCode,
    /// The short summary.
    pub(in crate::http) title: &'static str,
    /// What it means.
    pub(in crate::http) meaning: &'static str,
    /// What to do about it.
    pub(in crate::http) remedy: &'static str,
}

macro_rules! kinds {
    ($($kind:ident: $status:literal $name:literal $title:literal $meaning:literal $remedy:literal)*) => {
        /// The kinds of problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::http) enum Kind { $(#[doc = $title] $kind,)* }

        impl Kind {
            /// All of them.
            pub(in crate::http) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// What is known of it.
            pub(in crate::http) const fn facts(self) -> Facts {
                match self {
                    $(Self::$kind => Facts {
                        name: $name,
                        status: match StatusCode::from_u16($status) {
                            Ok(status) => status,
                            Err(_) => panic!("not a status"),
                        },
                        title: $title,
                        meaning: $meaning,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

kinds! {
    MalformedRequest: 400 "malformed-request" "The request is malformed"
        "The request is not what this route takes: its body is not JSON or has the wrong shape, a name occurs twice in one object, or a header or parameter has a value that cannot be read."
        "Correct the request as the detail says"
    Unauthenticated: 401 "unauthenticated" "A token is needed"
        "This gateway asks for a token, and the request has none, or one that is not known here."
        "Send a token that the gateway's configuration names (`[[tokens]]`): `Authorization: Bearer ...`, or `X-API-Key: ...`"
    Forbidden: 403 "forbidden" "Not allowed"
        "The `Host`, `Origin` or `Sec-Fetch-Site` header says that the request was sent by a foreign web page, or to a name that this gateway does not go by; or the token does not allow the server or the tool."
        "Address the gateway as localhost or 127.0.0.1, or let it go by the name that you use: `hosts = [\"name\"]` in spawnling.toml"
    UnknownRoute: 404 "unknown-route" "There is no such route"
        "Nothing is served under this path."
        "`GET /` lists what there is"
    UnknownServer: 404 "unknown-server" "There is no such server"
        "No server of this name is configured."
        "`GET /v1/servers` lists the configured servers"
    UnknownCall: 404 "unknown-call" "There is no such receipt"
        "No receipt of a call of this name is kept for you: there was no such call, it was somebody else's, or too many came after it."
        "Name the call as `Spawnling-Call-Id` did, soon after it; `receipts` in spawnling.toml says how many calls are remembered"
    UnknownTool: 404 "unknown-tool" "There is no such tool"
        "The server has no tool of this name."
        "`GET /v1/servers/{server}/tools` lists its tools; a `/` in a name is written `%2F`"
    UnknownResource: 404 "unknown-resource" "There is no such resource"
        "The server has no resource with this URI."
        "`GET /v1/servers/{server}/resources` and `/resource-templates` list what it has"
    UnknownPrompt: 404 "unknown-prompt" "There is no such prompt"
        "The server has no prompt of this name."
        "`GET /v1/servers/{server}/prompts` lists its prompts"
    NotOffered: 404 "not-offered" "The server does not offer this"
        "The server answered that it does not know this method (-32601): it lacks the capability."
        "`GET /v1/servers/{server}` shows the capabilities that it declares"
    MethodNotAllowed: 405 "method-not-allowed" "The method is not allowed here"
        "The path exists, but not for this method."
        "Use one of the methods in the `Allow` header"
    NotAcceptable: 406 "not-acceptable" "No acceptable kind of answer"
        "The `Accept` header allows none of the kinds of answers that this route can give."
        "Accept one of the kinds that the detail names, or leave the header out"
    BodyTimeout: 408 "body-timeout" "The body took too long"
        "The request's body did not arrive in time. Nothing was started."
        "Send the whole body at once, and try again"
    InputRequired: 409 "input-required" "The server asks for more input"
        "The server cannot answer before its own questions are answered. They are in `inputRequests`."
        "Send a step with `inputResponses` and this `requestState` to `POST /v1/servers/{server}/calls`"
    BodyTooLarge: 413 "body-too-large" "The body is too large"
        "The request's body is larger than this gateway allows. Nothing was started."
        "Send less, or raise `body_limit` of the gateway"
    UnsupportedMediaType: 415 "unsupported-media-type" "The body is not declared as plain JSON"
        "The body must be JSON, declared as such, and not compressed. The declaration also keeps foreign web pages from posting forms."
        "Add the header `Content-Type: application/json`, and leave `Content-Encoding` out"
    InvalidArguments: 422 "invalid-arguments" "The arguments do not fit"
        "The arguments break the input schema of the tool (`errors` says where), or the server itself refused them (-32602)."
        "Compare them with the schema in `GET /v1/servers/{server}/tools`"
    ToolError: 424 "tool-error" "The tool reported an error"
        "The tool ran and answered with `isError: true`. The whole answer is in `result`. The status is no 5xx because neither the gateway nor the server is at fault."
        "Read the tool's own words in `result`"
    StepFailed: 424 "step-failed" "A step failed"
        "One of several steps failed, and the steps after it were not asked. The outcomes so far are in `steps`, the last of them with its own problem."
        "Correct that step, or send `\"on_error\": \"continue\"` to go on after failed steps"
    CapabilityRequired: 424 "capability-required" "The server needs more of its client"
        "The server cannot go on without a client capability that this gateway does not have (-32021), such as sampling."
        "Use a tool that does without, or a client of its own for this server"
    QuotaExceeded: 429 "quota-exceeded" "Too many calls of yours"
        "As many calls are in as this token may have at once (`concurrent`), those that wait for a seat included. Nothing was started."
        "Wait for one of them to be answered, or for the time in `Retry-After`; `concurrent` of the `[[tokens]]` is what bounds them"
    CallerGone: 499 "caller-gone" "The caller left"
        "The caller closed the connection before the answer was known. Its call was ended."
        "Wait longer, or ask for less time with `Spawnling-Timeout`"
    Internal: 500 "internal-error" "Internal error"
        "Something happened that should not: this is a defect of the gateway."
        "Please report it with the call id and the gateway's log"
    UnknownTransferCoding: 501 "unknown-transfer-coding" "The transfer coding is not known"
        "The request's body comes in a transfer coding other than `chunked`, or in several. Nothing was started."
        "Send the body as it is: with `Content-Length`, or with `Transfer-Encoding: chunked` and nothing else in it"
    SpawnFailed: 502 "spawn-failed" "The server could not be started"
        "The server's program could not be started: it was not found, may not be executed, or the system refused a process."
        "Check the `command` of the server; `spawnling check` tries every server"
    OpenFailed: 502 "open-failed" "The server did not open"
        "The server's process was started, but the MCP handshake failed: it ended too early, spoke something else, or refused. Or it was asked without one, as it could be before, and takes that no more."
        "Read its last words in `stderr_tail`; `spawnling check` tries every server"
    ServerCrashed: 502 "server-crashed" "The server ended before it answered"
        "The server's process ended, or closed its stdout, before it had answered. `exit` says how it ended."
        "Read its last words in `stderr_tail`"
    ProtocolViolation: 502 "protocol-violation" "The server broke the protocol"
        "The server wrote something that the protocol does not allow and that cannot be skipped."
        "Check that the command starts an MCP server on stdio, and that it prints nothing else on stdout (`noise` shows what it did)"
    ServerError: 502 "server-error" "The server answered with an error"
        "The server answered with a JSON-RPC error; its `code`, and its `data` if there is some, are in the problem."
        "Look up the error in the server's own documentation"
    OutputTooLarge: 502 "output-too-large" "The server wrote too much"
        "One message of the server, or one of its lists, was larger than its configured limit."
        "Ask for less, or raise `limits.output` of the server"
    Overloaded: 503 "overloaded" "Too much at once"
        "As many processes as allowed are running, and the queue is full or the wait in it was too long; or bodies and answers that are on their way take up all the memory that they may (`in_flight`). Nothing was started."
        "Try again after the time in `Retry-After`, or raise `limits.concurrent` or `limits.queue` of the server, and `concurrent` of the gateway where that is less than its servers need together"
    ShuttingDown: 503 "shutting-down" "The gateway is stopping"
        "The gateway is being stopped. Calls that were still running after its grace time were ended."
        "Try again once it has been started anew"
    DeadlineExceeded: 504 "deadline-exceeded" "Time ran out"
        "The call was not done within its time. `phase` says where it was; its process was ended."
        "In phase `call`, allow it more time (`deadline` of the server caps what `Spawnling-Timeout` may ask for), or ask for less at once; in `open`, raise `open_deadline`, or check that the command is an MCP server on stdio; in `queue`, raise `limits.concurrent`"
}

impl Kind {
    /// The kind that goes by this name.
    pub(in crate::http) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.facts().name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_name() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::named(kind.facts().name), Some(kind));
        }
        assert_eq!(Kind::named("no-such-problem"), None);
    }

    #[test]
    fn a_problem_is_never_a_success_and_its_remedy_is_one_sentence_without_its_full_stop() {
        for kind in Kind::ALL {
            let facts = kind.facts();
            assert!(facts.status.is_client_error() || facts.status.is_server_error(), "{kind:?}");
            assert!(facts.meaning.ends_with('.'), "{kind:?}");
            assert!(!facts.remedy.ends_with('.'), "{kind:?}");
            assert!(facts.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
    }
}
