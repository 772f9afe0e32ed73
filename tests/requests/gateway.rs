//! Takes the requests of a case's client in HTTP/1 and asks the proxy in HTTP/2, so that the same cases can be played
//! that way.

use h2::client::SendRequest;
use http::{Request, Response};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};

pub async fn serve(mut client: DuplexStream, stream: TcpStream, address: SocketAddr) {
    let mut sender = greet(stream).await;
    let mut ahead = Vec::new();
    while let Ok(Some(head)) = head(&mut client, &mut ahead).await {
        let request = request(&head).expect("such cases are not played over HTTP/2");
        let is_head = request.method() == "HEAD";
        let answer = match ask(&mut sender, request).await {
            Ok(answer) => answer,
            Err(error) => {
                let stream = TcpStream::connect(address).await.expect("the proxy listens");
                sender = greet(stream).await;
                told(&error)
            }
        };
        if client.write_all(&written(answer, is_head)).await.is_err() {
            return;
        }
    }
}

async fn greet(stream: TcpStream) -> SendRequest<bytes::Bytes> {
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(async move {
        // How it ended is told to the requests.
        let _ = connection.await;
    });
    sender
}

/// The next request's head; `None` at the end.
async fn head(client: &mut DuplexStream, ahead: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = ahead.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = ahead.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head[..end]).into_owned()));
        }
        if client.read_buf(ahead).await? == 0 {
            return Ok(None);
        }
    }
}

/// The same request, if it is one of HTTP/2 too: a host and nothing else besides its first line.
pub fn request(head: &str) -> Option<Request<()>> {
    let (line, host) = head.split_once("\r\n")?;
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let (name, host) = host.split_once(": ")?;
    let is_plain = name.eq_ignore_ascii_case("host")
        && !host.contains("\r\n")
        && target.starts_with('/')
        && !target.contains('#')
        && method != "CONNECT";
    let uri = http::Uri::builder().scheme("http").authority(host).path_and_query(target);
    let request = Request::builder().method(method).uri(uri.build().ok()?).body(()).ok()?;
    // What the library would change is not what the case is about.
    let is_same = request.uri().path_and_query().is_some_and(|path| path.as_str() == target);
    (is_plain && is_same).then_some(request)
}

async fn ask(
    sender: &mut SendRequest<bytes::Bytes>,
    request: Request<()>,
) -> Result<Response<Vec<u8>>, h2::Error> {
    let mut ready = sender.clone().ready().await?;
    let (head, mut body) = ready.send_request(request, true)?.0.await?.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(Response::from_parts(head, whole))
}

/// What the library refuses it refuses without a word.
fn told(error: &h2::Error) -> Response<Vec<u8>> {
    let response = Response::builder().status(400).header("x-stream-error", error.to_string());
    response.body(Vec::new()).expect("a response")
}

fn written(answer: Response<Vec<u8>>, is_head: bool) -> Vec<u8> {
    let (head, body) = answer.into_parts();
    let mut out = format!("HTTP/1.1 {} X\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    if !head.headers.contains_key("content-length") && !is_head {
        out.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
    }
    [&out, &b"\r\n"[..], &body].concat()
}
