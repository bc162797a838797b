//! One request over HTTP to a node of ours.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nexus_actor::path::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read: some ten thousand endpoints.
const ANSWER_MAX: u64 = 8 * 1024 * 1024;

/// `http://host:port`.
#[derive(Clone, Debug)]
pub(crate) struct HttpUrl(Authority);

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let authority = authority.and_then(|authority| authority.parse::<Authority>().ok());
        authority
            .map(Self)
            .ok_or_else(|| String::from("must be http://HOST:PORT, such as http://127.0.0.1:9100"))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// What is at `path` of `url`.
///
/// Version 1.0 is asked for, whose answers are never in chunks and end with their connection.
pub(crate) async fn get(url: &HttpUrl, path: &str) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect((url.0.host(), url.0.port())).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", url.0);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer
        .map_err(|_| anyhow!("no answer within {PATIENCE:?}"))
        .and_then(|answer| answer.map_err(anyhow::Error::from))
        .with_context(|| format!("{url} does not answer; is the node running with --http?"))?;
    body(answer).with_context(|| format!("{url}{path}"))
}

fn body(answer: Vec<u8>) -> anyhow::Result<String> {
    let answer = String::from_utf8(answer).map_err(|_| anyhow!("the answer is no text"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("the answer is not HTTP") };
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") if status.starts_with("HTTP/1.") => Ok(body.to_string()),
        _ => bail!("the answer is {}", status.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for text in ["http://127.0.0.1:9100", "http://127.0.0.1:9100/"] {
            assert_eq!(text.parse::<HttpUrl>().unwrap().to_string(), "http://127.0.0.1:9100");
        }
        for wrong in ["", "127.0.0.1:9100", "https://h:1", "http://", "http://h:1/metrics", "http://h:99999"]
        {
            assert!(wrong.parse::<HttpUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_whole_answer_with_200_has_a_body() {
        let answer = |text: &str| body(text.as_bytes().to_vec()).map_err(|error| error.to_string());
        assert_eq!(answer("HTTP/1.0 200 OK\r\na: b\r\n\r\n{}\n"), Ok("{}\n".into()));
        for wrong in
            ["", "SSH-2.0\r\n", "HTTP/1.0 404 Not Found\r\n\r\nx", "200 200 OK\r\n\r\nx", "HTTP/1.0\r\n\r\n"]
        {
            assert!(answer(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(answer("\x1b[2J no\r\n\r\n").unwrap_err(), "the answer is \\u{1b}[2J no");
    }
}
