//! What a server says of itself: the sums of its metrics, read by one short HTTP exchange.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use crate::url::Url;

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// More than any page of metrics has.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// Every metric, summed over its labels, without the buckets of histograms. Empty when the server does not answer.
pub fn scrape(url: &str) -> BTreeMap<String, f64> {
    fetch(url).map(|page| sums(&page)).unwrap_or_default()
}

fn fetch(url: &str) -> Option<String> {
    let Url { address, path, .. } = Url::parse(url)?;
    let socket = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&socket, ANSWER_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page).ok()?;
    Some(String::from_utf8_lossy(&page).into_owned())
}

fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    // A response's head, and the sizes of chunks, have no line of this shape.
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")) {
        let Some((name, value)) = line.trim_end().rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        if name.contains([' ', ':']) {
            continue;
        }
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_their_labels_and_buckets_are_left_out() {
        let page = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n# HELP a_total x 3\na_total{shard=\"0\"} 3\n\
                    a_total{shard=\"1\"} 4\nb 1.5\nc_bucket{le=\"1\"} 9\nc_count 9\n";
        let sums = sums(page);
        assert_eq!(sums["a_total"], 7.0);
        assert_eq!(sums["b"], 1.5);
        assert_eq!(sums["c_count"], 9.0);
        assert_eq!(sums.len(), 3, "{sums:?}");
    }
}
