//! Nothing is left, however a call ended.

use crate::support::{Gateway, demo};

#[test]
fn a_good_call_is_answered_and_leaves_nothing() {
    let gateway = Gateway::start(&demo(&[]));
    assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
    gateway.stop();
}
