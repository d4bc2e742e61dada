"""Labs: an emulated platform with everything that Intel operates around a real one. It protects nothing."""
