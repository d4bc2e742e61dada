"""The emulated processor: SGX in software, on any machine. It protects nothing: whoever runs it reads everything."""
