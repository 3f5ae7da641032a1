package main

// checklist is the demo's own: a product that is not Spacelift.
const checklist = `apiVersion: airlock/v1
kind: Checklist
product: demo
phases:
  - {id: p1, number: 1, title: Pre-requisites}
  - {id: p3, number: 3, title: Infrastructure}
  - {id: p4, number: 4, title: Deploy}
inputs:
  hosts.server: {type: hostname}
  tls.cert_file: {type: path}
  tls.key_file: {type: path}
  tls.ca_file: {type: path}
  registry.host: {type: string}
items:
  - id: verify-vendor
    phase: p1
    title: Vendor's checksums and signature, checked again
    kind: check
    probes:
      - {id: chain, run: vendor.chain, with: {fingerprint: FINGERPRINT}, codes: [ARC-01, ARC-02, ARC-03, ARC-04]}
    messages:
      ARC-01: {cause: "checksum differs", fix: "ask for a new bundle"}
      ARC-02: {cause: "signed by another key", fix: "ask the vendor which key signs"}
      ARC-03: {cause: "part of the vendor's archive is missing", fix: "ask for a new bundle"}
      ARC-04: {cause: "an image is not the vendor's", fix: "ask for a new bundle"}
  - id: choose-hostnames
    phase: p1
    title: Host names
    kind: check
    inputs: [hosts.server]
    probes:
      - {id: syntax, run: host.syntax, with: {hosts: {server: "${in.hosts.server}"}, required: [server]}, codes: [HOST-01, HOST-02, HOST-03, HOST-04, HOST-05]}
    messages:
      HOST-01: {cause: "not a host name", fix: "lower case, no scheme, no port"}
      HOST-02: {cause: "a host name is missing", fix: "fill it in"}
      HOST-03: {cause: "the port is reserved", fix: "use another port"}
      HOST-04: {cause: "two host names are equal", fix: "use different ones"}
      HOST-05: {cause: "an unusual host name", fix: "browsers and authorities may refuse it"}
  - id: prepare-tls
    phase: p1
    title: TLS certificate
    kind: check
    needs: [choose-hostnames]
    inputs: [tls.cert_file, tls.key_file, tls.ca_file, hosts.server]
    probes:
      - {id: files, run: x509.files, with: {cert: "${in.tls.cert_file}", key: "${in.tls.key_file}", ca: "${in.tls.ca_file}", hosts: ["${in.hosts.server}"]}, codes: [TLS-01, TLS-02, TLS-03, TLS-04, TLS-06, TLS-07, TLS-08]}
    messages:
      TLS-01: {cause: "key does not match certificate", fix: "give the key of this certificate"}
      TLS-02: {cause: "the certificate is for another host", fix: "have it reissued"}
      TLS-03: {cause: "unknown authority", fix: "append the intermediate"}
      TLS-04: {cause: "expired or about to", fix: "have it renewed"}
      TLS-06: {cause: "chain out of order", fix: "leaf first"}
      TLS-07: {cause: "weak key or signature", fix: "have it reissued"}
      TLS-08: {cause: "a file is not what it should be", fix: "give PEM files"}
  - id: registry-reachable
    phase: p3
    title: Registry answers
    kind: check
    inputs: [registry.host]
    probes:
      - {id: dial, run: tcp.dial, with: {endpoint: "${in.registry.host}"}, codes: [NET-01, NET-02]}
    messages:
      NET-02: {cause: "no registry is given", fix: "fill in registry.host"}
      NET-01: {cause: "cannot reach the registry", fix: "check the network"}
  - id: push-images
    phase: p3
    title: Images in the registry, by digest
    kind: action
    needs: [verify-vendor, registry-reachable]
    outputs: {relocation.map: {type: map}, mirror.refs: {type: list}}
    steps:
      - {id: mirror, run: mirror, codes: [REG-01, REG-02, REG-04, REG-07, MIR-01]}
    probes:
      - {id: by-digest, run: registry.manifest, with: {refs: "${out.mirror.refs}", blobs: true}, codes: [REG-01, REG-02, REG-04, REG-06, REG-07]}
    messages:
      REG-01: {cause: "the registry refuses", fix: "log in"}
      REG-02: {cause: "the repository is not there", fix: "create it"}
      REG-04: {cause: "unknown certificate authority", fix: "give the CA"}
      REG-06: {cause: "the tag is lost or moved", fix: "run this item again"}
      REG-07: {cause: "the registry cannot be reached", fix: "check the network"}
      MIR-01: {cause: "an image is not in the bundle", fix: "ask for a new bundle"}
  - id: render-chart
    phase: p4
    title: Chart rendered with images from the registry
    kind: action
    needs: [push-images, prepare-tls]
    steps:
      - {id: render, run: chart.render, with: {chart: demo, namespace: demo, map: "${out.relocation.map}"}, codes: [REN-01, REN-02, REN-03]}
    messages:
      REN-01: {cause: "an image is not in the registry", fix: "add it to the bundle"}
      REN-02: {cause: "the values do not fit the chart", fix: "correct them"}
      REN-03: {cause: "the chart is not in the bundle", fix: "ask for a new bundle"}
`
