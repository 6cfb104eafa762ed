//! No network: a namespace of its own, with nothing in it but a loopback; where that cannot be had, no sockets.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use nix::sched::CloneFlags;

use super::{Means, namespaces, syscalls};

/// Leaves the network.
pub(super) fn leave() -> Means {
    if namespaces::enter(CloneFlags::CLONE_NEWNET).is_err() {
        syscalls::refuse_sockets()?;
        return Ok("a filter on socket(2): Unix sockets only".to_owned());
    }
    let loopback = if raise_loopback().is_ok() { "with a loopback of its own" } else { "without a loopback" };
    Ok(format!("a network namespace, {loopback}"))
}

/// Switches on the interface `lo`, which is down in a new namespace: servers that talk to themselves need it.
///
/// One `RTM_NEWLINK` (`rtnetlink(7)`, `netlink(7)`): a header of 16 bytes, an `ifinfomsg` of 16, no attributes.
fn raise_loopback() -> rustix::io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const IFF_UP: u32 = 1;
    /// The loopback is the first interface of every namespace.
    const LOOPBACK: i32 = 1;

    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence, sender
    message.extend([0; 4]); // family, padding, type
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // the flags,
    message.extend(IFF_UP.to_ne_bytes()); // and which of them are meant

    let kernel = SocketAddrNetlink::new(0, 0);
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &message, SendFlags::empty(), &kernel)?;
    let mut answer = [0_u8; 64];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    // An acknowledgement is an error of number 0.
    if length >= 20 && kind == Some(NLMSG_ERROR) && answer[16..20] == [0; 4] {
        return Ok(());
    }
    Err(rustix::io::Errno::PERM)
}
