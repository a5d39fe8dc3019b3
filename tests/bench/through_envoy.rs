//! What ext_authz adds to a request through a real Envoy: the sidecar against the no-logic server behind the same Envoy.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::baseline;
use crate::load::{self, Plan};
use crate::machine::{self, Process};
use crate::median;
use crate::message::{MAX_TOKENS, MODEL};
use crate::sidecar::Sidecar;

const ROUNDS: usize = 7;
const ACCOUNTS: usize = 100;
const RATE: u64 = 1_000;

pub fn measure() {
    let envoy = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/envoy");
    if !envoy.exists() {
        println!("\nthrough Envoy: not measured; tests/run installs one");
        return;
    }
    machine::pin_self(1);
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let sidecar = Sidecar::start("0", folder.path(), ACCOUNTS);
    let baseline_address = machine::free_address();
    let baseline = baseline::start(&baseline_address);
    let ports = machine::free_addresses();
    let config = folder.path().join("envoy.yaml");
    std::fs::write(&config, configuration(&ports, &baseline_address, &sidecar.address)).expect("a writable folder");
    let command = [envoy.display().to_string(), "-c".to_owned(), config.display().to_string()];
    let options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"].map(str::to_owned);
    let _envoy = Process::start("0", &[&command[..], &options[..]].concat(), &ports[0]);
    let mut p50: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (port, figures) in ports.iter().zip(&mut p50) {
            figures.push(p50_us(port, &sidecar.keys));
        }
    }
    drop(baseline);
    report(&p50);
}

fn p50_us(target: &str, keys: &[String]) -> f64 {
    let keys: Vec<String> = keys.to_vec();
    let plan = Plan {
        target: target.to_owned(),
        path: "/v1/chat/completions",
        headers: vec![
            ("content-type", "application/json".to_owned()),
            ("x-tollgate-model", MODEL.to_owned()),
            ("x-tollgate-max-tokens", MAX_TOKENS.to_string()),
        ],
        connections: 1,
        rate: RATE,
        warmup: Duration::from_millis(500),
        duration: Duration::from_secs(2),
        body: Box::new(|_| Bytes::from_static(b"{}")),
        varying: Box::new(move |number| {
            Some(("authorization", format!("Bearer {}", keys[number as usize % keys.len()])))
        }),
        is_right: |status, _| status == 200,
    };
    let seen = load::run(plan);
    assert!(seen.wrong == 0, "{} of {} answers through Envoy were not 200", seen.wrong, seen.answered);
    seen.quantile_us(0.5)
}

fn report(p50: &[Vec<f64>; 3]) {
    let [plain, baseline, tollgate] = p50;
    let added = |mine: &[f64]| median(mine.iter().zip(plain).map(|(with, without)| with - without).collect());
    let ratios = tollgate.iter().zip(baseline).zip(plain).map(|((t, b), p)| (t - p) / (b - p));
    println!("\nthrough Envoy, {RATE} requests/s: p50 without a filter {:.0} us", median(plain.clone()));
    println!("added by the no-logic server {:.0} us, by tollgate {:.0} us", added(baseline), added(tollgate));
    println!("ratio {:.2}x (median of {ROUNDS} rounds)", median(ratios.collect()));
}

fn configuration(ports: &[String; 3], baseline: &str, sidecar: &str) -> String {
    let [plain, with_baseline, with_sidecar] = ports;
    let listeners = [
        listener("plain", plain, None),
        listener("baseline", with_baseline, Some("baseline")),
        listener("sidecar", with_sidecar, Some("sidecar")),
    ];
    let clusters = [cluster("baseline", baseline), cluster("sidecar", sidecar)];
    format!("static_resources:\n  listeners:\n{}  clusters:\n{}", listeners.concat(), clusters.concat())
}

fn listener(name: &str, address: &str, authz: Option<&str>) -> String {
    let (host, port) = address.split_once(':').expect("host:port");
    let filter = authz.map_or(String::new(), |cluster| {
        format!(
            r#"
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service: {{envoy_grpc: {{cluster_name: {cluster}}}, timeout: 1s}}"#
        )
    });
    format!(
        r#"  - name: {name}
    address: {{socket_address: {{address: {host}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: AUTO
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                direct_response: {{status: 200, body: {{inline_string: "ok"}}}}
          http_filters:{filter}
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
    )
}

fn cluster(name: &str, address: &str) -> String {
    let (host, port) = address.split_once(':').expect("host:port");
    format!(
        r#"  - name: {name}
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}
"#
    )
}
