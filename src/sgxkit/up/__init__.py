"""`sgxkit up`: from a diagnosis to a verified quote, on hardware or on an emulated platform."""
