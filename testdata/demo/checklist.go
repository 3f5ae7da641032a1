package main

const checklist = `apiVersion: airlock/v1
kind: Checklist
product: demo
phases:
  - {id: p1, number: 1, title: Pre-requisites}
inputs:
  hosts.server: {type: hostname}
  tls.cert_file: {type: path}
  tls.key_file: {type: path}
  tls.ca_file: {type: path}
  registry.host: {type: string}
items:
  - id: choose-hostnames
    phase: p1
    title: Choose host names
    kind: check
    inputs: [hosts.server]
    probes:
      - {id: syntax, run: host.syntax, with: {server: "${in.hosts.server}"}, codes: [HOST-01]}
    messages:
      HOST-01: {cause: "{{.name}} is not a host name", fix: "write it in lower case without scheme or port"}
`
