"""Makes solo-learn's own randomness a function of the epoch, so that a resumed run can be exact.

solo-learn saves no generator: even a baseline of its own does not resume bit for bit. With this
on the path its sampler seeds every generator at the start of each epoch, and what a test then
compares is SP's part. hydra finds it as it finds SP.
"""

import random
import sys

from hydra.plugins.search_path_plugin import SearchPathPlugin


class Reseed(SearchPathPlugin):
    def manipulate_search_path(self, search_path):
        import numpy as np
        import torch
        from torch.utils.data import DataLoader, Sampler

        class ByEpoch(Sampler):
            def __init__(self, size):
                self.size, self.epoch = size, 0

            def set_epoch(self, epoch):  # Lightning calls it
                self.epoch = epoch

            def __len__(self):
                return self.size

            def __iter__(self):
                torch.manual_seed(self.epoch), random.seed(self.epoch)
                np.random.seed(self.epoch)  # noqa: NPY002
                return iter(torch.randperm(self.size).tolist())

        def prepare_dataloader(dataset, batch_size, num_workers):
            sampler = ByEpoch(len(dataset))
            return DataLoader(dataset, batch_size, sampler=sampler, drop_last=True)

        sys.modules["__main__"].prepare_dataloader = prepare_dataloader
