"""Whether a device plugin, anybody's, keeps what the kubelet and its users rely on."""
