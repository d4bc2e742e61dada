"""Stand-ins for what tests cannot have: Intel's authority, SGX platforms."""
