//! What a peer says about its addresses after the offer: candidates, which a server that has one address need not know, and that it
//! begins anew. (RFC 8840; RFC 9725, 4.3)

use super::peer::Peer;
use crate::session::signal::{Fault, Reply};

/// Takes a fragment of a description. The tag must be that of the present credentials, and may be any where the peer begins anew.
pub fn take(peer: &mut Peer, tag: Option<&str>, fragment: &str) -> Reply {
    let Some(tag) = tag else {
        return Reply::refused(Fault::Untagged, "it has to say If-Match, with the tag that it was given");
    };
    // Whoever holds several asks for any of them. (RFC 9110, 13.1.1)
    if !tag.split(',').any(|tag| tag == "*" || tag == peer.tag()) {
        return Reply::refused(Fault::Outdated, "the tag is not that of the present credentials");
    }
    let found = |name: &str| {
        fragment
            .lines()
            .find_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
    };
    let (user, password) = (found("ice-ufrag"), found("ice-pwd"));
    let (Some(user), Some(password)) = (user, password) else {
        let any = fragment.lines().any(|line| line.starts_with("a="));
        return if any && user.is_none() && password.is_none() {
            Reply::Trickled { tag: peer.tag().to_owned(), fragment: None }
        } else {
            Reply::refused(Fault::Malformed, "no fragment of a session description")
        };
    };
    if peer.is_known(user) {
        return Reply::Trickled { tag: peer.tag().to_owned(), fragment: None };
    }
    if !is_credential(user, 4) || !is_credential(password, 22) {
        return Reply::refused(Fault::Malformed, "credentials that are none");
    }
    let answer = peer.restart(user, password);
    Reply::Trickled { tag: peer.tag().to_owned(), fragment: Some(answer) }
}

/// Letters, digits, plus and slash. (RFC 8839, 5.4)
fn is_credential(text: &str, least: usize) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (least..=256).contains(&text.len()) && text.bytes().all(legal)
}
