//! Bytes that nobody should send, to every port: the sidecar stays up, and nothing changes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tollgate::transport::proto::tollgate as api;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

use crate::harness::sidecar::{ask, channel, payer};
use crate::harness::{Request, Sidecar};

/// Pseudo-random bytes; the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// What strangers send.
fn messages() -> Vec<Vec<u8>> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut all = vec![
        b"\0".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET /".to_vec(), vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(10_000), b"\r\n".to_vec()].concat(),
        b"POST /tollgate.v1.Admission/Admit HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        preface.clone(),
        [preface.clone(), vec![0xff; 10_000]].concat(),
        [preface.clone(), b"\0\0\0\x04\0\0\0\0\0".repeat(20_000)].concat(),
        // A settings frame of 16 MB that never comes.
        [preface.clone(), b"\xff\xff\xff\x04\0\0\0\0\0".to_vec()].concat(),
    ];
    all.extend((1..40).map(|seed| noise(seed, 1 + usize::try_from(seed).expect("small") * 97)));
    all.extend((40..60).map(|seed| [preface.clone(), b"\0\0\0\x04\0\0\0\0\0".to_vec(), noise(seed, 3_000)].concat()));
    all
}

/// Sends and reads whatever comes back, for a moment; being thrown out is fine.
async fn send(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, message: &[u8]) {
    let talk = async {
        stream.write_all(message).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await
    };
    drop(timeout(Duration::from_millis(300), talk).await);
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let mut sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let before = sidecar.look_up("acme").await;
    for message in messages() {
        for port in [sidecar.check_port, sidecar.accounts_port, sidecar.http_port] {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it still listens");
            send(stream, &message).await;
        }
        let stream = UnixStream::connect(sidecar.socket()).await.expect("it still listens");
        send(stream, &message).await;
    }
    assert_eq!(sidecar.program.ended(), None, "it stays up");
    assert_eq!(sidecar.look_up("acme").await, before, "nothing changed");
    let answer = sidecar.admission().await.admit(ask("acme", "r1", 100)).await.unwrap().into_inner();
    assert!(matches!(answer.result, Some(api::admit_response::Result::Admitted(_))), "{answer:?}");
    let error_log = sidecar.program.stderr();
    assert!(!error_log.contains("panicked"), "{error_log}");
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_starve_others() {
    let sidecar = Sidecar::start().await;
    sidecar.account("acme", payer(), "10").await;
    let mut idle = Vec::new();
    for port in [sidecar.check_port, sidecar.accounts_port, sidecar.http_port] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"P").await.unwrap();
            idle.push(stream);
        }
    }
    assert_eq!(Request::get("/readyz").send(sidecar.http_port).await.status, 200);
    let answer = sidecar.admission().await.admit(ask("acme", "r1", 100)).await.unwrap().into_inner();
    assert!(matches!(answer.result, Some(api::admit_response::Result::Admitted(_))), "{answer:?}");
    drop(idle);
}

#[tokio::test]
async fn health_answers_on_both_ports() {
    let sidecar = Sidecar::start().await;
    for (port, services) in [
        (sidecar.check_port, ["", "tollgate.v1.Admission", "envoy.service.auth.v3.Authorization"].as_slice()),
        (sidecar.accounts_port, ["", "tollgate.v1.Accounts"].as_slice()),
    ] {
        let mut health = HealthClient::new(channel(port).await);
        for service in services {
            let request = HealthCheckRequest { service: (*service).to_owned() };
            let status = health.check(request).await.unwrap_or_else(|status| panic!("{service}: {status}"));
            assert_eq!(status.into_inner().status(), ServingStatus::Serving, "{service}");
        }
        let unknown = HealthCheckRequest { service: "nobody".into() };
        assert_eq!(health.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    }
}

#[tokio::test]
async fn reflection_tells_the_services() {
    let sidecar = Sidecar::start().await;
    for (port, service) in
        [(sidecar.check_port, "tollgate.v1.Admission"), (sidecar.accounts_port, "tollgate.v1.Accounts")]
    {
        let mut client = ServerReflectionClient::new(channel(port).await);
        let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(service.to_owned())),
        ];
        let mut answers =
            client.server_reflection_info(tokio_stream::iter(questions)).await.expect("reflection").into_inner();
        let listed = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = listed else { panic!("{listed:?}") };
        assert!(list.service.iter().any(|found| found.name == service), "{list:?}");
        let file = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
    }
}
