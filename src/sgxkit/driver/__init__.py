"""SGX through Linux: the kernel's device, and entry into the enclaves that it makes."""
