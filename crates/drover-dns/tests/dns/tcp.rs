//! DNS over TCP: pipelining, transfers refused, and the bounds on connections and patience.

use std::net::SocketAddr;
use std::time::Duration;

use drover_dns::server::Limits;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType as QueryType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{GUARD, query, record_sets, serve, serve_with};

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

async fn read_message(stream: &mut TcpStream) -> Message {
    let read = async {
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        Message::from_vec(&bytes).unwrap()
    };
    timeout(GUARD, read).await.expect("an answer")
}

/// The server closed the connection without another byte.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(GUARD, stream.read(&mut byte)).await.expect("the end"), Ok(0) | Err(_))
}

async fn connect(server: SocketAddr) -> TcpStream {
    TcpStream::connect(server).await.unwrap()
}

#[tokio::test]
async fn pipelined_queries_are_all_answered_in_whatever_pieces_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    served.publish_all(record_sets());
    let queries: Vec<Message> = (0..100)
        .map(|index| query("app.example.test.", QueryType::A, (index % 2 == 0).then_some(1232)))
        .collect();
    let stream_bytes: Vec<u8> = queries.iter().flat_map(framed).collect();
    for piece in [stream_bytes.len(), 7, 1] {
        let mut stream = connect(served.dns()).await;
        stream.set_nodelay(true).unwrap();
        for part in stream_bytes.chunks(piece) {
            stream.write_all(part).await.unwrap();
        }
        for asked in &queries {
            let answer = read_message(&mut stream).await;
            assert_eq!(answer.metadata.id, asked.metadata.id, "in order, in pieces of {piece}");
            assert_eq!(answer.answers.len(), 1);
        }
    }
    served.end().await;
}

#[tokio::test]
async fn transfers_are_refused_and_rubbish_ends_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path()).await;
    let mut stream = connect(served.dns()).await;
    stream.write_all(&framed(&query("example.test.", QueryType::AXFR, None))).await.unwrap();
    let answer = read_message(&mut stream).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert!(answer.answers.is_empty() && !answer.metadata.authoritative, "{answer}");
    stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
    assert!(is_closed(&mut stream).await);
    served.end().await;
}

#[tokio::test]
async fn silent_and_surplus_connections_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        tcp_connections_max: 2,
        tcp_first_query_timeout: Duration::from_millis(200),
        tcp_idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let served = serve_with(directory.path(), limits).await;
    served.publish_all(record_sets());
    let (mut silent, mut idle) = (connect(served.dns()).await, connect(served.dns()).await);
    idle.write_all(&framed(&query("app.example.test.", QueryType::A, None))).await.unwrap();
    read_message(&mut idle).await;
    let mut surplus = connect(served.dns()).await;
    assert!(is_closed(&mut surplus).await, "both places are taken");
    assert_eq!(served.running.counters.tcp_connections_refused(), 1);
    assert!(is_closed(&mut silent).await, "no first query");
    assert!(is_closed(&mut idle).await, "no further query");
    // Their places are free again; the server's side may take a moment longer than ours to see the end.
    let again = async {
        loop {
            let mut stream = connect(served.dns()).await;
            let sent = stream.write_all(&framed(&query("app.example.test.", QueryType::A, None))).await;
            let mut length = [0; 2];
            if sent.is_ok() && stream.read_exact(&mut length).await.is_ok() {
                return;
            }
        }
    };
    timeout(GUARD, again).await.expect("a place");
    served.end().await;
}
