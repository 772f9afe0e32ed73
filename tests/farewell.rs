//! The admin API of a process from which another has taken over: who is connected already is answered here.

mod support;

use crossfade::{admin, spec::AdminAddress};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// The head of an answer.
async fn head(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = async {
        while !answer.ends_with(b"ok\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it was closed");
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_last_request_is_answered() {
    let backend = Backend::named("v1").await;
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])).await;
    let socket = admin::bind(&AdminAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let AdminAddress::Tcp(address) = socket.address().unwrap() else { unreachable!() };
    let (live, handle) = (proxy.live.clone(), proxy.handle.clone());
    let log = admin::Audit::open(None, None).unwrap();
    let (end, ended) = oneshot::channel();
    let end_of_it = async { ended.await.unwrap() };
    let served = tokio::spawn(admin::serve(live, handle, None, None, log, socket, end_of_it));
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(!head(&mut stream).await.contains("connection: close"));
        streams.push(stream);
    }
    end.send(admin::Farewell { patience: PATIENCE, is_succeeded: true }).unwrap();
    // On the way when the end comes.
    for stream in &mut streams {
        stream.try_write(REQUEST).unwrap();
    }
    for stream in &mut streams {
        assert!(head(stream).await.contains("connection: close"));
        assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
    served.await.unwrap().unwrap();
}
