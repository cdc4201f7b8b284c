//! What is owed to a client that leaves and to a node that says nothing.

use super::*;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A client with its broker's end, and a node with its.
async fn ends() -> (UnixStream, UnixStream, TcpStream, TcpStream) {
    let (client, door) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, door, dialled, listener.accept().await.unwrap().0)
}

fn reason(ended: Ended) -> String {
    match ended {
        Ended::Cut(reason) => reason,
        Ended::Done => "in good order".into(),
    }
}

#[tokio::test]
async fn a_stream_to_a_silent_node_ends_with_its_client() {
    let (mut client, door, dialled, mut node) = ends().await;
    let traffic = Traffic::default();
    let leave = async move {
        client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
        node.read_exact(&mut [0; 16]).await.unwrap();
        drop(client);
        // The node keeps its side open, and says nothing.
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = timeout(FAREWELL * 4, tcp(door, Bytes::new(), dialled, &traffic)) => ended,
        () = leave => unreachable!("it is pending"),
    };
    let reason = reason(ended.expect("a silent node must not hold the stream"));
    assert!(reason.contains("said nothing for"), "{reason}");
}

#[tokio::test]
async fn a_node_that_closes_without_a_word_is_to_blame() {
    for speaks in [false, true] {
        let (mut client, door, dialled, mut node) = ends().await;
        let traffic = Traffic::default();
        let talk = async move {
            client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
            node.read_exact(&mut [0; 16]).await.unwrap();
            if speaks {
                node.write_all(b"SSH-2.0-node\r\n").await.unwrap();
            }
            drop(node);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard.len()
        };
        let (ended, heard) = tokio::join!(tcp(door, Bytes::new(), dialled, &traffic), talk);
        assert_eq!((reason(ended).contains("MaxStartups"), heard > 0), (!speaks, speaks));
    }
}
