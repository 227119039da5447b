import hypothesis
import torch

# Two processes that share the cores would otherwise spend their time waiting for each other's threads.
torch.set_num_threads(1)

# The same examples in every run: a test that fails today fails tomorrow.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
