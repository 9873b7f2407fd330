//! What peers show in a field `Authorization`, as the query of a URL that says the same: every door asks by that.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A password (RFC 7617) or a token (RFC 6750, 2.1), which is the key. `None` for what is neither, or cannot be read.
///
/// ```
/// use shardcast_engine::access::credentials;
///
/// assert_eq!(credentials("Bearer s3cr=t").as_deref(), Some("key=s3cr%3Dt"));
/// assert_eq!(credentials("Basic dXNlcjpzZWM6cmV0Jg==").as_deref(), Some("user=user&key=sec%3Aret%26"));
/// assert_eq!(credentials("Basic user:secret"), None);
/// ```
pub fn credentials(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        let key = percent_encoded(rest.as_bytes());
        return (!key.is_empty()).then(|| format!("key={key}"));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest).ok()?;
    let split = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at(split);
    let password = password.split_first().map_or(&[][..], |(_, password)| password);
    Some(format!("user={}&key={}", percent_encoded(user), percent_encoded(password)))
}

/// RFC 3986, 2.1: whatever is not unreserved.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{percent_decoded, query_value},
        *,
    };

    #[test]
    fn what_is_no_credential_shows_nothing() {
        for bad in ["", "Bearer", "Bearer ", "Basic", "Basic !", "Basic dXNlcg==", "Digest dXNlcjpz", "token"]
        {
            assert_eq!(credentials(bad), None, "{bad}");
        }
        assert_eq!(credentials("  bEARER   a b ").as_deref(), Some("key=a%20b"));
        assert_eq!(credentials("basic Og==").as_deref(), Some("user=&key="));
    }

    proptest! {
        #[test]
        fn a_key_comes_out_as_it_was_shown(key in "[!-~]([ -~]{0,30}[!-~])?") {
            let token = credentials(&format!("Bearer {key}")).unwrap();
            prop_assert_eq!(percent_decoded(query_value(&token, "key").unwrap()), key.as_bytes());
            let password = credentials(&format!("Basic {}", STANDARD.encode(format!("me&:{key}")))).unwrap();
            prop_assert_eq!(percent_decoded(query_value(&password, "key").unwrap()), key.as_bytes());
            prop_assert_eq!(percent_decoded(query_value(&password, "user").unwrap()), b"me&");
        }
    }
}
