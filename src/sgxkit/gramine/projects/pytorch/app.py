"""What runs in the enclave: an inference. Put your model here."""

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
with torch.no_grad():
    result = model(torch.ones(1, 16))
print("Hello from PyTorch", torch.__version__, tuple(result.shape))
