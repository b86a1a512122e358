//! `https://` addresses: refused with advice by a build without TLS, loaded like any other by a build with it.

use crate::lab::{Engine, Lab};

const FLAGS: [&str; 8] = [
    "--model",
    "m",
    "--num-prompts",
    "12",
    "--max-concurrency",
    "3",
    "--random-output-len",
    "5",
];

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_it_says_how_to_get_it() {
    let lab = Lab::new();
    let engine = Engine::start(&[]);
    let url = engine.url().replace("http://", "https://");
    let mut command = vec!["bench", "--url", &url, "--out", "out"];
    command.extend(FLAGS);
    let ended = lab.run(&command);
    ended.assert_exit(64);
    for words in [url.as_str(), "--features tls"] {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    assert_eq!(engine.stats()["requests"], 0);
}

#[cfg(feature = "tls")]
mod with {
    use std::{io, path::PathBuf, sync::Arc};

    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        },
    };
    use tokio_util::task::TaskTracker;

    use super::*;

    fn data(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/tls")
            .join(name)
    }

    /// An engine's port behind one that speaks TLS, with a certificate of an authority of our own; gives that port.
    fn secured(engine: &Engine) -> u16 {
        secured_at(engine, "127.0.0.1")
    }

    /// The same at this address of the loopback.
    fn secured_at(engine: &Engine, address: &str) -> u16 {
        let chain = CertificateDer::pem_file_iter(data("server.pem")).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(data("server.key")).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let plain = engine.url().replace("http://", "");
        let listener = std::net::TcpListener::bind((address, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                let tasks = TaskTracker::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, plain) = (acceptor.clone(), plain.clone());
                    tasks.spawn(async move {
                        let mut outside = acceptor.accept(stream).await?;
                        let mut inside = TcpStream::connect(plain).await?;
                        copy_bidirectional(&mut outside, &mut inside).await?;
                        Ok::<_, io::Error>(())
                    });
                }
            });
        });
        port
    }

    #[test]
    fn a_load_by_tls_is_a_load() {
        let lab = Lab::new();
        let engine = Engine::start(&["--latency-ms", "10", "--gap-ms", "2"]);
        let url = format!("https://localhost:{}", secured(&engine));
        let ca = data("ca.pem").display().to_string();
        // the model is asked for, too
        let mut command = vec!["bench", "--url", &url, "--ca-file", &ca, "--out", "out"];
        command.extend(&FLAGS[2..]);
        command.push("--allow-invalid");
        let ended = lab.run(&command);
        ended.assert_exit(0);
        let text = std::fs::read(lab.path().join("out/results.json")).expect("results");
        let results: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(
            (&results["successes"], &results["errors"]),
            (&12.into(), &0.into())
        );
        assert_eq!(results["metrics"]["output_sequence_length"]["avg"], 5.0);
        assert_eq!(results["target"]["urls"][0], url);
        assert_eq!(results["target"]["model"], "scripted");
        // what the kernel knows of is not what is read then
        assert_eq!(results["generator"]["kernel_stamped_share"], 0.0);
        // a connection for each user, and what it takes to agree on a key is told
        assert!(
            results["metrics"]["http_req_connecting"]["count"]
                .as_u64()
                .is_some_and(|n| n <= 3)
        );
        assert_eq!(
            results["metrics"]["http_req_tls_handshaking"]["count"],
            results["metrics"]["http_req_connecting"]["count"]
        );
    }

    #[test]
    fn a_server_of_an_unknown_authority_is_not_loaded() {
        let lab = Lab::new();
        let engine = Engine::start(&[]);
        let port = secured(&engine);
        let wrong = lab.file("wrong.pem", "no certificate");
        let wrong = wrong.display().to_string();
        let ca = data("ca.pem").display().to_string();
        let url = format!("https://localhost:{port}");
        // somebody listens there, and the certificate is for localhost and 127.0.0.1 alone
        let other = secured_at(&engine, "127.0.0.2");
        let other = format!("https://127.0.0.2:{other}");
        let plain = format!("https://{}", engine.url().replace("http://", ""));
        // an authority that did not sign it
        let stranger = data("server.pem").display().to_string();
        let cases: [(&str, &str, i32, &str); 4] = [
            (&url, &wrong, 64, "holds no certificate"),
            (&url, &stranger, 69, "UnknownIssuer"),
            (&other, &ca, 69, "not valid for name"),
            (&plain, &ca, 69, "connect"),
        ];
        for (url, ca, exit, words) in cases {
            let mut command = vec!["bench", "--url", url, "--ca-file", ca, "--out", "out"];
            command.extend(FLAGS);
            let ended = lab.run(&command);
            ended.assert_exit(exit);
            assert!(ended.stderr.contains(words), "{url}: {}", ended.stderr);
        }
        assert_eq!(engine.stats()["requests"], 0);
    }
}
