"""A machine without a GPU for scripts that name one: ``cuda`` is the CPU."""

import sys


class _PatchOnSoloImport:
    def find_spec(self, name, path=None, target=None):
        if name == "solo":
            sys.meta_path.remove(self)
            import torch

            def to_cpu(original):
                def to(self, *args, **kwargs):
                    args = tuple("cpu" if str(a).startswith("cuda") else a for a in args)
                    return original(self, *args, **kwargs)

                return to

            torch.Tensor.cuda = lambda self, *args, **kwargs: self
            torch.Tensor.to = to_cpu(torch.Tensor.to)
            torch.nn.Module.to = to_cpu(torch.nn.Module.to)


sys.meta_path.insert(0, _PatchOnSoloImport())
