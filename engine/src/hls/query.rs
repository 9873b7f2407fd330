//! The query of a request for a playlist or a manifest: the directives in it, and what addresses are to carry.

/// Longest query that addresses carry. It stands in each of them, some sixty in a playlist, and every token makes a text of
/// its own; a signed token has its place in it.
const CARRIED_BYTES_MAX: usize = 2048;

/// A query, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// `_HLS_msn`: the answer is to have this segment.
    pub msn: Option<u64>,
    /// `_HLS_part`: or this part of it.
    pub part: Option<u32>,
    /// `_HLS_skip`: what is old may be left out.
    pub skip: bool,
    /// `format=ts`: by MPEG-TS.
    pub transport: bool,
    /// The rest, such that it can stand in a line and between double quotes.
    pub carried: String,
}

impl Query {
    /// Takes `query`, without its `?`, apart.
    ///
    /// # Errors
    /// Why it is answered 400.
    pub(crate) fn parse(query: &str) -> Result<Self, &'static str> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        let (mut transport, mut carried) = (false, String::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => set(&mut msn, number(value)?)?,
                "_HLS_part" => set(&mut part, number(value)?)?,
                "_HLS_skip" => set(&mut skip, matches!(value, "YES" | "v2"))?,
                // Chooses the container. It is about this request alone: what it is answered names what it chose.
                "format" => transport = value == "ts",
                // Reserved for directives; one that is not known is passed over. (RFC 8216bis, 6.2.5)
                _ if name.starts_with("_HLS_") => {}
                _ => carry(pair, &mut carried)?,
            }
        }
        if part.is_some() && msn.is_none() {
            return Err("_HLS_part says nothing without _HLS_msn");
        }
        let part = part.map(|part: u64| u32::try_from(part).map_err(|_| ABSURD)).transpose()?;
        Ok(Query { msn, part, skip: skip.unwrap_or(false), transport, carried })
    }
}

const ABSURD: &str = "a directive has a number that nothing here has";

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("a directive stands twice in the query"),
    }
}

/// A decimal-integer (RFC 8216bis, 4.2).
fn number(value: &str) -> Result<u64, &'static str> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a directive wants a number");
    }
    value.parse().map_err(|_| ABSURD)
}

/// Appends a parameter. What has no place in a query (RFC 3986, 3.4), but comes from clients all the same, is escaped.
fn carry(pair: &str, carried: &mut String) -> Result<(), &'static str> {
    if !carried.is_empty() {
        carried.push('&');
    }
    for byte in pair.bytes() {
        match byte {
            _ if byte.is_ascii_control() => return Err("the query has a control character"),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b' ' | b'#' | 0x80.. => {
                carried.push_str(&format!("%{byte:02X}"));
            }
            _ => carried.push(char::from(byte)),
        }
    }
    if carried.len() > CARRIED_BYTES_MAX {
        return Err("the query is too long for the addresses in a playlist");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(query: &str) -> Result<String, &'static str> {
        Query::parse(query).map(|query| query.carried)
    }

    #[test]
    fn directives_are_taken_out_and_the_rest_is_carried() {
        let query = Query::parse("token=a%20b&_HLS_msn=17&x&_HLS_part=3&&_HLS_skip=v2&y=1=2&").unwrap();
        let carried = "token=a%20b&x&y=1=2".to_owned();
        assert_eq!(query, Query { msn: Some(17), part: Some(3), skip: true, transport: false, carried });
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert_eq!(Query::parse("_HLS_skip=YES").map(|query| query.skip), Ok(true));
    }

    #[test]
    fn what_is_reserved_is_not_carried() {
        assert_eq!(carried("_HLS_primary_id=7&format=ts&_HLS_skip=maybe&token=a"), Ok("token=a".to_owned()));
        let transport = |query| Query::parse(query).map(|query| query.transport);
        assert_eq!([transport("format=ts"), transport("a=1&format=ts&b")], [Ok(true); 2]);
        assert_eq!([transport("format=fmp4"), transport("a=ts"), transport("format")], [Ok(false); 3]);
    }

    #[test]
    fn directives_that_say_nothing_sensible_are_refused() {
        for query in [
            "_HLS_part=0",
            "_HLS_msn=",
            "_HLS_msn",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=1.0",
            "_HLS_msn=0x10",
            "_HLS_msn=1 ",
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=1&_HLS_part=4294967296",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_msn=1&_HLS_part=0&_HLS_part=1",
            "_HLS_skip=YES&_HLS_skip=YES",
        ] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
        assert!(Query::parse("_HLS_msn=18446744073709551615&_HLS_part=4294967295").is_ok());
    }

    #[test]
    fn what_is_carried_can_stand_between_quotes_and_in_a_line() {
        assert_eq!(
            carried("a=\"<{x}>\\|^` \u{e9}#"),
            Ok("a=%22%3C%7Bx%7D%3E%5C%7C%5E%60%20%C3%A9%23".to_owned())
        );
        assert_eq!(carried("a=%22&b='$(;,)*!@:/?~"), Ok("a=%22&b='$(;,)*!@:/?~".to_owned()));
        for broken in ["a=\n", "a=b\r\n#EXT-X-ENDLIST", "\t=1", "a=\0", "a=\x7f"] {
            assert!(carried(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_query_that_no_address_could_carry_is_refused() {
        let long = |length: usize| "x".repeat(length);
        assert!(carried(&long(CARRIED_BYTES_MAX)).is_ok());
        assert!(carried(&long(CARRIED_BYTES_MAX + 1)).is_err());
        assert!(carried(&"\"".repeat(CARRIED_BYTES_MAX / 2)).is_err(), "as it is written");
    }
}
