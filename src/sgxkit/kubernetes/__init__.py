"""SGX on Kubernetes: device plugin, node agent, webhook, preflight, a view of the cluster (docs/kubernetes.md)."""
