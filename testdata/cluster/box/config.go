package main

import "fmt"

// cniPrograms is where Debian keeps the plugins of containernetworking.
const cniPrograms = "/usr/lib/cni"

// hosts lets every registry be served by 127.0.0.1:5000, over plain HTTP. The
// mirror gets ?ns=REGISTRY with each request.
const hosts = `[host."http://127.0.0.1:5000"]
  capabilities = ["pull", "resolve"]
`

// cni is the pods' network.
const cni = `{"cniVersion":"0.4.0","name":"box","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
`

// containerd is the runtime's configuration, for containerd 1.6.
// restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower the score,
// and says so as "can't get final child's PID from pipe".
func (s *setup) containerd() string {
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  max_container_log_line_size = 16384
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, socket, pause, cniPrograms, s.in("cni"), s.certs())
}

// kubelet is the kubelet's configuration. cgroup v1 is deprecated, so it must
// be asked for, with groups of our own; the machine's disk, memory and swap are
// not this node's to judge.
func (s *setup) kubelet() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
containerRuntimeEndpoint: unix://%s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: ""
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
`, s.Cgroup, socket)
}

// proxy is kube-proxy's configuration. nf_conntrack_max cannot be written in a
// network namespace, so nothing is to be set.
func (s *setup) proxy() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: %s}
clusterCIDR: 10.244.0.0/16
hostnameOverride: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, s.kubeconfig(), nodeName)
}
