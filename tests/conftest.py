"""One thread for each test process: they run side by side, and small tensors gain nothing."""

import torch

torch.set_num_threads(1)
